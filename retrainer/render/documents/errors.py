"""The document of an error."""

from pydantic import Field

from retrainer.render.documents.base import Document


class ErrorText(Document):
    """What went wrong, and what to do."""

    code: str = Field(examples=["unknown_name"])
    message: str = Field(examples=["unknown version 'prophet_timing_20251106_120000_a3f2'"])
    hint: str = Field(examples=["`retrainer versions` lists them"])


class Failure(Document):
    """The answer to a request that failed."""

    error: ErrorText
