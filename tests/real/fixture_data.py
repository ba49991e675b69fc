"""What the conformance suites expect to find: fixed names, schemas and answers. Data only, nothing here acts.

Source: the scenario descriptions of the official suites 0.1.16 and 0.2.0-alpha.12.
"""

from typing import Any

Json = dict[str, Any]

RED_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg=="
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
IMAGE = {"type": "image", "data": RED_DOT, "mimeType": "image/png"}


def text(value: str) -> Json:
    """One block of text."""
    return {"type": "text", "text": value}


def embedded(uri: str, mime: str, value: str) -> Json:
    """One block that carries a whole resource."""
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": value}}


def fields(required: bool = True, **properties: Json) -> Json:
    """The schema of an object with these properties; all of them required, or none."""
    schema: Json = {"type": "object", "properties": properties}
    return schema | {"required": list(properties)} if required and properties else schema


STRING: Json = {"type": "string"}
NAME_FORM = fields(name=STRING)
OK_FORM = fields(ok={"type": "boolean"})
COLOR_FORM = fields(color=STRING)
CONTEXT_FORM = fields(context=STRING)
REPLY_FORM = fields(response={"type": "string", "description": "Anything you like"})

STATUSES = ["active", "inactive", "pending"]
DEFAULTS_FORM = fields(
    required=False,
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status={"type": "string", "enum": STATUSES, "default": "active"},
    verified={"type": "boolean", "default": True},
)


def titled(**choices: str) -> list[Json]:
    """Choices with a title each."""
    return [{"const": value, "title": title} for value, title in choices.items()]


ENUMS_FORM = fields(
    untitledSingle={"type": "string", "enum": STATUSES},
    titledSingle={"type": "string", "oneOf": titled(low="Not urgent", high="Urgent")},
    untitledMulti={"type": "array", "items": {"type": "string", "enum": ["read", "write"]}},
    titledMulti={"type": "array", "items": {"anyOf": titled(bug="A bug", docs="Documentation")}},
    legacyEnum={"type": "string", "enum": ["s", "l"], "enumNames": ["Small", "Large"]},
)

SCHEMA_2020_12: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": STRING, "city": STRING}},
    },
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

# Tools that always give the same answer.
STATIC_TOOLS: dict[str, list[Json]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}],
    "test_embedded_resource": [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
    "json_schema_2020_12_tool": [text("accepted")],
}

# Schemas of the tools which take arguments; every other tool takes none.
TOOL_SCHEMAS: dict[str, Json] = {
    "json_schema_2020_12_tool": SCHEMA_2020_12,
    "test_sampling": fields(prompt=STRING),
    "test_elicitation": fields(message=STRING),
    "test_x_mcp_header": fields(required=False, region={"type": "string", "x-mcp-header": "Region"}),
}

# The form that a tool of the handshake era puts before the user.
FORMS: dict[str, Json] = {
    "test_elicitation": REPLY_FORM,
    "test_elicitation_sep1034_defaults": DEFAULTS_FORM,
    "test_elicitation_sep1330_enums": ENUMS_FORM,
}

RESOURCES: dict[str, Json] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": RED_DOT},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Somebody may be watching."},
}

PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}
