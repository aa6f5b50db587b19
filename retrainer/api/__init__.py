"""The REST API: the calls of the command line over HTTP, with the same documents and the same errors."""
