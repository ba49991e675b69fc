"""One MCP server of one revision, whatever carries it, and a memory of what happened to it.

The rule: it speaks as strictly as its revision allows, knows nothing of vmcp, and writes down under ``complaints`` what a client
must not have sent, so that what a gateway does wrong towards backends is seen even when the answer is right.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]

MODERN = "2026-07-28"
HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
REVISIONS = (*HANDSHAKE, MODERN)
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
RESERVED = "io.modelcontextprotocol/"
CACHED = {
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
}
INFO = {"name": "world", "version": "1"}
SECONDS = float(os.environ.get("ERAS_SECONDS", "20"))


class RefusalError(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.error: Json = {"code": code, "message": message} | ({} if data is None else {"data": data})


class InputNeededError(Exception):
    """A result of 2026-07-28 that asks first."""

    def __init__(self, questions: Json, state: str) -> None:
        super().__init__(questions, state)
        self.result = {"resultType": "input_required", "inputRequests": questions, "requestState": state}


@dataclass(eq=False)
class Session:
    """A client as this server sees it: for the handshake revisions a session, for 2026-07-28 a wire or a single request."""

    capabilities: Json = field(default_factory=dict)
    level: str = "debug"
    standing: list[Send] = field(default_factory=list)
    subscribed: set[str] = field(default_factory=set)
    pending: dict[int, asyncio.Future[Json]] = field(default_factory=dict)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)


@dataclass(eq=False)
class Request:
    """One request being answered."""

    id: Any
    method: str
    params: Json
    session: Session
    send: Send
    revision: str

    @property
    def meta(self) -> Json:
        return dict(self.params.get("_meta", {}))

    @property
    def arguments(self) -> Json:
        return dict(self.params.get("arguments") or {})

    @property
    def capabilities(self) -> Json:
        """What the client declared: in its request, or when it said hello."""
        if self.revision == MODERN:
            return dict(self.meta[f"{RESERVED}clientCapabilities"])
        return self.session.capabilities

    @property
    def level(self) -> str | None:
        """The least severe message that is wanted with this request."""
        return self.meta.get(f"{RESERVED}logLevel") if self.revision == MODERN else self.session.level

    async def notify(self, method: str, params: Json) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})


def said(text: str, **more: Any) -> Json:
    """A tool's result of one text."""
    return {"content": [{"type": "text", "text": text}], **more}


class World:
    """The server. ``methods`` is what it offers (tools.py); ``spawn`` starts a task that lives as long as the server."""

    def __init__(
        self, name: str, revision: str, methods: "Methods", spawn: Callable[[Any], asyncio.Task[None]]
    ) -> None:
        self.name, self.revision, self.spawn = name, revision, spawn
        self.methods = {**PROTOCOL, **methods}
        self.modern = revision == MODERN
        self.sessions: set[Session] = set()
        self.listeners: dict[object, tuple[Json, Request]] = {}
        self.grown: list[str] = []
        self.complaints: list[str] = []
        self.started: set[str] = set()
        self.cancelled: set[str] = set()
        self.asked = 0
        self._waiting: set[asyncio.Event] = set()
        self._changes = itertools.count(1)
        self._ids = itertools.count(1)

    def note(self, what: set[str], nonce: str) -> None:
        """Remember that something happened."""
        what.add(nonce)
        for waiting in list(self._waiting):
            waiting.set()

    def leaves(self, session: Session) -> None:
        """A session is over."""
        self.sessions.discard(session)
        self.note(set(), "")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that ``note`` tells of."""
        news = asyncio.Event()
        self._waiting.add(news)
        try:
            async with asyncio.timeout(SECONDS):
                while not condition():
                    news.clear()
                    await news.wait()
        except TimeoutError:
            raise AssertionError(f"did not happen: {what}") from None
        finally:
            self._waiting.discard(news)

    def complain(self, what: str) -> None:
        if len(self.complaints) < 20:
            self.complaints.append(f"{self.name}: {what}")

    # -- messages -------------------------------------------------------------------------------------------------------

    async def take(self, session: Session, message: Json, send: Send) -> None:
        """One message of a client, to its end; what belongs to it goes through ``send``."""
        if "method" not in message:
            self._answered(session, message)
        elif "id" not in message:
            self._noted(session, message)
        else:
            await self._request(session, message, send)

    def _answered(self, session: Session, message: Json) -> None:
        waiting = session.pending.pop(message.get("id"), None)  # type: ignore[arg-type]
        if waiting is None or waiting.done():
            self.complain(f"a reply to nothing: {json.dumps(message)[:200]}")
        else:
            waiting.set_result(message)

    def _noted(self, session: Session, message: Json) -> None:
        if message["method"] == "notifications/cancelled":
            task = session.running.get(json.dumps(message.get("params", {}).get("requestId")))
            if task is not None:
                task.cancel()
        elif message["method"] not in ("notifications/initialized", "notifications/roots/list_changed"):
            self.complain(f"unexpected notification {message['method']}")

    async def _request(self, session: Session, message: Json, send: Send) -> None:
        key = json.dumps(message["id"])
        if key in session.running and not self.modern:
            self.complain(f"id {key} is used twice at a time")
        task = self.spawn(self._reply(session, message, send))
        session.running[key] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            session.running.pop(key, None)

    async def _reply(self, session: Session, message: Json, send: Send) -> None:
        self.asked += 1
        request = Request(message["id"], message["method"], message.get("params", {}), session, send, self.revision)
        reply: Json = {"jsonrpc": "2.0", "id": request.id}
        try:
            result = await self._result(request)
            if self.modern:
                result = {"resultType": "complete", **result}
            if self.modern and request.method in CACHED:
                result |= {"ttlMs": 0, "cacheScope": "private"}
            reply["result"] = result
        except InputNeededError as needed:
            reply["result"] = needed.result
        except RefusalError as refusal:
            reply["error"] = refusal.error
        await send(reply)

    # -- methods --------------------------------------------------------------------------------------------------------

    async def _result(self, request: Request) -> Json:
        if self.modern:
            self._check_envelope(request)
        method = self.methods.get(request.method)
        foreign = request.method in (HANDSHAKE_ONLY if self.modern else MODERN_ONLY)
        if method is None or foreign:
            raise RefusalError(-32601, f"no method {request.method} in {self.revision}")
        return await method(self, request)

    def _check_envelope(self, request: Request) -> None:
        meta = request.meta
        missing = [key for key in ("protocolVersion", "clientCapabilities") if RESERVED + key not in meta]
        if missing:
            raise RefusalError(-32602, f"_meta lacks {missing}")
        if meta[f"{RESERVED}protocolVersion"] != MODERN:
            raise RefusalError(-32022, "no such revision", {"supported": [MODERN], "requested": "another"})

    def offers(self) -> Json:
        """The capabilities of a server of this revision."""
        offers: Json = {
            "tools": {"listChanged": True},
            "prompts": {"listChanged": True},
            "resources": {"subscribe": True, "listChanged": True},
            "logging": {},
        }
        return offers if self.revision == "2024-11-05" else offers | {"completions": {}}

    async def initialize(self, request: Request) -> Json:
        session = request.session
        session.capabilities = request.params["capabilities"]
        self.sessions.add(session)
        return {"protocolVersion": self.revision, "capabilities": self.offers(), "serverInfo": INFO}

    async def discover(self, request: Request) -> Json:
        return {"supportedVersions": [MODERN], "capabilities": self.offers(), "_meta": {f"{RESERVED}serverInfo": INFO}}

    async def nothing(self, request: Request) -> Json:
        return {}

    async def set_level(self, request: Request) -> Json:
        if request.params["level"] not in LEVELS:
            raise RefusalError(-32602, "no such level")
        request.session.level = request.params["level"]
        return {}

    async def subscribe(self, request: Request) -> Json:
        self._own(request.params["uri"])
        request.session.subscribed.add(request.params["uri"])
        return {}

    async def unsubscribe(self, request: Request) -> Json:
        request.session.subscribed.discard(request.params["uri"])
        return {}

    async def listen(self, request: Request) -> Json:
        """Acknowledge, then stay until told to go."""
        wanted = {key: value for key, value in request.params["notifications"].items() if value}
        for uri in wanted.get("resourceSubscriptions", ()):
            self._own(uri)
        tag = {"_meta": {f"{RESERVED}subscriptionId": request.id}}
        await request.notify("notifications/subscriptions/acknowledged", {"notifications": wanted, **tag})
        self.listeners[request] = (wanted, request)
        try:
            await asyncio.Event().wait()
        finally:
            del self.listeners[request]
        return tag

    # -- what happens to everybody --------------------------------------------------------------------------------------

    async def tools_changed(self) -> None:
        for wanted, request in list(self.listeners.values()):
            if wanted.get("toolsListChanged"):
                await self._tag(request, "notifications/tools/list_changed", {})
        for session in list(self.sessions):
            for send in session.standing[:1]:
                await send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

    async def updated(self, uri: str) -> None:
        method, meta = "notifications/resources/updated", {"world/change": next(self._changes)}
        params = {"uri": uri, "_meta": meta}
        for wanted, request in list(self.listeners.values()):
            if uri in wanted.get("resourceSubscriptions", ()):
                await self._tag(request, method, params)
        for session in list(self.sessions):
            for send in session.standing[:1] if uri in session.subscribed else ():
                await send({"jsonrpc": "2.0", "method": method, "params": params})

    async def _tag(self, request: Request, method: str, params: Json) -> None:
        await request.notify(
            method, {**params, "_meta": {**params.get("_meta", {}), f"{RESERVED}subscriptionId": request.id}}
        )

    def _own(self, uri: str) -> None:
        if not uri.startswith(f"note://{self.name}/"):
            raise RefusalError(-32602 if self.modern else -32002, "no such resource", {"uri": uri})

    # -- questions ------------------------------------------------------------------------------------------------------

    async def ask(self, request: Request, key: str, method: str, params: Json) -> Json:
        """The client's answer to one question, by whatever way this revision asks."""
        needs = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}[
            method
        ]
        if needs not in request.capabilities:
            raise RefusalError(-32021 if self.modern else 4242, f"needs {needs}", {"requiredCapabilities": {needs: {}}})
        question = {"method": method, **({"params": params} if params else {})}
        if not self.modern:
            return await self._inline(request, question)
        state = f"state of {self.name} for {request.arguments.get('nonce')}"
        answers = request.params.get("inputResponses", {})
        if key not in answers:
            raise InputNeededError({key: question}, state)
        if request.params.get("requestState") != state:
            self.complain(f"requestState came back as {request.params.get('requestState')!r}")
        return dict(answers[key])

    async def _inline(self, request: Request, question: Json) -> Json:
        number = next(self._ids)
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        request.session.pending[number] = waiting
        await request.send({"jsonrpc": "2.0", "id": number, **question})
        try:
            async with asyncio.timeout(SECONDS):
                reply = await waiting
        finally:
            request.session.pending.pop(number, None)
        if "error" in reply:
            raise RefusalError(4243, "the client could not answer", reply["error"])
        return dict(reply["result"])


Methods = Mapping[str, Callable[[World, Request], Awaitable[Json]]]
PROTOCOL: Methods = {
    "initialize": World.initialize,
    "server/discover": World.discover,
    "ping": World.nothing,
    "logging/setLevel": World.set_level,
    "resources/subscribe": World.subscribe,
    "resources/unsubscribe": World.unsubscribe,
    "subscriptions/listen": World.listen,
}
HANDSHAKE_ONLY = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
MODERN_ONLY = {"server/discover", "subscriptions/listen"}
