"""To and fro with a backend: the four cells of eras, and whose retry is taken for what it says it is.

Rule: a ``requestState`` is tried by everybody and with everything that it was not given out for; and what is refused never
reaches the backend.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from tests.middleware.calls import call as any_call
from vmcp.aggregator.rounds import VALID, Rounds, digest
from vmcp.call import Answers, Call, Complete, Identity, InputRequired, Peer
from vmcp.config.model import Allow, BackendSpec
from vmcp.errors import ConsentRequired, McpError
from vmcp.protocol.questions import ELICIT, ROOTS, SAMPLE, Question
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.state.crew import Common, Crew
from vmcp.state.ticket import Seal
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker, Outgoing
from vmcp.upstream.parking import Parking

OLD = Revision.V2025_11_25
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
PAGE = {"mode": "url", "message": "Sign in", "url": "https://x.example/"}
ALL = b'{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}'
YES = Raw(b'{"action":"accept","content":{"n":1.0}}')
ANN, BOB = Identity("i", "ann"), Identity("i", "bob")

Script = Callable[[Call, Outgoing, Asker | None], Awaitable[object]]


@dataclass
class Backend:
    """Does what a script says, and remembers what it was sent."""

    script: Script
    revision: Revision = MODERN
    spec: BackendSpec = field(default_factory=lambda: spec("b"))
    sent: list[dict[str, Any]] = field(default_factory=list)
    known: bool = True

    def speaks(self, call: Call) -> Revision | None:
        return self.revision if self.known else None

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        self.sent.append(json.loads(json.dumps(dict(outgoing.params), default=lambda raw: json.loads(bytes(raw)))))
        told = await self.script(call, outgoing, asker)
        return Complete(Raw(told if isinstance(told, bytes) else json.dumps(told).encode()), self.revision)


def spec(name: str = "b", **more: Any) -> BackendSpec:
    allowed = {"allow": Allow(sampling=True, url=True, roots=True), "isolation": "session", **more}
    return BackendSpec(name, "g", "streamable-http", url="http://x/", **allowed)


@dataclass
class Inline:
    """A client of the handshake era."""

    can_ask: bool = True
    asked: list[Question] = field(default_factory=list)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError

    async def ask(self, question: Question) -> Raw:
        self.asked.append(question)
        return Raw(b'{"role":"assistant","content":[{"type":"text","text":"hi"}]}')


class World:
    """Backends behind rounds, and a clock."""

    def __init__(self, nest: Nest, *backends: Backend, crew: Crew | None = None) -> None:
        self.now = 1000.0
        self.seal = Seal(None if crew is None else crew.common.key)
        self.parking = Parking(nest)
        self.backends: Any = {backend.spec.name: backend for backend in backends}
        self.rounds = Rounds(self.backends, self.seal, self.parking, lambda: self.now, crew)

    async def send(self, call: Call, backend: str = "b") -> Any:
        route = Route(Kind.TOOL, "t", backend, "original", b"", b"")
        return await self.rounds.send(call, route, Outgoing({"name": "original"}, "original"))


@pytest.fixture
async def nest() -> AsyncIterator[Nest]:
    async with Nest("test") as nest:
        yield nest


def call(**more: Any) -> Call:
    peer = Peer(more.pop("revision", MODERN), more.pop("capabilities", ALL))
    tree = {"name": "t", "arguments": {"a": 1, "b": [2.0]}, **more.pop("tree", {})}
    told = {"name": "t", "identity": ANN, "peer": peer, "tree": tree, "params": {}}
    return any_call(**{**told, **more})


def state(outcome: Any) -> str:
    assert isinstance(outcome, InputRequired)
    assert json.loads(bytes(outcome.members["resultType"])) == "input_required"
    told = json.loads(bytes(outcome.members["requestState"]))
    assert isinstance(told, str)
    return told


def asked(outcome: Any) -> dict[str, Any]:
    assert isinstance(outcome, InputRequired)
    told: dict[str, Any] = json.loads(bytes(outcome.members["inputRequests"]))
    return told


def retry(outcome: Any, *, responses: Mapping[str, Raw] | None = None, **more: Any) -> Call:
    """The call again, with what was asked answered."""
    if responses is None:
        responses = dict.fromkeys(asked(outcome), YES) if "inputRequests" in outcome.members else {}
    given = more.pop("state") if "state" in more else state(outcome)
    return call(answers=Answers(responses, given), **more)


def by_result(result: Mapping[str, Any]) -> Script:
    """Asks ``result`` once, then says what it got."""

    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        if "inputResponses" in outgoing.params or "requestState" in outgoing.params:
            return {"resultType": "complete", "content": []}
        return {"resultType": "input_required", **result}

    return script


WHO = {"who": {"method": ELICIT, "params": FORM}}


def inline(*asks: Question) -> Script:
    """Asks in the middle, all at once, and says what it got."""

    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        found: dict[str, Any] = {}

        async def one(question: Question) -> None:
            try:
                assert asker is not None
                found[question.method] = json.loads(bytes(await asker(question)))
            except McpError as error:
                found[question.method] = error.code

        async with asyncio.TaskGroup() as group:
            for question in asks:
                group.create_task(one(question))
        return found

    return script


def question(method: str, params: object) -> Question:
    return Question(method, Raw(json.dumps(params).encode()))


# --- nobody asks


@pytest.mark.parametrize("client", [MODERN, OLD])
@pytest.mark.parametrize("backend", [MODERN, OLD])
@pytest.mark.parametrize("capabilities", [b"{}", ALL])
async def test_a_result_that_asks_nothing_is_the_result(
    nest: Nest, client: Revision, backend: Revision, capabilities: bytes
) -> None:
    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        return b'{ "content":[1.0],"x":"input_required"}'

    world = World(nest, Backend(script, backend))
    outcome = await world.send(call(revision=client, capabilities=capabilities))
    assert (bytes(outcome.result), outcome.revision) == (b'{ "content":[1.0],"x":"input_required"}', backend)


async def test_the_word_of_an_older_backend_is_no_question(nest: Nest) -> None:
    world = World(nest, Backend(by_result({"inputRequests": WHO}), OLD, spec(isolation="shared")))
    assert isinstance(await world.send(call()), Complete)


# --- by result, by retry


@pytest.mark.parametrize("inner", [None, "", 'their "state" é'])
async def test_a_question_passes_with_the_state_sealed_and_comes_back_with_it_open(
    nest: Nest, inner: str | None
) -> None:
    given = {"inputRequests": WHO, "_meta": {"x": 1.0}} | ({} if inner is None else {"requestState": inner})
    backend = Backend(by_result(given))
    world = World(nest, backend)
    outcome = await world.send(call())
    assert asked(outcome) == WHO
    assert bytes(outcome.members["_meta"]) == b'{"x": 1.0}'
    assert not inner or inner not in state(outcome)
    assert isinstance(await world.send(retry(outcome)), Complete)
    expected = {"name": "original", "inputResponses": {"who": json.loads(bytes(YES))}}
    assert backend.sent == [{"name": "original"}, expected | ({} if inner is None else {"requestState": inner})]


async def test_a_backend_may_only_want_to_be_called_again(nest: Nest) -> None:
    backend = Backend(by_result({"requestState": "s"}))
    world = World(nest, backend)
    assert isinstance(await world.send(retry(await world.send(call(capabilities=b"{}")))), Complete)
    assert backend.sent[1] == {"name": "original", "requestState": "s"}, "absent stays absent"
    outcome = await world.send(call())
    await world.send(retry(outcome, tree={"inputResponses": {}}))
    assert backend.sent[3] == {"name": "original", "inputResponses": {}, "requestState": "s"}


async def test_answers_without_a_state_go_on_as_they_came(nest: Nest) -> None:
    modern = Backend(by_result({"inputRequests": WHO}))
    world = World(nest, modern, Backend(inline(), OLD, spec("old")))
    assert isinstance(await world.send(call(answers=Answers({"who": YES}))), Complete)
    assert modern.sent[0]["inputResponses"] == {"who": json.loads(bytes(YES))}
    await world.send(call(answers=Answers({"who": YES})), "old")
    assert world.backends["old"].sent == [{"name": "original"}], (
        "an older backend is asked anew and hears nothing of it"
    )


def face(**more: Any) -> Any:
    return SimpleNamespace(path="/other/mcp", **more)


FOREIGN: dict[str, dict[str, Any]] = {
    "another principal": {"identity": BOB},
    "nobody": {"identity": None},
    "another issuer": {"identity": Identity("other", "ann")},
    "one whose names run together": {"identity": Identity("", "iann")},
    "another tool": {"tree": {"name": "u"}, "name": "u"},
    "other arguments": {"tree": {"arguments": {"a": 1, "b": [2]}}},
    "no arguments": {"tree": {"arguments": None}},
    "one more parameter": {"tree": {"x": 1}},
    "another method": {"method": "prompts/get"},
    "another face": {"face": face()},
    "made up": {"state": "made up"},
    "empty": {"state": ""},
}


def backends() -> dict[str, Callable[[], Backend]]:
    async def pages(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        raise McpError(-32042, "sign in", {"elicitations": [{**PAGE, "elicitationId": "e"}]})

    return {
        "by result": lambda: Backend(by_result({"inputRequests": WHO, "requestState": "s"})),
        "inline": lambda: Backend(inline(question(ELICIT, FORM)), OLD),
        "by error": lambda: Backend(pages, OLD, spec(isolation="shared")),
    }


@pytest.mark.parametrize("way", backends())
@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_state_is_good_for_nobody_and_nothing_else(nest: Nest, way: str, foreign: str) -> None:
    backend = backends()[way]()
    world = World(nest, backend)
    outcome = await world.send(call())
    with pytest.raises(McpError, match="not valid") as refused:
        await world.send(retry(outcome, **FOREIGN[foreign]))
    assert refused.value.code == -32602
    assert len(backend.sent) == 1, "nothing reached the backend"
    assert len(world.parking) == (way == "inline"), "and a call that waits still does"


@pytest.mark.parametrize("way", backends())
async def test_a_state_that_is_tampered_with_or_late_or_of_another_backend_is_refused(nest: Nest, way: str) -> None:
    first, second = backends()[way](), backends()[way]()
    second.spec = spec("second")
    world = World(nest, first, second)
    outcome = await world.send(call())
    good = state(outcome)
    for bad in (good[:-1], "A" + good[1:] if good[0] != "A" else "B" + good[1:], good + "A", good.swapcase(), good * 2):
        with pytest.raises(McpError, match="not valid"):
            await world.send(retry(outcome, state=bad))
    with pytest.raises(McpError, match="not valid"):
        await world.send(retry(outcome), "second")
    with pytest.raises(McpError, match="not valid"):
        await World(nest, first).send(retry(outcome))  # another key
    world.now += VALID
    with pytest.raises(McpError, match="not valid"):
        await world.send(retry(outcome))
    assert (len(first.sent), len(second.sent)) == (1, 0)


def test_the_same_request_is_the_same_whatever_belongs_to_the_hop() -> None:
    one = call(tree={"_meta": {"progressToken": 1}, "arguments": {"a": 1, "b": 2}})
    other = call(tree={"inputResponses": {"x": {}}, "requestState": "s", "arguments": {"b": 2, "a": 1}})
    assert digest(one) == digest(other)
    assert digest(one) != digest(call(tree={"arguments": {"a": 1, "b": "2"}}))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({}, "does not say with what"),
        ({"inputRequests": {}}, "does not say with what"),
        ({"inputRequests": WHO, "requestState": 7}, "no string"),
        ({"inputRequests": {"a": 1}}, "cannot be read"),
        ({"inputRequests": {"a": {"method": "tools/call", "params": {}}}}, "did not declare"),
    ],
)
async def test_a_question_that_breaks_the_rules_is_the_backends_error(
    nest: Nest, result: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(McpError, match=words) as refused:
        await World(nest, Backend(by_result(result))).send(call())
    assert (refused.value.code, refused.value.vmcp_code) == (-32603, 5001)


@pytest.mark.parametrize("client", [MODERN, OLD])
@pytest.mark.parametrize(
    ("capabilities", "allow", "ask"),
    [
        (b"{}", Allow(sampling=True), {"method": SAMPLE, "params": {}}),
        (b'{"roots":{},"elicitation":{}}', Allow(sampling=True), {"method": SAMPLE, "params": {}}),
        (ALL, Allow(sampling=False), {"method": SAMPLE, "params": {}}),
        (ALL, Allow(roots=False), {"method": ROOTS}),
        (ALL, Allow(url=False), {"method": ELICIT, "params": PAGE}),
        (b'{"elicitation":{}}', Allow(url=True), {"method": ELICIT, "params": PAGE}),
        (ALL, Allow(form=False), {"method": ELICIT, "params": FORM}),
    ],
)
async def test_a_client_never_sees_a_question_that_it_did_not_declare_or_that_is_not_allowed(
    nest: Nest, client: Revision, capabilities: bytes, allow: Allow, ask: Mapping[str, Any]
) -> None:
    backend = Backend(by_result({"inputRequests": {"fine": {"method": ELICIT, "params": FORM}, "x": ask}}))
    backend.spec = spec(allow=allow)
    with pytest.raises(McpError, match="did not declare or may not be asked"):
        await World(nest, backend).send(call(revision=client, capabilities=capabilities, client=Inline()))


async def test_only_three_methods_may_be_answered_with_a_question(nest: Nest) -> None:
    with pytest.raises(McpError, match="not allowed"):
        await World(nest, Backend(by_result({"inputRequests": WHO}))).send(call(method="completion/complete"))


# --- in the middle, by retry


async def test_a_question_in_the_middle_waits_for_the_retry_and_the_call_runs_once(nest: Nest) -> None:
    sample = {"messages": [], "_meta": {"progressToken": 1}, "task": {}}
    backend = Backend(inline(question(ELICIT, {**PAGE, "elicitationId": "e"}), question(SAMPLE, sample)), OLD)
    world = World(nest, backend)
    outcome = await world.send(call())
    assert asked(outcome) == {
        "q1": {"method": ELICIT, "params": PAGE},
        "q2": {"method": SAMPLE, "params": {"messages": []}},
    }
    again = await world.send(retry(outcome, responses={"q1": YES}))
    assert asked(again).keys() == {"q2"}
    content = [{"type": "text", "text": "hi"}]
    told = await world.send(retry(again, responses={"q2": Raw(json.dumps({"content": content}).encode())}))
    assert json.loads(bytes(told.result)) == {ELICIT: json.loads(bytes(YES)), SAMPLE: {"content": content}}
    assert backend.sent == [{"name": "original"}], "it was called once"
    for late in (outcome, again):
        with pytest.raises(McpError, match="not valid"):
            await world.send(retry(late, responses={"q1": YES, "q2": YES}))


async def test_of_several_workers_the_state_of_a_call_that_waits_says_which_has_it(nest: Nest) -> None:
    common = Common(())
    waiting = inline(question(ELICIT, PAGE))
    one, other = (World(nest, Backend(waiting, OLD), crew=Crew(common, index)) for index in range(2))
    outcome = await one.send(call())
    marked = state(outcome)
    assert marked.startswith("0.")
    for forged in (marked, f"1{marked[1:]}"):
        with pytest.raises(McpError, match="not valid"):
            await other.send(retry(outcome, state=forged))
    assert isinstance(await one.send(retry(outcome)), Complete)


@pytest.mark.parametrize(("given", "marked"), [({}, False), ({"requestState": "known to one child"}, True)])
async def test_any_worker_goes_on_with_a_call_that_waits_nowhere(
    given: dict[str, str], marked: bool, nest: Nest
) -> None:
    common = Common(())
    backend = Backend(by_result({"inputRequests": WHO, **given}))
    one, other = (World(nest, backend, crew=Crew(common, index)) for index in range(2))
    outcome = await one.send(call())
    assert ("." in state(outcome)) is marked, "but the state of a backend may be known to the worker's own child alone"
    assert isinstance(await other.send(retry(outcome)), Complete)


async def test_an_answer_reaches_an_older_backend_in_its_own_words(nest: Nest) -> None:
    world = World(nest, Backend(inline(question(SAMPLE, {"messages": []})), Revision.V2025_06_18))
    outcome = await world.send(call())
    answer = Raw(b'{"content":[{"type":"text"}]}')
    told = await world.send(retry(outcome, responses={"q1": answer}))
    assert json.loads(bytes(told.result)) == {SAMPLE: {"content": {"type": "text"}}}


async def test_the_backend_is_told_at_once_what_this_client_cannot_be_asked(nest: Nest) -> None:
    world = World(nest, Backend(inline(question(SAMPLE, {}), question(ELICIT, PAGE)), OLD))
    told = await world.send(call(capabilities=b'{"elicitation":{}}'))
    assert json.loads(bytes(told.result)) == {SAMPLE: -32601, ELICIT: -32602}


@pytest.mark.parametrize(
    "more", [{"capabilities": b"{}"}, {"capabilities": b'{"x":{}}'}, {"method": "completion/complete"}]
)
async def test_who_cannot_be_asked_is_not_parked(nest: Nest, more: dict[str, Any]) -> None:
    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        assert asker is None
        return {}

    assert isinstance(await World(nest, Backend(script, OLD)).send(call(**more)), Complete)


async def test_over_a_shared_link_nobody_is_asked(nest: Nest) -> None:
    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        assert asker is None
        return {}

    assert isinstance(await World(nest, Backend(script, OLD, spec(isolation="shared"))).send(call()), Complete)


@pytest.mark.parametrize("revision", [MODERN, OLD])
async def test_a_backend_that_has_not_said_yet_what_it_speaks_may_ask_either_way(
    nest: Nest, revision: Revision
) -> None:
    script = by_result({"inputRequests": WHO}) if revision.modern else inline(question(ELICIT, FORM))
    world = World(nest, Backend(script, revision, known=False))
    outcome = await world.send(call())
    assert len(world.parking) == (not revision.modern)
    assert next(iter(asked(outcome).values())) == {"method": ELICIT, "params": FORM}


async def test_a_retry_that_declares_less_is_not_asked_more(nest: Nest) -> None:
    world = World(nest, Backend(inline(question(ELICIT, FORM), question(ROOTS, {})), OLD))
    outcome = await world.send(call())
    with pytest.raises(McpError, match="did not declare"):
        await world.send(retry(outcome, responses={"q1": YES}, capabilities=b'{"elicitation":{}}'))


@pytest.mark.parametrize("when", ["first", "then"])
async def test_the_error_of_a_call_that_was_parked_is_the_calls_error(nest: Nest, when: str) -> None:
    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        assert asker is not None
        if when == "then":
            await asker(question(ELICIT, FORM))
        raise McpError(-7, "broken")

    world = World(nest, Backend(script, OLD))
    with pytest.raises(McpError, match="broken") as refused:
        await world.send(retry(await world.send(call())))
    assert refused.value.code == -7


# --- in the middle, in the middle


async def test_a_question_goes_straight_through_to_a_client_that_can_be_asked(nest: Nest) -> None:
    backend = Backend(inline(question(SAMPLE, {"messages": []}), question(ROOTS, {"_meta": {"progressToken": 1}})), OLD)
    client = Inline()
    told = await World(nest, backend).send(call(revision=OLD, client=client))
    assert json.loads(bytes(told.result)).keys() == {SAMPLE, ROOTS}
    assert {asked.method: json.loads(bytes(asked.params)) for asked in client.asked} == {
        SAMPLE: {"messages": []},
        ROOTS: {},
    }


async def test_an_older_backend_is_passed_on_in_its_own_words_and_answered_in_them(nest: Nest) -> None:
    messages = [{"role": "user", "content": [{"n": 1}, {"n": 2}]}]
    client = Inline()
    world = World(nest, Backend(inline(question(SAMPLE, {"messages": messages})), Revision.V2025_06_18))
    told = await world.send(call(revision=Revision.V2025_03_26, client=client))
    assert client.asked == [question(SAMPLE, {"messages": messages})]
    assert json.loads(bytes(told.result))[SAMPLE]["content"] == {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    ("revision", "capabilities", "allow"),
    [
        (OLD, b'{"roots":{}}', Allow(sampling=True)),
        (OLD, b'{"roots":{},"elicitation":{"url":{}}}', Allow(url=True, roots=True)),
        (OLD, b'{"roots":{},"elicitation":{}}', Allow(form=False, roots=True)),
        (Revision.V2025_03_26, b'{"roots":{}}', Allow(roots=True)),
    ],
)
async def test_a_question_that_the_client_cannot_take_is_refused_to_the_backend(
    nest: Nest, revision: Revision, capabilities: bytes, allow: Allow
) -> None:
    client = Inline()

    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        if asker is not None:
            with pytest.raises(McpError):
                await asker(question(ELICIT, FORM))
        return {}

    await World(nest, Backend(script, OLD, spec(allow=allow))).send(
        call(revision=revision, capabilities=capabilities, client=client)
    )
    assert client.asked == []


async def test_a_client_without_a_way_back_is_not_asked(nest: Nest) -> None:
    async def script(call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        assert asker is None
        return {}

    await World(nest, Backend(script, OLD)).send(call(revision=OLD, client=Inline(can_ask=False)))


# --- by error: pages of 2025-11-25


@dataclass
class Pages:
    """Refuses until it is called the third time."""

    data: object
    calls: int = 0

    async def __call__(self, call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        self.calls += 1
        if self.calls < 3:
            raise McpError(-32042, "sign in first", self.data)
        return {"content": []}


@pytest.mark.parametrize("isolation", ["shared", "session"])
async def test_pages_to_visit_first_are_asked_for_and_the_call_begins_anew(nest: Nest, isolation: str) -> None:
    backend = Backend(Pages({"elicitations": [{**PAGE, "elicitationId": "e"}]}), OLD, spec(isolation=isolation))
    world = World(nest, backend)
    outcome = await world.send(call())
    assert asked(outcome) == {"page-1": {"method": ELICIT, "params": PAGE}}
    again = await world.send(retry(outcome, responses={}))
    assert asked(again) == asked(outcome), "it was not visited yet"
    assert isinstance(await world.send(retry(again)), Complete)
    assert backend.sent == [{"name": "original"}] * 3, "what the client brought is not the backend's"


async def test_a_page_that_its_user_declines_ends_the_call(nest: Nest) -> None:
    backend = Backend(Pages({"elicitations": [PAGE]}), OLD)
    world = World(nest, backend)
    outcome = await world.send(call())
    with pytest.raises(McpError, match="did not agree"):
        await world.send(retry(outcome, responses={"page-1": Raw(b'{"action":"decline"}')}))
    assert len(backend.sent) == 1


@pytest.mark.parametrize(
    ("more", "allow", "data", "code"),
    [
        ({"capabilities": b'{"elicitation":{}}'}, Allow(url=True), {"elicitations": [PAGE]}, -32021),
        ({}, Allow(url=False), {"elicitations": [PAGE]}, -32603),
        ({}, Allow(url=True), {"elicitations": [{**PAGE, "url": "javascript:x"}]}, -32603),
        ({}, Allow(url=True), None, -32603),
        ({"method": "completion/complete"}, Allow(url=True), {"elicitations": [PAGE]}, -32603),
        ({"revision": OLD}, Allow(url=True), {"elicitations": [PAGE]}, -32042),
    ],
)
async def test_a_page_that_cannot_be_asked_for_is_an_error_of_the_clients_revision(
    nest: Nest, more: dict[str, Any], allow: Allow, data: object, code: int
) -> None:
    backend = Backend(Pages(data), OLD, spec(allow=allow, isolation="shared"))
    with pytest.raises(McpError) as refused:
        await World(nest, backend).send(call(**more))
    assert refused.value.code == code
    if code == -32021:
        assert refused.value.data == {"requiredCapabilities": {"elicitation": {"url": {}}}}


# --- by vmcp itself: its user has to consent


class Needed:
    """Wants a consent until it is there."""

    def __init__(self) -> None:
        self.there = False

    async def __call__(self, call: Call, outgoing: Outgoing, asker: Asker | None) -> object:
        if not self.there:
            raise ConsentRequired("b", "http://127.0.0.1:4483/oauth/start?invitation=x")
        return {"content": []}


LINK = "http://127.0.0.1:4483/oauth/start?invitation=x"


@pytest.mark.parametrize("revision", [MODERN, OLD], ids=str)
@pytest.mark.parametrize("allow", [Allow(), Allow(url=True)])
async def test_a_consent_is_asked_for_whatever_the_backend_may_ask(
    nest: Nest, revision: Revision, allow: Allow
) -> None:
    needed = Needed()
    world = World(nest, Backend(needed, revision, spec(allow=allow)))
    outcome = await world.send(call())
    question = asked(outcome)["consent"]
    assert (question["method"], question["params"]["mode"], question["params"]["url"]) == (ELICIT, "url", LINK)
    again = await world.send(retry(outcome, responses={"consent": Raw(b'{"action":"accept"}')}))
    assert asked(again) == asked(outcome), "it was not given yet"
    needed.there = True
    assert isinstance(await world.send(retry(again, responses={"consent": Raw(b'{"action":"accept"}')})), Complete)
    with pytest.raises(McpError, match="did not agree"):
        await world.send(retry(outcome, responses={"consent": Raw(b'{"action":"decline"}')}))


async def test_a_client_of_2025_11_25_is_refused_with_the_page_to_visit(nest: Nest) -> None:
    with pytest.raises(McpError) as refused:
        await World(nest, Backend(Needed())).send(call(revision=OLD, client=Inline()))
    assert (refused.value.code, refused.value.vmcp_code) == (-32042, 3000)
    told = json.loads(json.dumps(refused.value.data, default=lambda raw: json.loads(bytes(raw))))
    (page,) = told["elicitations"]
    assert (page["mode"], page["url"], len(page["elicitationId"])) == ("url", LINK, 32)


@pytest.mark.parametrize(
    "more",
    [
        {"capabilities": b"{}"},
        {"capabilities": b'{"elicitation":{}}'},
        {"revision": OLD, "capabilities": b'{"elicitation":{"form":{}}}'},
        {"revision": Revision.V2025_06_18},
        {"method": "completion/complete"},
        {"revision": OLD, "method": "completion/complete"},
    ],
    ids=str,
)
async def test_who_cannot_be_asked_is_told_where_to_go(nest: Nest, more: dict[str, Any]) -> None:
    client = {"client": Inline()} if "revision" in more else {}
    with pytest.raises(ConsentRequired) as refused:
        await World(nest, Backend(Needed())).send(call(**client, **more))
    assert (refused.value.code, refused.value.vmcp_code) == (-32603, 3000)
    assert LINK in refused.value.message
