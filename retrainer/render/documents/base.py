"""The base class of the documents, the types that their fields share, and the document of an error."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import core_schema

from retrainer.times import format_time


class Document(BaseModel):
    """A JSON document, or an object inside one.

    `model_validate` takes any object that has attributes of the same names, such as a row of the database.
    """

    # Most commands use few of the documents, so that each is completed on first use.
    model_config = ConfigDict(
        from_attributes=True, defer_build=True, model_title_generator=lambda model: model.__qualname__
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # OpenAPI, and the clients generated from it, call a document by what it describes.
        cls.__qualname__ = cls.__name__.removesuffix("Document")

    @classmethod
    def build(cls, source: object, **fields: object) -> Self:
        """Build a document from the attributes of an object, except for the fields given."""
        found = {name: getattr(source, name) for name in cls.model_fields if hasattr(source, name)}
        return cls.model_validate({**found, **fields})

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Return an example, composed of the examples of the fields; optional keys without one are left out."""
        found = {name: _example(field.annotation, [field, *field.metadata]) for name, field in cls.model_fields.items()}
        return {
            name: value for name, value in found.items() if value is not None or cls.model_fields[name].is_required()
        }


StreamName = Annotated[str, Field(examples=["default"], description="The stream.")]


class ErrorTextDocument(Document):
    """What went wrong, and what to do."""

    code: str = Field(examples=["unknown_name"])
    message: str = Field(examples=["unknown version 'prophet_timing_20251106_120000_a3f2'"])
    hint: str = Field(examples=["`retrainer versions` lists them"])


class FailureDocument(Document):
    """The answer to a request that failed."""

    error: ErrorTextDocument


def documents_by_name(parent: type[Document] = Document) -> dict[str, type[Document]]:
    """Return the documents of all modules imported so far, by the names that OpenAPI gives them."""
    found: dict[str, type[Document]] = {}
    for child in parent.__subclasses__():
        found |= {child.__qualname__: child, **documents_by_name(child)}
    return found


@dataclass(frozen=True)
class DescribedBy:
    """Keep a recorded JSON value exactly as it is; OpenAPI describes it by a type.

    The type is not enforced, since plugins and earlier releases may have recorded other keys.
    """

    type: Any

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        schema = handler.generate_schema(self.type)
        serialization = core_schema.wrap_serializer_function_ser_schema(_unchanged, schema=schema)
        return core_schema.no_info_wrap_validator_function(_unchanged, schema, serialization=serialization)


def _unchanged(value: Any, _handler: Any) -> Any:
    return value


def _example(annotation: Any, metadata: Iterable[Any] = ()) -> Any:
    """Return the example of a field or, without one, that of its type."""
    for item in metadata:
        if isinstance(item, FieldInfo) and item.examples:
            return item.examples[0]
        if isinstance(item, DescribedBy):
            return _example(item.type)
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return annotation.example()
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if origin is list:
        return [_example(arguments[0])]
    return _example(arguments[0], arguments[1:]) if arguments else None  # of Annotated, or the first type of a union


Timestamp = Annotated[
    datetime,
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
    Field(examples=["2025-11-06T12:00:00Z"]),
]
PREVIOUS_VERSION_ID = "prophet_timing_20251030_120000_91c4"  # in examples
VersionId = Annotated[str, Field(examples=["prophet_timing_20251106_120000_a3f2"])]
RunId = Annotated[str, Field(examples=["run_20251106_120000_a3f2"])]
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]
Absent = SkipJsonSchema[None]  # for a key that may be missing, and is never null
