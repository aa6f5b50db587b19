"""The response that carries a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from retrainer.render.documents.base import Document


class DocumentResponse(Response):
    """Sends a document as the command line prints it, but on one line. FastAPI does not validate it again."""

    media_type = "application/json"

    def render(self, content: Document | bytes) -> bytes:
        """Return the body: of a document, or one that `document_body` made."""
        return content if isinstance(content, bytes) else document_body(content)


def document_body(document: Document) -> bytes:
    """Serialize a document."""
    return document.model_dump_json().encode()
