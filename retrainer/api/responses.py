"""The response that carries a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from retrainer.render.documents.base import Document


class DocumentResponse(JSONResponse):
    """Serializes a document as the command line does, but on one line. FastAPI does not validate it again."""

    def render(self, content: Document) -> bytes:
        """Return the body."""
        return super().render(content.model_dump(mode="json"))
