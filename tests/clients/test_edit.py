"""One server put into a client's file and taken out of it. Rule: nothing but that changes, whatever the file looks like."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmcp.clients import edit
from vmcp.clients.edit import Format, NotEditable

ENTRY = {"type": "http", "url": "http://127.0.0.1:4483/mcp", "headers": {"Authorization": "Bearer ${T}"}}
JSON, TOML, YAML = ("mcpServers", "vmcp"), ("mcp_servers", "vmcp"), ("extensions", "vmcp")
PATHS: dict[Format, tuple[str, str]] = {"json": JSON, "toml": TOML, "yaml": YAML}

EXACT: list[tuple[Format, str]] = [
    ("json", '{\n  "mcpServers": {\n    "a": {"command": "x"}\n  }\n}\n'),
    ("json", '{\n\t"mcpServers": {\n\t\t"a": {}\n\t},\n\t"z": 1\n}'),
    ("json", '{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n'),
    ("json", '{"mcpServers": {"a": {}}, "b": [1, 2]}'),
    ("json", '{\n  // one\n  "mcpServers": {\n    "a": {}, // two\n    /* three */\n  }, // four\n}\n'),
    ("json", '{\n  "mcpServers": {\n    "a": {} // last, no comma\n  }\n}\n'),
    ("json", '\ufeff{\n    "mcpServers": {\n        "a": {"k": "}"}\n    }\n}\n'),
    ("json", '{\n  "mcpServers": {"a": {"x": 1}}\n}\n'),
    ("json", '{\n  "mcpServers": {\n    "a": {}, "b": {}\n  }\n}\n'),
    ("toml", 'model = "x"\n'),
    ("toml", '[mcp_servers.a]\ncommand = "x"\n\n# of b\n[b]\nc = 1\n'),
    ("toml", '[[list]]\na = """\n[mcp_servers.vmcp2]\n"""\n'),
    ("toml", ""),
    ("yaml", "extensions:\n  a:\n    type: stdio\n\n# of B\nB: 1\n"),
    ("yaml", "A: 1\nextensions:\n    a: {type: stdio}\n    # a remark\n"),
    ("yaml", "extensions:\n  a:\n    cmd: >-\n      x\n\n      y\nB: 1\n"),
]


@pytest.mark.parametrize(("form", "text"), EXACT)
def test_what_was_put_in_comes_out_again_to_the_byte(form: Format, text: str) -> None:
    path = PATHS[form]
    made = edit.put(text, form, path, ENTRY)
    assert edit.at(edit.read("", made, form), path) == ENTRY
    assert edit.drop(made, form, path) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        *EXACT,
        ("json", "{}"),
        ("json", "{\n}\n"),
        ("json", '{"mcpServers": {}}'),
        ("json", '{\n  "mcpServers": {\n    // none yet\n  }\n}'),
        ("json", '{"a": 1,}'),
        ("json", ""),
        ("json", " \n"),
        ("toml", 'a = "b"'),
        ("toml", "a = 1\r\nb = 2\r\n"),
        ("yaml", ""),
        ("yaml", "A: 1"),
        ("yaml", "extensions: {}\nA: 1\n"),
        ("yaml", "extensions:\n# none\nA: 1\n"),
        ("yaml", "A: 1\r\nextensions:\r\n  a: {type: x}\r\n"),
    ],
)
def test_an_entry_can_be_put_in_changed_and_taken_out(form: Format, text: str) -> None:
    path = PATHS[form]
    before = edit.read("", text, form)
    changed = edit.put(edit.put(text, form, path, ENTRY), form, path, {"url": "other"})
    data = edit.read("", changed, form)
    assert edit.at(data, path) == {"url": "other"}
    assert "\r\n" not in text or "\n" not in changed.replace("\r\n", "")
    after = edit.read("", edit.drop(changed, form, path), form)
    assert {key: value for key, value in after.items() if value} == {
        key: value for key, value in before.items() if value
    }


def test_comments_and_order_stay() -> None:
    text = '{\n  // mine\n  "z": 1, /* and */\n  "mcpServers": {\n    "b": {}, // b\n    "a": {}\n  }\n}\n'
    made = edit.put(text, "json", JSON, {"url": "u"})
    assert made == (
        '{\n  // mine\n  "z": 1, /* and */\n  "mcpServers": {\n    "b": {}, // b\n    "a": {},\n'
        '    "vmcp": {\n      "url": "u"\n    }\n  }\n}\n'
    )


def test_a_server_in_the_middle_takes_its_comma_along() -> None:
    text = '{"mcpServers": {"a": {}, "b": {}, "c": {}}}'
    assert edit.drop(text, "json", ("mcpServers", "b")) == '{"mcpServers": {"a": {}, "c": {}}}'
    assert edit.drop(text, "json", ("mcpServers", "a")) == '{"mcpServers": { "b": {}, "c": {}}}'.replace("{ ", "{", 0)
    assert edit.drop(text, "json", ("mcpServers", "c")) == '{"mcpServers": {"a": {}, "b": {}}}'


@pytest.mark.parametrize("form", PATHS)
def test_what_is_not_there_is_not_taken_out(form: Format) -> None:
    assert edit.drop("", form, PATHS[form]) == ""


def test_tables_below_a_table_go_with_it() -> None:
    text = '[mcp_servers.vmcp]\nurl = "x"\n\n[mcp_servers.vmcp.http_headers]\nA = "b"\n\n[z]\n'
    assert edit.drop(text, "toml", TOML) == "\n[z]\n"
    assert edit.put(text, "toml", TOML, {"url": "y"}) == '[mcp_servers.vmcp]\nurl = "y"\n\n\n[z]\n'


def test_a_quoted_header_is_the_same_table() -> None:
    assert edit.drop('[ mcp_servers . "vmcp" ] # mine\nurl = "x"\n', "toml", TOML) == ""


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '{"mcpServers": []}'),
        ("json", '{"mcpServers": "x"}'),
        ("toml", 'mcp_servers = { a = { command = "x" } }\n'),
        ("toml", "mcp_servers = 1\n"),
        ("yaml", "extensions: {a: {type: x}}\n"),
        ("yaml", "extensions: [a]\n"),
        ("yaml", "extensions: {} # none\n"),
        ("json", '{"mcpServers": null}'),
        ("yaml", "A: 1\n...\n"),
    ],
)
def test_what_cannot_be_changed_in_place_is_left_to_its_owner(form: Format, text: str) -> None:
    with pytest.raises(NotEditable):
        edit.put(text, form, PATHS[form], ENTRY)


def test_an_inline_table_is_not_cut() -> None:
    with pytest.raises(NotEditable):
        edit.drop('mcp_servers.vmcp = { url = "x" }\n', "toml", TOML)


def test_lists_of_tables_end_a_table() -> None:
    text = '[mcp_servers.vmcp]\nurl = "x"\n[[z]]\na = 1\n'
    assert edit.drop(text, "toml", TOML) == "[[z]]\na = 1\n"


def test_a_header_inside_of_a_text_is_no_table() -> None:
    text = 'a = """\n[mcp_servers.vmcp]\nx = 1\n[a b]\n"""\n'
    assert edit.drop(text, "toml", TOML) == text
    with pytest.raises(NotEditable):
        edit.put(text, "toml", TOML, ENTRY)


NAMES = st.text('abc "\\é/', min_size=1, max_size=4)
INNER = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text('ab"{}[],:/*\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(servers=st.dictionaries(NAMES, INNER, min_size=1, max_size=4), rest=st.dictionaries(NAMES, INNER, max_size=3),
       indent=st.sampled_from([None, 1, 2, 4, "\t"]))  # fmt: skip
def test_any_json_comes_back_to_the_byte(
    servers: dict[str, object], rest: dict[str, object], indent: int | None
) -> None:
    text = json.dumps({**rest, "mcpServers": servers}, indent=indent)
    made = edit.put(text, "json", JSON, ENTRY)
    assert json.loads(made) == {**rest, "mcpServers": {**servers, "vmcp": ENTRY}}
    assert edit.drop(made, "json", JSON) == text
