"""MkDocs hook: generate the references of commands, REST API and layers from the code.

A line `<!-- generated: NAME -->` of a page is replaced by what the function of that name in GENERATORS returns.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from retrainer.api.app import create_app
from retrainer.cli.app import app
from retrainer.notify import open_runtime
from retrainer.project import Project, create_project
from retrainer.serving.auth import Auth
from retrainer.serving.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Schema = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
HELP_WIDTH = 88
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page."""
    return MARKER.sub(lambda marker: GENERATORS[marker[1]](), markdown)


def global_options() -> str:
    """Return the help of `retrainer` itself."""
    return _help(_root_context())


def commands() -> str:
    """Return the help of every command, under the headings of `retrainer --help`."""
    panels: dict[str, list[str]] = {}
    for context, panel in _command_contexts():
        name = context.command_path.removeprefix("retrainer ")
        panels.setdefault(panel, []).append(f"### {name}\n\n{_help(context)}")
    return _paragraphs(f"## {panel}\n\n{_paragraphs(*sections)}" for panel, sections in panels.items())


def layers() -> str:
    """Return the layers of the import contract, top to bottom, with the first lines of their docstrings."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (each for each in pyproject["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    rows = [
        (str(number), f"`{module}`", _summary(module))
        for number, layer in enumerate(contract["layers"], start=1)
        for module in re.split(r" [|:] ", layer)
    ]
    return _table(("layer", "module", "purpose"), rows)


def _summary(module: str) -> str:
    """Return the first line of a module's docstring."""
    path = ROOT / module.replace(".", "/")
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _root_context() -> typer.Context:
    return typer.Context(typer.main.get_command(app), info_name="retrainer", max_content_width=HELP_WIDTH)


def _command_contexts() -> Iterator[tuple[typer.Context, str]]:
    """Yield a context for every command that is not hidden, and the heading above it or its group."""
    groups: list[tuple[Any, str]] = [(_root_context(), "")]
    for parent, panel in groups:
        for name, listed in parent.command.commands.items():
            _, command, _ = parent.command.resolve_command(parent, [name])  # loads a command that is only listed
            context = typer.Context(command, info_name=name, parent=parent, max_content_width=HELP_WIDTH)
            if hasattr(command, "commands"):
                groups.append((context, listed.rich_help_panel))
            if not command.hidden and getattr(command, "invoke_without_command", True):  # else a mere group
                yield context, panel or listed.rich_help_panel


def _help(context: typer.Context) -> str:
    return f"```text\n{context.command.get_help(context).rstrip()}\n```"


def rest_operations() -> str:
    """Return every operation of the REST API, with its parameters and answers."""
    document = _openapi()
    return _paragraphs(
        _operation(method, path, operation, document)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )


def rest_errors() -> str:
    """Return the status codes of errors and their reasons."""
    reasons = {
        status: answer["description"]
        for operations in _openapi()["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if not status.startswith("2")
    }
    return _table(("status", "reason"), sorted(reasons.items()))


def rest_documents() -> str:
    """Return every JSON document that the REST API sends or takes, with an example where the schema has one."""
    return _paragraphs(_document(name, schema) for name, schema in _openapi()["components"]["schemas"].items())


@cache
def _openapi() -> Schema:
    """Return the OpenAPI document of a server that asks for a token. No server is started."""
    with tempfile.TemporaryDirectory() as name:
        create_project(Path(name))
        project = Project.find(Path(name), {})
        try:
            with open_runtime(project, {}) as runtime:
                return create_app(project, runtime, Auth(token="any"), Threads(60)).openapi()  # noqa: S106  a stand-in
        finally:
            project.close()


def _operation(method: str, path: str, operation: Schema, document: Schema) -> str:
    rows = [
        (f"`{each['name']}`", each["in"], _type(each["schema"]), _default(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        name = _reference(operation["requestBody"]["content"]["application/json"]["schema"])
        rows += [
            (f"`{field}`", "body", _type(schema), _default(schema), schema.get("description", ""))
            for field, schema in document["components"]["schemas"][name]["properties"].items()
        ]
    answers = operation["responses"]
    success = next(status for status in answers if status.startswith("2"))
    (content,) = answers[success]["content"].values()
    errors = ", ".join(status for status in answers if status != success)
    return _paragraphs(
        f"### {method.upper()} {path}",
        operation["description"],
        _token_rule(operation),
        _table(("parameter", "in", "type", "default", "meaning"), rows),
        f"Answers {success}: {_type(content['schema'])}. Errors: {errors}.",
    )


def _token_rule(operation: Schema) -> str:
    security = operation.get("security", [])
    if not security:
        return "No token needed, unless reads are protected."
    return "Needs the token if the forecast costs money." if {} in security else "Needs the token."


def _document(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{field}`", _type(value) + ("" if field in required else ", optional"), value.get("description", ""))
        for field, value in schema.get("properties", {}).items()
    ]
    examples = schema.get("examples", [])
    example = f"```json\n{json.dumps(examples[0], indent=2, ensure_ascii=False)}\n```" if examples else ""
    return _paragraphs(
        f"### {name}", schema.get("description", ""), _table(("field", "type", "meaning"), rows), example
    )


def _type(schema: Schema) -> str:
    """Describe a JSON schema in a few words, with a link to the document that it refers to."""
    if name := _reference(schema):
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    bounds = [f"{sign} {schema[bound]}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join([str(schema.get("format") or schema.get("type", "any")), *bounds])


def _default(schema: Schema) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _reference(schema: Schema) -> str:
    """Return the name of the schema that this one refers to, or an empty string."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _paragraphs(*parts: str | Iterator[str]) -> str:
    texts = [text for part in parts for text in ([part] if isinstance(part, str) else part)]
    return "\n\n".join(text for text in texts if text)


GENERATORS = {
    "commands": commands,
    "global_options": global_options,
    "layers": layers,
    "rest_documents": rest_documents,
    "rest_errors": rest_errors,
    "rest_operations": rest_operations,
}
