"""The OpenAPI document describes the server, as thousands of valid and invalid requests confirm."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from retrainer.api.middleware import PUBLIC_PATHS
from retrainer.api.routes.read import PAID_PREFIXES
from retrainer.render.documents.base import documents_by_name
from tests.api.conftest import PATIENCE, TOKEN, WITH_TOKEN
from tests.conftest import open_project, regular_posts
from tests.shared import requirements

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, ServeProcess, Server

PROTECTED = {"RETRAINER_API_TOKEN": TOKEN}
SEED = "20240601"

# Half of the ids are those that there are, of one type, since two types cannot be compared; the rest is made up.
CONFIG = """
[dictionaries]
versions = {{ values = {versions} }}
runs = {{ values = {runs} }}
streams = {{ values = ["default"] }}

[parameters]
"path.version_id" = {{ dictionary = "versions", probability = 0.5 }}
"path.version_a" = {{ dictionary = "versions", probability = 0.5 }}
"path.version_b" = {{ dictionary = "versions", probability = 0.5 }}
"path.run_id" = {{ dictionary = "runs", probability = 0.5 }}
"query.stream" = {{ dictionary = "streams", probability = 0.5 }}

# Some times are refused, in the future or the past, which no schema can say.
[[operations]]
include-name = "GET /models/predict/timing"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "409", "422"]

[[operations]]
include-name = "GET /models/predict/content"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "409", "422"]

# A version may be of the other model type, or its name of several versions.
[[operations]]
include-name = "POST /models/ab-tests/{{model_type}}/start"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "409", "422"]

# Some options are for all streams only.
[[operations]]
include-name = "POST /models/retrain"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "404", "409", "422"]
"""


def schemathesis(server: Server, folder: Path, *arguments: str, timeout: float = 300) -> str:
    """Run schemathesis over the document of a server; return what it says."""
    project = open_project(folder)
    config = folder / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            versions=[version.version_id for version in project.registry.list_versions("timing")],
            runs=[run.run_id for run in project.registry.list_runs()],
        )
    )
    project.close()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{server.url}/openapi.json", "--checks", "all", "--mode", "all", "--seed", SEED, "--no-color"]
    command += ["--request-timeout", str(PATIENCE)]
    command += arguments
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "examples", [pytest.param(5, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.soak)]
)
def test_schemathesis_finds_nothing_if_no_token_is_set(
    examples: int, two_versions: tuple[str, str], serve_process: ServeProcess, folder: Path
) -> None:
    server = serve_process()
    said = schemathesis(server, folder, "--max-examples", str(examples), timeout=300 * examples)
    assert "22 passed" in said
    assert not any(" 500 " in line for line in server.lines)


# The phase `coverage` finds bad values, which are the same with a token: the test above has them.
FUZZING = pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--phases", "fuzzing", "--max-examples", "3"], id="3", marks=pytest.mark.slow),
        pytest.param(["--phases", "coverage,fuzzing", "--max-examples", "50"], id="50", marks=pytest.mark.soak),
    ],
)


@FUZZING
def test_schemathesis_finds_nothing_with_the_token(
    arguments: list[str], two_versions: tuple[str, str], serve: Serve, folder: Path
) -> None:
    server = serve(protect_reads=True, env=PROTECTED)
    header = f"Authorization: {WITH_TOKEN['Authorization']}"
    said = schemathesis(server, folder, *arguments, "--header", header, timeout=3000)
    assert "22 passed" in said


@FUZZING
def test_schemathesis_finds_nothing_without_the_token(
    arguments: list[str], two_versions: tuple[str, str], serve: Serve, folder: Path
) -> None:
    server = serve(env=PROTECTED)
    before = server.get("/models/production").json()
    schemathesis(server, folder, *arguments, timeout=3000)
    assert server.get("/models/production").json() == before
    assert server.get("/models/training-history").json()["total"] == 3, "no run was started"


def served(server: Server, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = server.get("/openapi.json", **options).json()
    return document


def schema_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one schema of the document, in which its references to the others can be followed."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """Forbid, at every depth, fields that the document does not describe."""
    found = copy.deepcopy(document)
    for schema in found["components"]["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return found


def test_the_examples_are_valid(bad_input_server: Server) -> None:
    document = closed(served(bad_input_server))
    examples = {
        name: example
        for name, schema in document["components"]["schemas"].items()
        for example in schema.get("examples", ())
    }
    assert {"Run", "History", "Production", "Versions", "VersionLife", "Comparison"} <= set(examples)
    assert not [name for name in document["components"]["schemas"] if "__" in name], "no two have the same name"
    models = documents_by_name()
    for name, example in examples.items():
        jsonschema_rs.validate(schema_of(document, name), example)
        if name in models:
            assert example == models[name].example(), "nothing is lost on the way"


def test_every_operation_has_examples(bad_input_server: Server) -> None:
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


def test_every_field_of_every_answer_is_described(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    old, new = two_versions
    content = server.get("/models/production").json()["content_model"]
    server.post(f"/models/promote/{new}")
    document = closed(served(server))
    for path, name in {
        "/models/production": "Production",
        "/models/versions": "Versions",
        "/models/training-history": "History",
        "/models/predict/timing": "NextTiming",
        "/models/predict/content": "NextContent",
        f"/models/versions/{new}": "VersionLife",
        f"/models/versions/{content['version_id']}": "VersionLife",
        f"/models/compare/{old}/{new}": "Comparison",
    }.items():
        jsonschema_rs.validate(schema_of(document, name), server.get(path).json())


def test_an_evaluation_has_the_required_fields(two_versions: tuple[str, str], serve: Serve) -> None:
    text = requirements().partition("### ModelEvaluation Table")[2].partition("\n---")[0]
    fields = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) - {"model_version_id"}  # it is called version_id
    assert "overall_score" in fields
    server = serve()
    (evaluation,) = server.get(f"/models/versions/{two_versions[1]}").json()["evaluations"]
    assert fields <= evaluation.keys() | evaluation["metrics"].keys()
    described = served(server)["components"]["schemas"]
    assert fields <= described["ModelEvaluation"]["properties"].keys() | described["Metrics"]["properties"].keys()


def test_every_object_but_hyperparameters_is_typed(bad_input_server: Server) -> None:
    untyped = [
        (name, field)
        for name, schema in served(bad_input_server)["components"]["schemas"].items()
        for field, of_field in schema.get("properties", {}).items()
        if '"additionalProperties": true' in json.dumps(of_field)
    ]
    assert untyped == [(name, "hyperparameters") for name in ("Version", "VersionLife")]


def test_operation_ids_are_the_names_for_generated_clients(bad_input_server: Server) -> None:
    names = [
        operation["operationId"]
        for operations in served(bad_input_server)["paths"].values()
        for operation in operations.values()
    ]
    assert sorted(names) == [
        "ab_test",
        "compare",
        "decide_ab_test",
        "live",
        "live_scores",
        "metrics",
        "predict_content",
        "predict_timing",
        "production",
        "promote",
        "ready",
        "retrain",
        "rollback",
        "run",
        "start_ab_test",
        "status",
        "stop_ab_test",
        "streams",
        "training_history",
        "update_live_scores",
        "version",
        "versions",
    ]


def test_the_body_of_a_change_is_one_optional_object(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    for path, operations in served(server)["paths"].items():
        if "post" in operations and "requestBody" in operations["post"]:
            body = operations["post"]["requestBody"]
            assert body.get("required", False) is path.endswith("/start"), "a test needs a challenger"
            assert set(body["content"]["application/json"]["schema"]) == {"$ref"}
    for number, json_body in enumerate(["", "{}", "null", " null\n"]):
        answer = server.post(
            f"/models/promote/{two_versions[1 - number % 2]}",
            content=json_body,
            headers={"Content-Type": "application/json"} if json_body else {},
        )
        if "null" not in json_body:
            assert answer.json()["changed"] is True
        else:
            assert answer.status_code == 422
            assert answer.json()["error"]["message"] == "body: not one JSON object"


@pytest.mark.parametrize("protect_reads", [False, True])
def test_openapi_says_which_operations_need_the_token(protect_reads: bool, serve: Serve, folder: Path) -> None:
    server = serve(protect_reads=protect_reads, env=PROTECTED)
    document = served(server, headers=WITH_TOKEN)
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asks = path not in PUBLIC_PATHS and (method == "post" or protect_reads)
            may_ask = path.startswith(PAID_PREFIXES) and not asks
            wanted: list[dict[str, Any]] | None = [{"token": []}] if asks else [{}, {"token": []}] if may_ask else None
            assert operation.get("security") == wanted, path
            assert ("401" in operation["responses"]) is (asks or may_ask), path
            assert ("403" in operation["responses"]) is (path not in PUBLIC_PATHS), path
            answer = server.request(method.upper(), path)
            assert (answer.status_code == 401) is asks, path


def test_openapi_needs_no_token_if_none_is_set(trained: str, serve: Serve) -> None:
    document = served(serve())
    assert "securitySchemes" not in document.get("components", {})
    paths = document["paths"].items()
    operations = [operation for _, operations in paths for operation in operations.values()]
    assert not any("security" in operation or "401" in operation["responses"] for operation in operations)
    for path, operations_of_path in paths:
        assert all(("403" in one["responses"]) is (path not in PUBLIC_PATHS) for one in operations_of_path.values())


def test_no_page_with_scripts_of_another_site_is_served(bad_input_server: Server) -> None:
    for path in ("/docs", "/"):
        scripts = re.findall(r"<script[^>]*src=\"([^\"]*)", bad_input_server.get(path).text)
        assert scripts
        assert all(address.startswith("/") and not address.startswith("//") for address in scripts), path
    assert bad_input_server.get("/redoc").status_code == 404


@pytest.mark.slow
def test_posts_imported_while_serving_are_used(folder: Path, serve: Serve) -> None:
    server = serve()
    only = {"model_type": "timing"}
    first = server.post("/models/retrain", json=only).json()["run_ids"]["timing"]
    assert server.ended(first)["status"] == "failed"
    project = open_project(folder)
    project.posts.add(regular_posts(120), regular_posts(120)["created_at"].iloc[-1].to_pydatetime())
    second = server.post("/models/retrain", json=only).json()["run_ids"]["timing"]
    assert server.ended(second)["status"] == "completed"
