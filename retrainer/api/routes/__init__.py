"""The endpoints of the REST API."""
