"""The application: the endpoints behind the gate, and the OpenAPI document of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from retrainer import __version__
from retrainer.api import changing, looking, operating
from retrainer.api.failures import add_handlers
from retrainer.api.gate import ALWAYS_OPEN, Gate
from retrainer.api.jobs import Jobs
from retrainer.api.kept import Kept
from retrainer.api.monitoring import Monitoring, Watch
from retrainer.api.service import Service

if TYPE_CHECKING:
    from retrainer.api.access import Access
    from retrainer.api.work import Work
    from retrainer.project import Project

DESCRIPTION = """Keep a prediction model fresh: train, evaluate honestly, promote safely, roll back.

Times are UTC. Whatever fails is answered as `{"error": {"code", "message", "hint"}}`."""


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that says what the gate asks for."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            _describe_access(document, self.state.service.access)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(project: Project, access: Access, work: Work) -> FastAPI:
    """Make the application for one project.

    There are no pages that show the OpenAPI document: they would run code of another site, which could call this.
    """
    monitoring = Monitoring(project, work)
    app = Application(
        title="retrainer",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Watch, monitoring=monitoring), Middleware(Gate, access=access)],
    )
    app.state.service = Service(project, access, work, Jobs(project), Kept(project), monitoring)
    add_handlers(app)
    for module in (looking, changing, operating):
        app.include_router(module.router)
    return app


def _describe_access(document: dict[str, Any], access: Access) -> None:
    """Say which operations ask for the token."""
    if access.token is None:
        return
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path not in ALWAYS_OPEN and (method == "post" or access.protect_reads):
                operation["security"] = [{"token": []}]
