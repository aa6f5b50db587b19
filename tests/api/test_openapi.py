"""The OpenAPI document: what the server does is what it says, tried with thousands of requests, right and wrong."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from retrainer.api import schemas
from retrainer.api.gate import ALWAYS_OPEN
from tests.api.conftest import TOKEN, WITH_TOKEN
from tests.conftest import open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, Server

PROTECTED = {"RETRAINER_API_TOKEN": TOKEN}
SEED = "20240601"

# Half of the ids are those that there are, of one type, since two types cannot be compared; the rest is made up.
CONFIG = """
[dictionaries]
versions = {{ values = {versions} }}
runs = {{ values = {runs} }}

[parameters]
"path.version_id" = {{ dictionary = "versions", probability = 0.5 }}
"path.version_a" = {{ dictionary = "versions", probability = 0.5 }}
"path.version_b" = {{ dictionary = "versions", probability = 0.5 }}
"path.run_id" = {{ dictionary = "runs", probability = 0.5 }}
"""


def schemathesis(server: Server, folder: Path, *arguments: str) -> str:
    """Run schemathesis over the document of a server; return what it says."""
    project = open_project(folder)
    config = folder / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            versions=[version.version_id for version in project.registry.versions("timing")],
            runs=[run.run_id for run in project.registry.runs()],
        )
    )
    project.close()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{server.url}/openapi.json", "--checks", "all", "--mode", "all", "--seed", SEED, "--no-color"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_schemathesis_finds_nothing_where_no_token_is_set(
    two_versions: tuple[str, str], serve: Serve, folder: Path
) -> None:
    server = serve()
    said = schemathesis(server, folder, "--max-examples", "10")
    assert "14 passed" in said
    assert not any(" 500 " in line for line in server.lines)


def test_schemathesis_finds_nothing_with_the_token(two_versions: tuple[str, str], serve: Serve, folder: Path) -> None:
    server = serve("--protect-reads", env=PROTECTED)
    header = f"Authorization: {WITH_TOKEN['Authorization']}"
    said = schemathesis(server, folder, "--max-examples", "5", "--phases", "coverage,fuzzing", "--header", header)
    assert "14 passed" in said


def test_schemathesis_finds_nothing_without_the_token(
    two_versions: tuple[str, str], serve: Serve, folder: Path
) -> None:
    server = serve(env=PROTECTED)
    before = server.get("/models/production").json()
    schemathesis(server, folder, "--phases", "coverage")
    assert server.get("/models/production").json() == before
    assert server.get("/models/training-history").json()["total"] == 3, "no run was started"


MODELS = [
    model
    for _, model in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(model, BaseModel) and model is not BaseModel and "examples" in model.model_json_schema()
]


@pytest.mark.parametrize("model", MODELS)
def test_the_examples_are_what_they_are_examples_of(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    for example in schema["examples"]:
        jsonschema_rs.validate(schema, example)
        required = set(schema.get("required", ()))
        assert required <= set(example) <= set(schema["properties"])


def test_every_operation_has_an_example_of_its_answer_and_its_body(bad_input_server: Server) -> None:
    document = bad_input_server.get("/openapi.json").json()

    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        if "anyOf" in schema:
            schema = schema["anyOf"][0]
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
        return found

    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for body in bodies:
                schema = resolved(body.get("content", {}).get("application/json", {}).get("schema", {}))
                fields = schema.get("properties", {})
                assert not fields or "examples" in schema or all("examples" in field for field in fields.values()), path


def test_every_field_is_described(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    old, new = two_versions
    history = server.get("/models/training-history").json()
    documents: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (schemas.Version, server.get("/models/versions").json()["versions"][0]),
        (schemas.History, history),
        (schemas.Run, history["training_runs"][0]),
        (schemas.Decision, history["changes"][0]),
        (schemas.NextTiming, server.get("/models/predict/timing").json()),
        (schemas.NextContent, server.get("/models/predict/content").json()),
        (schemas.VersionLife, server.get(f"/models/versions/{new}").json()),
        (schemas.Comparison, server.get(f"/models/compare/{old}/{new}").json()),
    ]
    for model, document in documents:
        assert document.keys() <= model.model_fields.keys(), model


@pytest.mark.parametrize("protect_reads", [False, True])
def test_the_document_says_which_operations_ask_for_the_token(protect_reads: bool, serve: Serve, folder: Path) -> None:
    server = serve(*(["--protect-reads"] if protect_reads else []), env=PROTECTED)
    document = server.get("/openapi.json", headers=WITH_TOKEN).json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asks = path not in ALWAYS_OPEN and (method == "post" or protect_reads)
            assert ("security" in operation) is asks, path
            answer = server.request(method.upper(), path)
            assert (answer.status_code == 401) is asks, path


def test_without_a_token_the_document_asks_for_none(trained: str, serve: Serve) -> None:
    document = serve().get("/openapi.json").json()
    assert "securitySchemes" not in document.get("components", {})
    assert not any("security" in operation for path in document["paths"].values() for operation in path.values())


def test_no_page_is_served_that_would_run_the_code_of_another_site(bad_input_server: Server) -> None:
    for path in ("/docs", "/redoc", "/"):
        assert bad_input_server.get(path).status_code == 404


def test_posts_may_come_later(folder: Path, serve: Serve) -> None:
    server = serve()
    only = {"model_type": "timing"}
    first = server.post("/models/retrain", json=only).json()["run_ids"]["timing"]
    assert server.ended(first)["status"] == "failed"
    project = open_project(folder)
    project.posts.add(regular_posts(120), regular_posts(120)["created_at"].iloc[-1].to_pydatetime())
    second = server.post("/models/retrain", json=only).json()["run_ids"]["timing"]
    assert server.ended(second)["status"] == "completed"
