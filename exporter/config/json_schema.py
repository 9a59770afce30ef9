"""The JSON Schema of the configuration, for editors."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import ModelSchema

from exporter.config.secrets import list_secret_fields
from exporter.duration import format_duration

_ENVIRONMENT = {"type": "string", "pattern": r"\$\{", "description": "A text with an environment variable, ${NAME}."}
_ENVIRONMENT_REF = {"$ref": "#/$defs/environment"}
_ANNOTATIONS = ("description", "default")


def build_file_schema(config_file: type[BaseModel], portals: Mapping[str, type[BaseModel]]) -> JsonSchemaValue:
    """Return the schema of a file whose `accounts` belong to these portals, distinguished by the key `portal`."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(config_file, "validation")]
    wanted += [(portal, "validation") for portal in portals.values()]
    references, whole = models_json_schema(wanted, schema_generator=_SchemaGenerator)
    names = {model: reference["$ref"].rpartition("/")[2] for (model, _), reference in references.items()}
    definitions = {name: _allow_variables(definition) for name, definition in whole["$defs"].items()}
    for portal, model in portals.items():
        definitions[names[model]]["properties"]["portal"] = {"const": portal, "description": "The portal of the account."}
    top = definitions.pop(names[config_file])
    top["properties"]["accounts"]["items"] = {"oneOf": [{"$ref": f"#/$defs/{names[portals[name]]}"} for name in sorted(portals)]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "utility-exporter",
        **top,
        "$defs": dict(sorted({**definitions, "environment": _ENVIRONMENT}.items())),
    }


class _SchemaGenerator(GenerateJsonSchema):
    """Adds what the file has beyond its models: the files of secrets, and durations in the form of Prometheus."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Add the key of its file to each secret; if the secret is required, require one of the two."""
        result = super().model_schema(schema)
        result.pop("title", None)
        for name in list_secret_fields(schema["cls"]):
            result["properties"][f"{name}_file"] = {
                "type": "string",
                "description": f"The file that holds the {name}; its path begins at the folder of the configuration.",
            }
            result.setdefault("allOf", []).append(_require_one_of_two(name, required=name in result.get("required", [])))
            result["required"] = [key for key in result.get("required", []) if key != name]
        return result

    def encode_default(self, dft: Any) -> Any:
        """Return a default as written in the file."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: titles would repeat the key."""
        return False


def _require_one_of_two(name: str, *, required: bool) -> JsonSchemaValue:
    text, file = ({"required": [key], "properties": {key: {"not": {"const": ""}}}} for key in (name, f"{name}_file"))
    return {"oneOf": [text, file]} if required else {"not": {"allOf": [text, file]}}


def _allow_variables(part: Any) -> Any:
    """Allow what the file allows: a string without quotes, and a variable for any value."""
    if isinstance(part, list):
        return [_allow_variables(item) for item in part]
    if not isinstance(part, dict):
        return part
    if (
        part.get("type") in ("integer", "number", "boolean")
        or "enum" in part
        or (part.get("type") == "string" and "pattern" in part)
    ):
        annotations = {key: part[key] for key in _ANNOTATIONS if key in part}
        itself = {key: value for key, value in part.items() if key not in annotations and value != ""}
        return annotations | {"anyOf": [itself, _ENVIRONMENT_REF]}
    walked = {key: value if key == "default" else _allow_variables(value) for key, value in part.items()}
    return walked | {"type": ["string", "number"]} if part.get("type") == "string" else walked
