"""Every key of a configuration, as the tables of ``docs/reference/configuration.md``.

The rule: what is said of a key is what the schema says of it, and what ``config/unbuilt`` says that is not there yet.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.cli.output import block_style
from vmcp.config import unbuilt
from vmcp.config.schema import schema

NOTE = "<!-- Made by docs/generate.py; what is changed here is lost. -->"
RESTART = (
    *("server.host", "server.port", "server.paths", "server.limits", "state", "telemetry.usage"),
    *("admin.socket", "admin.listen", "admin.tokenFile", "admin.ui.enabled"),
)
"""What a reload says that it cannot change, beside where spans are sent and how the audit log is written."""
OWN = {
    "backend": "groups.*.backends.*",
    "group": "groups.*",
    "strategy": "auth of a backend, outgoingAuth.default, outgoingAuth.backends.*",
    "persona": "personas.*",
    "toolSelection": "aggregation.tools[]",
    "promptSelection": "aggregation.prompts[]",
    "resourceSelection": "aggregation.resources[]",
    "toolOverride": "overrides.* of tools",
    "textOverride": "overrides.* of prompts and resources",
    "issuer": "incomingAuth.oidc, incomingAuth.issuers[]",
}
"""Shapes that have a table of their own, and where they stand."""
ABSENT = "**Not built yet: refused.**"
Schema = Mapping[str, Any]


def cell(text: object) -> str:
    """One line of a table; what would be a tag is text."""
    pieces = str(text).replace("|", "\\|").replace("\n", " ").split("`")
    return "`".join(piece if number % 2 else piece.replace("<", "&lt;") for number, piece in enumerate(pieces))


def code(value: object) -> str:
    """A value as it is written in a file."""
    text = json.dumps(value, ensure_ascii=False)
    return cell(f"`{text}`")


def resolved(part: Schema) -> tuple[dict[str, Any], str]:
    """A part with what it refers to, and the name of that."""
    name = str(part.get("$ref", "")).rpartition("/")[2]
    return ({**schema()["$defs"][name], **part} if name else dict(part)), name


def kind(part: Schema) -> str:
    """What a value is."""
    full, name = resolved(part)
    if name in OWN:
        return f"[{name}](#{name.lower()})"
    if "enum" in full:
        return ", ".join(f"`{each}`" for each in full["enum"])
    if "items" in full:
        return f"list of {kind(full['items'])}"
    if isinstance(full.get("additionalProperties"), Mapping):
        return f"map of {kind(full['additionalProperties'])}"
    if name:
        return re.sub(r"(?<=[a-z])([A-Z])", lambda found: " " + found[1].lower(), name)
    types = full.get("type", "any")
    return types if isinstance(types, str) else " or ".join(types)


def keys(part: Schema, path: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key below a part, with its path, down to the shapes that have tables of their own."""
    full, _ = resolved(part)
    for name, below in full.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, below
        yield from inside(below, here, depth + 1)


def inside(part: Schema, path: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is below a key: its own keys, and those of the members of a list or map."""
    full, name = resolved(part)
    if name in OWN or name == "secret" or depth > 5:
        return
    yield from keys({key: value for key, value in full.items() if key != "$ref"}, path, depth)
    for place, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(full.get(place), Mapping):
            yield from inside(full[place], path + suffix, depth + 1)


def said(values: tuple[object, ...]) -> str:
    """Values that a file may have, in words."""
    return " or ".join(code(value) for value in values)


def row(path: str, part: Schema, base: str) -> str:
    """A line of the table of keys."""
    full, _ = resolved(part)
    whole = f"{base}.{path}" if base else path
    notes = [full.get("description", "")]
    if any(each.place == whole and not each.harmless for each in unbuilt.TABLE):
        notes.append(ABSENT)
    notes += [
        f"*Only {said(each.harmless)} so far.*" for each in unbuilt.TABLE if each.place == whole and each.harmless
    ]
    if any(whole == each or whole.startswith(f"{each}.") for each in RESTART):
        notes.append("*After a restart.*")
    default = code(full["default"]) if "default" in full else ""
    example = code(full["examples"][0]) if full.get("examples") else ""
    if len(example) > 90:
        example = ""
    return f"| `{path}` | {cell(kind(part))} | {default} | {cell(' '.join(notes))} | {example} |"


def table(part: Schema, base: str = "") -> str:
    """All keys below a part."""
    head = "| key | type | default | what it says | example |\n|---|---|---|---|---|"
    return "\n".join([head, *(row(path, below, base) for path, below in keys(part, ""))])


def example(part: Schema, under: str) -> list[str]:
    """A block that shows a key whole, or (without ``under``) what stands at it."""
    full, _ = resolved(part)
    found = full.get("examples")
    if not found:
        return []
    return ["```yaml part\n" + "\n".join(block_style({under: found[0]} if under else found[0])) + "\n```\n"]


def configuration() -> str:
    """Every key of the file."""
    parts = [
        f"# Configuration\n\n{NOTE}\n",
        "Every key that a configuration may have; made from the JSON Schema, which `vmcp schema` prints. `*` stands for a",
        "name of yours, `[]` for the members of a list. What a key cannot do yet is refused, never ignored. Everything takes",
        "effect at a reload, but for what is marked, where spans are sent (`telemetry`), and how the audit log is written",
        "(`audit.durability`, `audit.rotation`, `audit.key`).\n",
        "A duration is `500ms`, `30s`, `1m30s`; a size is `64KiB`, `1MiB`, or bytes; a secret is `{env: NAME}` or",
        "`{file: PATH}`.\n",
    ]
    for name, part in schema()["properties"].items():
        full, _ = resolved(part)
        absent = ABSENT if any(each.place == name for each in unbuilt.TABLE) else ""
        parts += [f"## {name}\n", cell(f"{full['description']} Type: {kind(part)}. {absent}").strip() + "\n"]
        parts += example(part, name)
        rows = [row(path, below, name) for path, below in inside(part, "", 0)]
        if rows:
            parts.append(
                "\n".join(table({}).splitlines()[:2] + [each.replace("| `.", "| `", 1) for each in rows]) + "\n"
            )
    for name, where in OWN.items():
        full = schema()["$defs"][name]
        parts += [f"## {name}\n", f"{cell(full.get('description', ''))} It stands at: {where}.\n"]
        parts += [*example(full, ""), table(full) + "\n"]
    return "\n".join(parts)
