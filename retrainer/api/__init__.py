"""The REST API: the functions of the command line over HTTP, with the same documents and errors."""
