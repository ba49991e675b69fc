"""Questions to a client: who can be asked what, how a result that asks is read, and their words in each revision.

Rule: the refusal stands beside the permission, and what needs no other words keeps its bytes.
"""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.protocol.documents import Document, documents, objects
from vmcp.errors import McpError
from vmcp.protocol import questions
from vmcp.protocol.jsonrpc import LARGE
from vmcp.protocol.questions import ELICIT, ROOTS, SAMPLE, Question
from vmcp.protocol.revisions import HANDSHAKE, Revision

ALL = {"sampling": True, "form": True, "url": True, "roots": True}
NONE = dict.fromkeys(ALL, False)
V24, V25_03, V25_06, V25_11 = HANDSHAKE
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
PAGE = {"mode": "url", "message": "Sign in", "url": "https://x.example/"}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def question(method: str, params: object = None) -> Question:
    return Question(method) if params is None else Question(method, Raw(text(params)))


def params(asked: Question) -> Any:
    return json.loads(bytes(asked.params))


MIRRORED: list[tuple[object, dict[str, bool], object]] = [
    ({}, ALL, {}),
    (
        {"sampling": {"tools": {}}, "roots": {"listChanged": True}},
        ALL,
        {"sampling": {"tools": {}}, "roots": {"listChanged": True}},
    ),
    ({"sampling": {}, "roots": {}, "elicitation": {}, "tasks": {}, "x": 1}, NONE, {"x": 1}),
    (
        {"tasks": {}, "extensions": {"a/b": {}}, "experimental": {}},
        ALL,
        {"extensions": {"a/b": {}}, "experimental": {}},
    ),
    ({"sampling": True, "roots": None, "elicitation": []}, ALL, {}),
    ({"sampling": {}, "roots": {}}, {**ALL, "sampling": False}, {"roots": {}}),
    ({"sampling": {}, "roots": {}}, {**ALL, "roots": False}, {"sampling": {}}),
    ({"elicitation": {}}, {**ALL, "url": False}, {"elicitation": {}}),
    ({"elicitation": {}}, {**ALL, "form": False}, {}),
    ({"elicitation": {"form": None}}, ALL, {"elicitation": {"form": None}}),
    ({"elicitation": {"form": {}, "url": {}, "x": 1}}, ALL, {"elicitation": {"form": {}, "url": {}, "x": 1}}),
    ({"elicitation": {"form": {}, "url": {}, "x": 1}}, {**ALL, "url": False}, {"elicitation": {"form": {}, "x": 1}}),
    ({"elicitation": {"url": {}}}, {**ALL, "url": False}, {}),
    ({"elicitation": {"url": {}}}, {**ALL, "form": False}, {"elicitation": {"url": {}}}),
    ([], ALL, {}),
]


@pytest.mark.parametrize(("declared", "allowed", "expected"), MIRRORED)
def test_a_backend_is_told_what_was_declared_and_is_allowed(
    declared: object, allowed: dict[str, bool], expected: object
) -> None:
    assert json.loads(questions.mirrored(text(declared), **allowed)) == expected
    if isinstance(declared, dict):
        large = {**declared, "large": "x" * 5000}
        assert json.loads(questions.mirrored(text(large), **allowed)) == {**dict(expected), "large": "x" * 5000}  # type: ignore[call-overload]


def test_everything_is_what_is_allowed() -> None:
    assert json.loads(questions.everything(**NONE)) == {}
    told = questions.everything(**ALL)
    assert questions.mirrored(told, **ALL) == told
    assert json.loads(questions.everything(**{**ALL, "sampling": False, "url": False})) == {
        "elicitation": {"form": {}},
        "roots": {},
    }


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [(b"{}", False), (b'{"x":{}}', False), (b"[]", False), (b'{"roots":{}}', True), (b'{"sampling":{}}', True),
     (b'{"elicitation":{},"x":"%b"}' % (b"x" * 5000), True)],
)  # fmt: skip
def test_who_can_be_asked_anything(capabilities: bytes, expected: bool) -> None:
    assert questions.askable(capabilities) is expected


CHECKS: list[tuple[Question, object, int | None]] = [
    (question(ROOTS), {"roots": {}}, None),
    (question(ROOTS), {}, -32601),
    (question(ROOTS), {"roots": None}, -32601),
    (question(SAMPLE, {}), {"sampling": {}}, None),
    (question(SAMPLE, {}), {"elicitation": {}, "roots": {}}, -32601),
    (question(SAMPLE, {"tools": []}), {"sampling": {}}, -32602),
    (question(SAMPLE, {"toolChoice": {}}), {"sampling": {"tools": None}}, -32602),
    (question(SAMPLE, {"tools": []}), {"sampling": {"tools": {}}}, None),
    (question(SAMPLE, []), {"sampling": {}}, -32602),
    (question(ELICIT, FORM), {"elicitation": {}}, None),
    (question(ELICIT, {**FORM, "mode": "form"}), {"elicitation": {"form": {}}}, None),
    (question(ELICIT, FORM), {"sampling": {}}, -32601),
    (question(ELICIT, FORM), {"elicitation": True}, -32601),
    (question(ELICIT, FORM), {"elicitation": {"url": {}}}, -32602),
    (question(ELICIT, PAGE), {"elicitation": {}}, -32602),
    (question(ELICIT, PAGE), {"elicitation": {"form": {}, "url": None}}, -32602),
    (question(ELICIT, PAGE), {"elicitation": {"url": {}}}, None),
    (question(ELICIT, {**PAGE, "url": "HTTP://localhost/"}), {"elicitation": {"url": {}}}, None),
    (question(ELICIT, {**PAGE, "url": "javascript:alert(1)"}), {"elicitation": {"url": {}}}, -32602),
    (question(ELICIT, {**PAGE, "url": 7}), {"elicitation": {"url": {}}}, -32602),
    (question(ELICIT, {"mode": "url"}), {"elicitation": {"url": {}}}, -32602),
    (question(ELICIT, {"mode": "voice"}), {"elicitation": {"form": {}, "url": {}}}, -32602),
    (question(ELICIT, {"mode": None}), {"elicitation": {}}, -32602),
    (question("tools/call", {}), {"roots": {}, "sampling": {}, "elicitation": {}}, -32601),
]


@pytest.mark.parametrize(("asked", "capabilities", "code"), CHECKS)
def test_a_client_is_asked_only_what_it_declared(asked: Question, capabilities: object, code: int | None) -> None:
    if code is None:
        questions.check(asked, text(capabilities))
        return
    with pytest.raises(McpError) as refused:
        questions.check(asked, text(capabilities))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, False), ({"elicitation": {}}, False), ({"elicitation": None}, False), ({"elicitation": {"url": {}}}, True)],
)
def test_who_can_be_sent_to_a_page(capabilities: object, expected: bool) -> None:
    assert questions.takes_pages(text(capabilities)) is expected


# --- results that ask

ASKS = b'{"resultType": "input_required","inputRequests":{"a":{"method":"roots/list"}},"requestState":"s","x":1.0}'


@pytest.mark.parametrize(
    "result", [ASKS, ASKS.replace(b"input_", b"input\\u005f"), ASKS.replace(b"resultType", b"result\\u0054ype")]
)
@pytest.mark.parametrize("long", [0, 2 * LARGE])
def test_a_result_that_asks_is_told_from_others_however_it_is_spelt(result: bytes, long: int) -> None:
    filled = b'"structuredContent":{"resultType":"complete"},"long":"%b"' % (b"x" * long)
    for each in (b"{%b,%b" % (filled, result[1:]), b"%b,%b}" % (result[:-1], filled)):
        told = questions.read(Raw(each))
        assert told is not None
        assert bytes(told["x"]) == b"1.0"
        assert [asked.method for asked in questions.requests(told).values()] == [ROOTS]


@pytest.mark.parametrize(
    "result",
    [b"{}", b"[]", b'["input_required"]', b'"input_required"', b'{"resultType":"complete","text":"input_required"}',
     b'{"resultType":["input_required"]}', b'{"resultType":null,"x":"input_required"}', b'{"text":"\\u0000"}',
     b'{"resultType":"task","x":"input_required"}', b'{"resultType":"input_required"'],
)  # fmt: skip
def test_any_other_result_is_not_taken_for_one(result: bytes) -> None:
    assert questions.read(result) is None
    assert questions.read(b'{"long":"%b",%b' % (b"x" * LARGE, result[1:])) is None
    assert questions.read(b'%b,"long":"%b"}' % (result[:-1], b"x" * LARGE)) is None


@given(documents(unique=True))
def test_no_result_at_all_makes_reading_fail(document: Document) -> None:
    questions.read(document.text.encode())


@pytest.mark.parametrize(
    "raw",
    [b"null", b"[]", b'{"a":1}', b'{"a":{}}', b'{"a":{"method":1}}',
     b"{%b}" % b",".join(b'"%d":{"method":"roots/list"}' % n for n in range(17))],
)  # fmt: skip
def test_questions_that_cannot_be_read_or_are_too_many_are_the_backends_fault(raw: bytes) -> None:
    with pytest.raises(McpError) as refused:
        questions.requests({"inputRequests": Raw(raw)})
    assert (refused.value.code, refused.value.vmcp_code) == (-32603, 5001)


def test_a_result_may_ask_nothing_and_what_is_asked_can_be_read_again() -> None:
    assert questions.requests({}) == {}
    told = questions.asking({"a": question(ELICIT, FORM), "b": question(ROOTS)})
    assert json.loads(bytes(told["resultType"])) == "input_required"
    again = questions.requests(told)
    assert (params(again["a"]), params(again["b"])) == (FORM, {})


# --- the pages of 2025-11-25


@pytest.mark.parametrize("raw", [True, False])
def test_pages_to_visit_become_questions(raw: bool) -> None:
    data: Any = {"elicitations": [{**PAGE, "elicitationId": "e1", "x": 1}, {"url": "https://y.example/"}]}
    error = McpError(-32042, "visit", Raw(text(data)) if raw else data)
    assert {key: params(asked) for key, asked in questions.pages(error).items()} == {
        "page-1": {**PAGE, "x": 1},
        "page-2": {"mode": "url", "url": "https://y.example/"},
    }


@pytest.mark.parametrize("data", [None, {}, {"elicitations": None}, {"elicitations": [1]}, Raw(b"[]")])
def test_an_error_without_pages_asks_nothing(data: object) -> None:
    assert questions.pages(McpError(-32042, "visit", data)) == {}


@pytest.mark.parametrize(
    ("response", "expected"),
    [({"action": "accept"}, True), ({"action": "decline"}, False), ({"action": 1}, False), ({}, False), ([], False)],
)
def test_only_accept_is_a_yes(response: object, expected: bool) -> None:
    assert questions.accepted(Raw(text(response))) is expected


# --- other words

META = {"progressToken": 1, "io.modelcontextprotocol/related-task": {"taskId": "t"}}
TITLED = {"type": "string", "title": "T", "oneOf": [{"const": "a", "title": "A"}, {"const": "b"}]}
MODERN: list[tuple[Question, object]] = [
    (question(ELICIT, {**PAGE, "elicitationId": "e1"}), PAGE),
    (question(ELICIT, {**FORM, "task": {"ttl": 1}, "_meta": META}), FORM),
    (question(ROOTS, {"_meta": {**META, "mine": 1.0}}), {"_meta": {"mine": 1.0}}),
]


@pytest.mark.parametrize(("asked", "expected"), MODERN)
def test_what_belongs_to_the_other_hop_or_era_is_left_out(asked: Question, expected: object) -> None:
    assert params(questions.for_modern(asked)) == expected


@pytest.mark.parametrize("asked", [question(ROOTS), Question(ELICIT, Raw(b'{"message" : "Who?","x":1.0}'))])
def test_what_needs_no_other_words_keeps_its_bytes(asked: Question) -> None:
    assert questions.for_modern(asked) is asked
    assert questions.for_handshake(asked, V25_11) is asked


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (question(ELICIT, {**FORM, "task": {"ttl": 1}, "_meta": {"progressToken": 1}}), FORM),
        (
            question(ROOTS, {"_meta": {"progressToken": 1, "io.modelcontextprotocol/related-task": {"taskId": "t"}}}),
            {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t"}}},
        ),
    ],
)
def test_between_older_revisions_only_what_is_of_the_hop_is_left_out(asked: Question, expected: object) -> None:
    assert params(questions.passed_on(asked)) == expected


@pytest.mark.parametrize(
    "asked",
    [
        Question(ROOTS),
        Question(ELICIT, Raw(b'{"mode" : "form","requestedSchema":{"properties":{"a":{"type":"array"}}},"_meta":{}}')),
        Question(SAMPLE, Raw(b'{"messages" : [{"content":[{"n":1.0}]}],"_meta":[]}')),
    ],
)
def test_between_older_revisions_a_question_keeps_its_bytes(asked: Question) -> None:
    assert questions.passed_on(asked) is asked


def choices(field: object) -> dict[str, Any]:
    return {"message": "m", "requestedSchema": {"type": "object", "properties": {"f": field}, "required": []}}


DOWN: list[tuple[Question, Revision, object]] = [
    (question(ELICIT, {**FORM, "mode": "form"}), V25_11, {**FORM, "mode": "form"}),
    (question(ELICIT, {**FORM, "mode": "form"}), V25_06, FORM),
    (question(ELICIT, {"mode": "form", "message": "m"}), V25_06, {"message": "m"}),
    (question(ELICIT, {"message": "m", "requestedSchema": {}}), V25_06, {"message": "m", "requestedSchema": {}}),
    (question(ELICIT, {**PAGE, "elicitationId": "e1"}), V25_11, {**PAGE, "elicitationId": "e1"}),
    (question(ELICIT, choices(TITLED)), V25_11, choices(TITLED)),
    (
        question(ELICIT, choices(TITLED)),
        V25_06,
        choices({"type": "string", "title": "T", "enum": ["a", "b"], "enumNames": ["A", "b"]}),
    ),
    (question(ELICIT, choices({"oneOf": [{}]})), V25_06, choices({"oneOf": [{}]})),
    (question(ELICIT, choices({"oneOf": 1})), V25_06, choices({"oneOf": 1})),
    (
        question(SAMPLE, {"messages": [{"role": "user", "content": {"a": 1.0}}]}),
        V24,
        {"messages": [{"role": "user", "content": {"a": 1.0}}]},
    ),
    (
        question(
            SAMPLE,
            {
                "messages": [
                    {"role": "user", "content": [{"n": 1}, {"n": 2}]},
                    {"role": "x", "content": {}},
                    {"role": "y"},
                ]
            },
        ),
        V25_06,
        {
            "messages": [
                {"role": "user", "content": {"n": 1}},
                {"role": "user", "content": {"n": 2}},
                {"role": "x", "content": {}},
                {"role": "y"},
            ]
        },
    ),
    (question(SAMPLE, {"messages": [{"content": [{"n": 1}]}]}), V25_11, {"messages": [{"content": [{"n": 1}]}]}),
    (question(SAMPLE, {"task": {}}), V24, {}),
    (question(ROOTS, {"_meta": META}), V25_06, {}),
    (question(ROOTS, {"_meta": META}), V25_11, {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t"}}}),
]


@pytest.mark.parametrize(("asked", "revision", "expected"), DOWN)
def test_a_question_is_said_in_the_words_of_the_clients_revision(
    asked: Question, revision: Revision, expected: object
) -> None:
    assert params(questions.for_handshake(asked, revision)) == expected


@pytest.mark.parametrize(
    ("asked", "revision"),
    [
        (question(ELICIT, FORM), V24),
        (question(ELICIT, FORM), V25_03),
        (question(ELICIT, PAGE), V25_06),
        (question(ELICIT, choices({"type": "array"})), V25_06),
        (question(ELICIT, []), V25_11),
        (question(SAMPLE, {"messages": [[]]}), V25_06),
    ],
)
def test_what_a_revision_has_no_words_for_is_refused(asked: Question, revision: Revision) -> None:
    with pytest.raises(McpError) as refused:
        questions.for_handshake(asked, revision)
    assert refused.value.code == -32602


def test_a_page_gets_a_name_and_the_same_page_the_same_one() -> None:
    named = [
        params(questions.for_handshake(question(ELICIT, PAGE | more), V25_11)) for more in ({}, {}, {"message": "x"})
    ]
    ids = [told.pop("elicitationId") for told in named]
    assert named[0] == PAGE
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("answer", "revision", "expected"),
    [
        ({"content": [{"n": 1}], "x": 1}, V25_06, {"content": {"n": 1}, "x": 1}),
        ({"content": [{"n": 1}]}, V25_11, {"content": [{"n": 1}]}),
        ({"content": [1, 2]}, V25_06, {"content": [1, 2]}),
        ({"content": {"n": 1}}, V25_06, {"content": {"n": 1}}),
        ({"action": "accept"}, V24, {"action": "accept"}),
    ],
)
def test_an_answer_of_one_block_stands_alone_for_older_backends(
    answer: object, revision: Revision, expected: object
) -> None:
    assert json.loads(bytes(questions.for_asker(Raw(text(answer)), revision))) == expected


@given(
    objects(documents(unique=True), unique=True), st.sampled_from([ELICIT, SAMPLE, ROOTS]), st.sampled_from(HANDSHAKE)
)
def test_nothing_but_an_mcp_error_comes_of_any_question(told: Document, method: str, revision: Revision) -> None:
    asked = Question(method, Raw(told.text.encode()))
    questions.for_modern(asked)
    with contextlib.suppress(McpError):
        questions.check(asked, b'{"roots":{},"sampling":{},"elicitation":{"form":{},"url":{}}}')
        questions.for_handshake(asked, revision)
