"""The published schema: valid, documented, one with the model; and what it knows about places.

The rule: what an editor shows from the schema is what the program does.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from vmcp.config import schema as module
from vmcp.config.lock import LockSpec
from vmcp.config.model import Aggregation, Allow, BackendSpec, Config, Limits, Paths, PoolSpec, ServerSpec, Timeouts
from vmcp.config.quantities import seconds, size
from vmcp.config.schema import Shape, camel, canonical, schema, secret_paths, settle, shape, text, veiled_keys
from vmcp.config.source import compose
from vmcp.config.substitute import substitute
from vmcp.config.timeouts import KEYS
from vmcp.config.tree import flatten

ROOT = shape(schema())
ONES = ("type", "enum", "const", "pattern", "description", "default", "examples", "required", "title")


def properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of every object in the schema; conditions and data are no properties."""
    if isinstance(part, list):
        for number, each in enumerate(part):
            yield from properties(each, f"{path}/{number}")
    elif isinstance(part, dict):
        documented = part.get("type") == "object" or "object" in part.get("type", ())
        for name, each in part.get("properties", {}).items() if documented else ():
            yield f"{path}/{name}", each
        for key, each in part.items():
            if key in ("properties", "$defs"):
                for name, below in each.items():
                    yield from properties(below, f"{path}/{name}")
            elif key not in ("if", "then", *ONES):
                yield from properties(each, f"{path}/{key}")


PROPERTIES = dict(properties(schema()))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_it_is_the_file_that_is_published() -> None:
    published = Path(__file__).parents[2] / "schemas" / "vmcp.schema.json"
    assert text() == published.read_text("utf-8")


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_schemas").mkdir()
    (tmp_path / "_schemas" / module.NAME).write_text("{}", "utf-8")
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    assert text.__wrapped__() == "{}"


def test_there_are_many_properties() -> None:
    assert len(PROPERTIES) > 300


@pytest.mark.parametrize("path", PROPERTIES)
def test_every_property_says_what_it_is_and_shows_one(path: str) -> None:
    part = PROPERTIES[path]
    assert part.get("description", "").endswith((".", "?"))
    assert part["examples"]
    validator = Draft202012Validator(schema()).evolve(schema=part)
    for value in [*part["examples"], *([part["default"]] if "default" in part else [])]:
        assert not list(validator.iter_errors(value)), value


def test_only_maps_with_keys_of_the_user_are_open() -> None:
    """A map either lists its keys and is closed, or says what its values are, or is somebody else's JSON Schema."""
    free = {"parameters", "arguments", "schema", "defaultResults"}
    for path, part in PROPERTIES.items():
        if part.get("type") == "object":
            closed = "properties" in part and part["additionalProperties"] is False
            keyed = "properties" not in part and isinstance(part.get("additionalProperties"), dict)
            assert closed or keyed or path.rsplit("/", 1)[1] in free, path


def test_there_are_no_unions_that_would_make_two_problems_of_one() -> None:
    assert not {"oneOf", "anyOf"} & set(json.dumps(schema()).replace('"', " ").split())


def default(path: str) -> Any:
    return PROPERTIES[path]["default"]


@pytest.mark.parametrize(
    ("path", "value"),
    [(f"/server/limits/{camel(name)}", getattr(Limits(), name)) for name in Limits.__dataclass_fields__]
    + [(f"/backend/timeouts/{camel(name)}", getattr(Timeouts(), name)) for name in KEYS.values()]
    + [(f"/backend/pool/{camel(name)}", getattr(PoolSpec(), name)) for name in PoolSpec.__dataclass_fields__]
    + [(f"/server/{key}", getattr(ServerSpec(), name)) for key, name in (("host", "host"), ("port", "port"))]
    + [("/server/allowAnonymousNetwork", ServerSpec().allow_anonymous_network)]
    + [(f"/server/paths/{name}", getattr(Paths(), name)) for name in Paths.__dataclass_fields__]
    + [(f"/backend/allow/{name}", getattr(Allow(), name)) for name in ("sampling", "roots", "logging")]
    + [(f"/backend/allow/elicitation/{name}", getattr(Allow(), name)) for name in ("form", "url")]
    + [("/server/allowedHosts", []), ("/server/allowedOrigins", [])]
    + [("/aggregation/conflictResolution", Aggregation().strategy)]
    + [("/aggregation/conflictResolutionConfig/prefixFormat", Aggregation().prefix_format)]
    + [("/aggregation/excludeAllTools", Aggregation().exclude_all_tools)]
    + [("/aggregation/defaultToolVisibility", Aggregation().default_tool_visibility)]
    + [("/aggregation/maxNameLength", Aggregation().max_name_length)]
    + [("/lock/file", LockSpec().file), ("/lock/policy", LockSpec().policy)]
    + [("/operational/logLevel", Config.__dataclass_fields__["log_level"].default)]
    + [("/operational/failureHandling/partialFailureMode", Config.__dataclass_fields__["partial_failure"].default)]
    + [
        (f"/backend/{name}", BackendSpec.__dataclass_fields__[name].default)
        for name in ("protocol", "required", "retry")
    ],
)
def test_the_defaults_of_the_schema_are_those_of_the_model(path: str, value: Any) -> None:
    said = default(path)
    if isinstance(said, str) and isinstance(value, int | float):
        said = size(said) if path.endswith(("Bytes", "Rate")) else seconds(said)
    assert said == value


def test_camel_case() -> None:
    assert [camel(key) for key in ("prefix_format", "name", "prefixFormat", "jwks_allow_private_ip", "_x_")] == [
        "prefixFormat",
        "name",
        "prefixFormat",
        "jwksAllowPrivateIp",
        "X",
    ]


def shaped(source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    root, problems = compose("f", source)
    assert root is not None
    assert not problems
    tree, twice = canonical(root, ROOT)
    return flatten(tree).data, tuple(key for key, _, _ in twice)


def test_snake_case_names_of_known_keys_are_accepted() -> None:
    data, twice = shaped(
        "group_ref: a\nincoming_auth: {type: anonymous}\nbackends: [{name: a, ca_bundle_path: b}]\n"
        "outgoing_auth: {backends: {my_backend: {type: header_injection, header_injection: {header_name: X}}}}\n"
    )
    assert not twice
    assert data == {
        "groupRef": "a",
        "incomingAuth": {"type": "anonymous"},
        "backends": [{"name": "a", "caBundlePath": "b"}],
        "outgoingAuth": {
            "backends": {"my_backend": {"type": "header_injection", "headerInjection": {"headerName": "X"}}}
        },
    }


@pytest.mark.parametrize(
    "source",
    [
        "groups: {group_ref: {backends: {prefix_format: {env: {log_level: a}, headers: {x_team: b}}}}}",
        "aggregation: {tools: [{overrides: {group_ref: {arguments: {max_name: {hide: true}}}}}]}",
        "compositeTools: [{parameters: {max_size: 1}, steps: [{arguments: {group_ref: 1}}]}]",
        "metadata: {group_ref: a}",
        "unknown_key: {group_ref: 1}",
        "groups: [a]",
    ],
)
def test_keys_of_the_user_are_never_renamed(source: str) -> None:
    root, _ = compose("f", source)
    assert root is not None
    assert shaped(source) == (flatten(root).data, ())


def test_both_spellings_of_a_key_are_one_key_twice() -> None:
    assert shaped("group_ref: a\ngroupRef: b") == ({"groupRef": "a"}, ("groupRef",))


@pytest.mark.parametrize(
    ("source", "path", "value"),
    [
        ("server: {port: '${N}'}", ("server", "port"), 8080),
        ("server:\n  port: ${N}", ("server", "port"), 8080),
        ("name: ${N}", ("name",), "8080"),
        ("name: ${T}", ("name",), "true"),
        ("groups: {a: {backends: {b: {required: '${T}'}}}}", ("groups", "a", "backends", "b", "required"), True),
        ("groups: {a: {backends: {b: {required: '${N}'}}}}", ("groups", "a", "backends", "b", "required"), "8080"),
        ("groups: {a: {backends: {b: {command: ['${N}']}}}}", ("groups", "a", "backends", "b", "command", 0), "8080"),
        ("server: {limits: {bodyBytes: '${N}'}}", ("server", "limits", "bodyBytes"), "8080"),
        ("server:\n  limits:\n    bodyBytes: ${N}", ("server", "limits", "bodyBytes"), 8080),
        ("name: 8080", ("name",), 8080),
        ("nonsense: ['${N}']", ("nonsense", 0), "8080"),
        ("compositeTools: [{parameters: {x: '${N}'}}]", ("compositeTools", 0, "parameters", "x"), "8080"),
    ],
)
def test_substituted_values_get_the_type_of_their_place(
    source: str, path: tuple[str | int, ...], value: object
) -> None:
    root, _ = compose("f", source)
    assert root is not None
    found: Any = flatten(settle(substitute(root, {"N": "8080", "T": "true"})[0], ROOT)).data
    for step in path:
        found = found[step]
    assert found == value
    assert type(found) is type(value)


def test_secret_places_are_known() -> None:
    backend = {"headers": {"A": "x", "B": {"env": "N"}}, "env": {"C": "x"}, "command": ["a", "b"], "url": "u"}
    data = {
        "name": "n",
        "groups": {"g": {"backends": {"b": backend}}},
        "outgoingAuth": {"default": {"basic": {"username": "u", "password": "p"}}},
        "nonsense": {"password": "x"},
        "vars": {"K": {"value": "v"}},
    }
    at = ("groups", "g", "backends", "b")
    assert set(secret_paths(data, ROOT)) == {
        (*at, "headers", "A"),
        (*at, "env", "C"),
        (*at, "command", 0),
        (*at, "command", 1),
        ("outgoingAuth", "default", "basic", "password"),
        ("vars", "K", "value"),
    }
    assert not list(secret_paths({"nonsense": [1]}, ROOT))


def test_keys_that_look_like_secrets_are_veiled() -> None:
    source = "backends: [{name: a, env: {GOOD: x, A=hush: y, hush: , E: '${X}', R: {env: N}}}]"
    root, _ = compose("f", source)
    assert root is not None
    at = ("backends", 0, "env")
    assert set(veiled_keys(root, ROOT)) == {(*at, "A=hush"), (*at, "hush")}


def test_a_shape_follows_references_and_knows_its_members() -> None:
    group = ROOT.member("groups")
    assert group is not None
    backend = group.member("any name")
    assert backend is not None
    assert "backends" in backend.known
    assert ROOT.member("nonsense") is None
    assert ROOT.element() is None
    assert Shape(({},)).takes(object())
    assert not Shape(({"type": "integer"},)).takes(True)
    assert Shape(({"type": ["boolean", "string"]},)).takes(True)
