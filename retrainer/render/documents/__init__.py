"""The JSON documents of `--json`, the REST API and the events: each is one pydantic model, with its example.

The names of the models are those of the OpenAPI document, by which generated clients call them.
"""
