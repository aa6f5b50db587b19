"""The application: the endpoints behind the gate, and the OpenAPI document of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from retrainer import __version__
from retrainer.api.cache import Kept
from retrainer.api.dependencies import Service
from retrainer.api.errors import add_handlers
from retrainer.api.metrics import MetricsMiddleware, Monitoring
from retrainer.api.middleware import PUBLIC_PATHS, AccessMiddleware
from retrainer.api.routes import health, read, write
from retrainer.api.routes.read import MAY_COST
from retrainer.api.runs import Jobs
from retrainer.render.documents.base import documents_by_name

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

    from retrainer.api.auth import Auth
    from retrainer.api.threads import Work
    from retrainer.project import Project
    from retrainer.runtime import Runtime

DESCRIPTION = """Keep a prediction model fresh: train, evaluate honestly, promote safely, roll back.

Times are UTC. Whatever fails is answered as `{"error": {"code", "message", "hint"}}`."""


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that says what the gate asks for."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            _add_examples(document)
            _describe_access(document, self.state.service.access)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(project: Project, runtime: Runtime, access: Auth, work: Work) -> FastAPI:
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
        generate_unique_id_function=_operation_id,
        middleware=[Middleware(MetricsMiddleware, monitoring=monitoring), Middleware(AccessMiddleware, access=access)],
    )
    app.state.service = Service(
        project, runtime, access, work, Jobs(project, runtime), Kept(project, runtime), monitoring
    )
    add_handlers(app)
    for module in (read, write, health):
        app.include_router(module.router)
    return app


def _operation_id(route: APIRoute) -> str:
    """Return the name by which generated clients call an operation."""
    return route.name


def _add_examples(document: dict[str, Any]) -> None:
    """Add an example of each JSON document. FastAPI would drop the nulls in them."""
    models = documents_by_name()
    for name, schema in document["components"]["schemas"].items():
        if name in models:
            schema["examples"] = [models[name].example()]


def _describe_access(document: dict[str, Any], access: Auth) -> None:
    """Say which operations ask for the token, always or where forecasts cost money, and whom a web page is refused."""
    if access.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asked = _security(path, method, access)
            if asked:
                operation["security"] = asked
            else:
                del operation["responses"]["401"]
            if access.token is not None:
                del operation["responses"]["403"]


def _security(path: str, method: str, access: Auth) -> list[dict[str, list[str]]]:
    if access.token is None or path in PUBLIC_PATHS:
        return []
    token: dict[str, list[str]] = {"token": []}
    if method == "post" or access.protect_reads:
        return [token]
    return [{}, token] if path.startswith(MAY_COST) else []
