"""The FastAPI application and its OpenAPI document."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import Response

from retrainer import __version__
from retrainer.api.dependencies import AppState
from retrainer.api.errors import add_error_handlers
from retrainer.api.metrics import Metrics, MetricsMiddleware
from retrainer.api.middleware import PUBLIC_PATHS, AccessMiddleware, HeadersMiddleware
from retrainer.api.project_metrics import ProjectMetrics
from retrainer.api.routes import ab_tests, health, live, read, streams, write
from retrainer.api.routes.read import PAID_PREFIXES
from retrainer.render.documents.base import documents_by_name
from retrainer.serving.caches import ResponseCache, VersionCache
from retrainer.serving.runs import RunStarter
from retrainer.serving.streams import Streams
from retrainer.web.background import Background
from retrainer.web.forecasts import Forecasts
from retrainer.web.routes import ROUTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.serving.auth import Auth
    from retrainer.serving.threads import Threads

OPENAPI_PATH = "/openapi.json"
DESCRIPTION = """Keep prediction models up to date: train, compare, promote, roll back.

Times are UTC. Every error has the form `{"error": {"code", "message", "hint"}}`."""


class Application(FastAPI):
    """FastAPI with an OpenAPI document that shows examples and says which operations need the token."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            _add_examples(schema)
            _describe_access(schema, self.state.site.auth)
            self.openapi_schema = schema
        return self.openapi_schema

    @cached_property
    def openapi_body(self) -> bytes:
        """The OpenAPI document as JSON, which takes long to serialize."""
        return json.dumps(self.openapi(), ensure_ascii=False, separators=(",", ":")).encode()


def create_app(project: Project, runtime: Runtime, auth: Auth, threads: Threads) -> FastAPI:
    """Create the application for one project: the REST API and the pages.

    The pages that FastAPI has for the OpenAPI document load scripts from another site, which could call the API.
    """
    metrics = Metrics(threads)
    app = Application(
        title="retrainer",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=None,  # see `_openapi`
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # by which generated clients call an operation
        middleware=[
            Middleware(HeadersMiddleware),
            Middleware(MetricsMiddleware, metrics=metrics),
            Middleware(AccessMiddleware, auth=auth),
        ],
    )
    background = Background()
    app.state.site = AppState(
        project=project,
        runtime=runtime,
        auth=auth,
        streams=Streams(project),
        threads=threads,
        runs=RunStarter(project, runtime),
        responses=ResponseCache(project.registry.across(None)),
        versions=VersionCache(project, runtime),
        forecasts=Forecasts(runtime, background),
        background=background,
        metrics=metrics,
        project_metrics=ProjectMetrics(project),
    )
    app.add_route(OPENAPI_PATH, _openapi, include_in_schema=False)
    add_error_handlers(app)
    for module in (read, write, live, ab_tests, streams, health):
        app.include_router(module.router)
    app.router.routes.extend(ROUTES)
    return app


async def _openapi(request: Request) -> Response:
    body: bytes = request.app.openapi_body
    return Response(body, media_type="application/json")


def _add_examples(schema: dict[str, Any]) -> None:
    """Add an example of each JSON document; FastAPI would drop the nulls of examples in the models."""
    documents = documents_by_name()
    for name, component in schema["components"]["schemas"].items():
        if name in documents:
            component["examples"] = [documents[name].example()]


def _describe_access(schema: dict[str, Any], auth: Auth) -> None:
    """Say which operations need the token, always or for paid forecasts, and which are refused to web pages."""
    if auth.token is not None:
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            security = _security(path, method, auth)
            if security:
                operation["security"] = security
            else:
                del operation["responses"]["401"]
            if path in PUBLIC_PATHS:
                del operation["responses"]["403"]


def _security(path: str, method: str, auth: Auth) -> list[dict[str, list[str]]]:
    if auth.token is None or path in PUBLIC_PATHS:
        return []
    token: dict[str, list[str]] = {"token": []}
    if method == "post" or auth.protect_reads:
        return [token]
    return [{}, token] if path.startswith(PAID_PREFIXES) else []
