"""What long lists, large tables, standing still and stdio cost: ``python bench/lists.py [SCENARIO …]``.

The one rule: nothing is told alone. Beside each figure stands the same thing without vmcp, or in another size, of the same run.
CPU is the kernel's account of the process, so neighbours slow a run down and change little of what it says.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import prepare
from actor import Backend, Client, Json
from calls import CLIENT, HANDSHAKE, SIZES, STATELESS, Load, open_session, plan
from house import ROOT, Figure, House, free_port, serving
from reliability import table

ENDLESS: Final = {"pageSize": 100_000}
SETTLES: Final = 0.02
"""Seconds until a process sleeps that has answered: what a running one has used is not in the account yet."""
MIB: Final = 1 << 20
CALLERS: Final = 24
POLICIES: Final = (
    'permit(principal, action, resource) when { resource.backend like "b*1" || resource.backend like "b*2" };',
    'permit(principal in Role::"dev", action, resource) when { resource.backend like "b*" };',
    'permit(principal == Client::"u0", action, resource in Backend::"b17");',
    'forbid(principal, action, resource) when { resource.original == "t3" };',
)

FLOOR = """
import asyncio, sys, uvloop
body = b"x" * int(sys.argv[2])
head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
class Floor(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.writelines([head, body])
async def main():
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""
"""The least that it can cost to send so many bytes from Python: one answer, made before, whatever is asked."""

CHILD = """
import os, re, sys
find = re.compile(rb'"id": ?([0-9]+)').search
hello = b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"c","version":"1"}}'
tools = b'{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}'
text = b'{"content":[{"type":"text","text":"%s"}]}' % sys.argv[1].encode()
told = {b"initialize": hello, b"tools/list": tools, b"tools/call": text}
rest = b""
while data := os.read(0, 1 << 18):
    *lines, rest = (rest + data).split(b"\\n")
    said = b""
    for line in lines:
        at = find(line)
        if at:
            method = re.search(rb'"method": ?"([^"]*)', line)[1]
            what = told.get(method, b"{}")
            said += b'{"jsonrpc":"2.0","id":%s,"result":%s}\\n' % (at[1], what)
    while said:
        said = said[os.write(1, said):]
"""
"""A server over stdio that needs less than it is asked by."""


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far, its threads that have ended among them."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process, as clock_getcpuclockid(3) makes it


class Offering(Backend):
    """A backend whose tools are described as real ones are, in about 650 bytes."""

    async def _told(self, asked: Json) -> Json | None:
        if asked["method"] != "tools/list":
            return await super()._told(asked)
        return {"tools": [described(name) for name in self.tools]}


def described(name: str) -> Json:
    """One tool."""
    properties = {
        f"argument_{n}": {"type": "string", "description": "What is wanted of it, in a few words"} for n in range(5)
    }
    schema = {"type": "object", "properties": properties, "required": ["argument_0"], "additionalProperties": False}
    return {"name": name, "description": f"Does what {name} does. " * 3, "inputSchema": schema}


@contextlib.asynccontextmanager
async def behind(count: int, tools: int, **more: Any) -> AsyncIterator[House]:
    """A vmcp with so many backends of so many tools."""
    backends = [await Offering([f"t{n}" for n in range(tools)]).start() for _ in range(count)]
    specs = {f"b{n}": {"url": each.url, "transport": "streamable-http"} for n, each in enumerate(backends)}
    try:
        async with serving(specs, **more) as house:
            yield house
    finally:
        for each in backends:
            await each.stop()


def _asked(era: str, key: str) -> tuple[Json, dict[str, str]]:
    told = {
        "io.modelcontextprotocol/protocolVersion": era,
        "io.modelcontextprotocol/clientInfo": CLIENT,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"MCP-Protocol-Version": era, "Mcp-Method": "tools/list"} if era == STATELESS else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
    return message | ({"params": {"_meta": told}} if era == STATELESS else {}), headers


class Lister:
    """Somebody who lists tools, and what it took of the process that lists them."""

    def __init__(self, port: int, pid: int, era: str, key: str = "") -> None:
        self._client = Client(port)
        self._pid = pid
        self._era = era
        self.key = key
        self._message, self._headers = _asked(era, key)

    def ask(self, method: str) -> None:
        """Ask something else from now on."""
        self._message = self._message | {"method": method}

    async def open(self) -> "Lister":
        """Be connected, known and ready to ask."""
        if self._era == HANDSHAKE:
            told = {"protocolVersion": self._era, "capabilities": {}, "clientInfo": CLIENT}
            hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": told}
            _, head, _ = await self._client.post(hello, **self._headers)
            named = re.search(rb"(?i)\r\nmcp-session-id: (\S+)", head)
            self._client.session = named[1].decode() if named is not None else None
        else:
            discover = {"Mcp-Method": "server/discover"}
            await self._client.post(self._message | {"method": "server/discover"}, **(self._headers | discover))
        return self

    async def once(self, times: int = 1) -> tuple[float, bytes]:
        """CPU seconds of one list, if so many are asked for one after the other, and its text."""
        before = cpu(self._pid)
        for _ in range(times):
            status, _, body = await self._client.post(self._message, **self._headers)
            assert status == 200, body[:300]
        await asyncio.sleep(SETTLES)
        return (cpu(self._pid) - before) / times, body

    def close(self) -> None:
        self._client.close()


@contextlib.asynccontextmanager
async def floor(size: int) -> AsyncIterator[Lister]:
    """Who sends so many bytes and does nothing else."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", FLOOR, str(port), str(size)])  # noqa: ASYNC220 - at once
    try:
        lister = Lister(port, process.pid, STATELESS)
        async with asyncio.timeout(20):
            while True:
                try:
                    await lister.once()
                    break
                except ConnectionError:
                    await asyncio.sleep(0.05)
        yield lister
        lister.close()
    finally:
        process.kill()
        process.wait()


async def _interleaved(rounds: int, *listers: Lister) -> list[float]:
    """The median of each over the rounds, in µs; they are asked in turn, ten times each."""
    found: list[list[float]] = [[] for _ in listers]
    for _ in range(rounds):
        for lister, costs in zip(listers, found, strict=True):
            costs.append((await lister.once(10))[0] * 1e6)
    return [statistics.median(costs) for costs in found]


def _keys(count: int) -> tuple[list[str], Json]:
    """API keys of so many people, half of whom have a role; and the configuration that knows them."""
    keys = [f"bench-key-{n:04}-0123456789abcdef0123456789abcdef" for n in range(count)]
    known = [
        {
            "subject": f"u{n}",
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "claims": {"roles": ["dev"] if n % 2 else ["ops"]},
        }
        for n, key in enumerate(keys)
    ]
    authz = {"type": "cedar", "policies": list(POLICIES), "groupEntityType": "Role"}
    return keys, {"incomingAuth": {"type": "local", "local": {"keys": known}, "authz": authz}}


async def lists(rounds: int) -> list[Figure]:
    """100 backends of 20 tools: everybody's list, and those of people who may see some of it."""
    figures: list[Figure] = []
    async with behind(100, 20, limits=ENDLESS) as house:
        for era in (HANDSHAKE, STATELESS):
            lister = await Lister(house.port, house.pid, era).open()
            figures += await _weighed(house, era, "whole", [lister], rounds)
    keys, known = _keys(CALLERS)
    async with behind(100, 20, limits=ENDLESS, **known) as house:
        for era in (HANDSHAKE, STATELESS):
            half = keys[: CALLERS // 2] if era == HANDSHAKE else keys[CALLERS // 2 :]
            people = [await Lister(house.port, house.pid, era, key).open() for key in half]
            figures += await _weighed(house, era, "filtered", people, rounds)
    return figures


async def _weighed(house: House, era: str, name: str, people: list[Lister], rounds: int) -> list[Figure]:
    """What lists take beyond what any request takes and what it takes to send so many bytes; and all of these."""
    firsts = [await lister.once() for lister in people]
    size, asked = len(firsts[-1][1]), 100 if name == "whole" else 400
    ping = await Lister(house.port, house.pid, HANDSHAKE, people[0].key).open()
    ping.ask("ping")
    async with floor(size) as much, floor(100) as little:
        await _interleaved(4, *people[:4], ping, much, little)
        alone = statistics.median([(await ping.once())[0] * 1e6 for _ in range(12)])
        *ours, any_, large, small = await _interleaved(rounds, *people[:4], ping, much, little)
    for each in (*people, ping):
        each.close()
    sending, warm = large - small, statistics.median(ours)
    told = f"{era}, {name}, {size / 1e6:.2f} MB"
    figures = [
        Figure("LIST", f"{told}: CPU beyond that of any request and of sending it", warm - any_ - sending, asked, "µs"),
        Figure("LIST", f"{told}: CPU in all", warm, None, "µs"),
        Figure("LIST", f"{told}: CPU of a ping", any_, None, "µs"),
        Figure("LIST", f"{told}: CPU of sending it", sending, None, "µs"),
        Figure("LIST", f"{told}: in all, against a ping and sending it", warm / (any_ + sending), None, "×"),
    ]
    if name == "filtered":
        first, *others = (seconds * 1e6 for seconds, _ in firsts)
        more = statistics.median(others) - alone - sending
        figures.append(Figure("LIST", f"{told}: the first of {len(people)} callers, in all", first, None, "µs"))
        figures.append(
            Figure(
                "LIST", f"{told}: the first list of each other, beyond sending it and a lone ping", more, asked, "µs"
            )
        )
    return figures


BUILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from lists import built
print(built(int(sys.argv[2])))
"""


def built(tools: int) -> float:
    """CPU seconds of one table of 100 backends with so many tools in all; best of five, in a process of its own."""
    sys.path.insert(0, str(ROOT))
    from vmcp.config.load import load  # noqa: PLC0415 - the others need none of it
    from vmcp.protocol.revisions import Revision  # noqa: PLC0415
    from vmcp.routing import catalog  # noqa: PLC0415
    from vmcp.routing.build import build  # noqa: PLC0415

    specs = {f"b{n}": {"url": f"http://127.0.0.1:1/{n}"} for n in range(100)}
    config, *_ = load([("x.yaml", json.dumps({"name": "x", "groups": {"all": {"backends": specs}}}))], {})
    texts = [json.dumps(described(f"t{n}")).encode() for n in range(tools // 100)]
    offered = {
        name: catalog.of(name, Revision.V2025_11_25, {"tools": {}}, "", {catalog.Kind.TOOL: texts}) for name in specs
    }
    best = float("inf")
    for number in range(5):
        began = time.process_time()
        build(number, config, offered)
        best = min(best, time.process_time() - began)
    return best


async def many(_rounds: int) -> list[Figure]:
    """10,000 tools of 100 backends, beside 1,000 of as many."""
    figures: list[Figure] = []
    small, large = (
        float(subprocess.check_output([sys.executable, "-c", BUILD, str(Path(__file__).parent), str(tools)]))  # noqa: ASYNC221
        for tools in (1_000, 10_000)
    )
    figures += [
        Figure("MANY", "10,000 tools: one table, CPU", large * 1e3, 100, "ms"),
        Figure("MANY", "against 1,000 tools", large / small, None, "×"),
    ]
    memory: dict[int, float] = {}
    for each in (10, 100):
        async with behind(100, each) as house:
            memory[each] = house.memory() / MIB
            lister = await Lister(house.port, house.pid, HANDSHAKE).open()
            cold, _ = await lister.once()
            listed = house.memory() / MIB
            lister.close()
        figures.append(Figure("MANY", f"{each * 100} tools: first page of a list, CPU", cold * 1e3, 500, "ms"))
        figures.append(
            Figure("MANY", f"{each * 100} tools: memory, and after a list {listed:.1f}", memory[each], None, "MiB")
        )
    async with behind(100, 100, limits=ENDLESS) as house:
        lister = await Lister(house.port, house.pid, HANDSHAKE).open()
        cold, text = await lister.once()
        warm, _ = await lister.once()
        lister.close()
        figures.append(
            Figure("MANY", f"10,000 tools: all in one list of {len(text) / 1e6:.1f} MB, CPU", cold * 1e3, 500, "ms")
        )
        figures.append(Figure("MANY", "10,000 tools: the same again", warm * 1e3, None, "ms"))
        figures.append(Figure("MANY", "10,000 tools: memory after that", house.memory() / MIB, None, "MiB"))
    async with behind(100, 1) as house:
        figures.append(Figure("MANY", "memory over that of 100 tools", memory[100] - house.memory() / MIB, 80, "MiB"))
    return figures


async def idle(_rounds: int) -> list[Figure]:
    """Nobody asks anything."""
    figures: list[Figure] = []
    for count, most in ((1, None), (10, 50)):
        async with behind(count, 20) as house:
            await asyncio.sleep(3)
            before, began = cpu(house.pid), time.monotonic()
            await asyncio.sleep(30)
            used = (cpu(house.pid) - before) / (time.monotonic() - began) * 100
            figures.append(Figure("IDLE", f"{count} backends: memory (RSS)", house.memory() / MIB, most, "MiB"))
            figures.append(Figure("IDLE", f"{count} backends: CPU, of a core", used, most and 0.3, "%"))
    return figures


async def stdio(_rounds: int) -> list[Figure]:
    """One child and one HTTP backend behind the same door, 64 calls in flight."""
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder, port = Path(made), free_port()
        prepare.compile_programs(folder)
        backend = subprocess.Popen([folder / "backend", str(port)])  # noqa: ASYNC220 - at once
        stack.callback(backend.kill)
        child = {"command": [sys.executable, "-c", CHILD, SIZES["200"].text]}
        specs = {"stdio": child, "http": {"url": f"http://127.0.0.1:{port}/mcp", "transport": "streamable-http"}}
        async with contextlib.AsyncExitStack() as houses:
            doors = [
                await houses.enter_async_context(serving({name: spec}, aggregation=_plainly(name)))
                for name, spec in specs.items()
            ]
            presses = [_Press(doors[0], folder), _Press(doors[1], folder), _Press(doors[0], folder, PING)]
            for turn in range(8):
                for press in presses:
                    await press.once(turn)
    ours, other, door = (statistics.median(press.costs[1:]) * 1e6 for press in presses)
    return [
        Figure("STDIO", "a call to one child, 64 in flight over HTTP: CPU", ours, None, "µs"),
        Figure("STDIO", "a ping, which vmcp answers itself, as many: CPU", door, None, "µs"),
        Figure("STDIO", "what routing and the child take of a call", ours - door, 40, "µs"),
        Figure("STDIO", "a call to an HTTP backend: CPU", other, None, "µs"),
        Figure("STDIO", "the child, against the HTTP backend", ours / other, None, "×"),
    ]


PING: Final = "ping"


def _plainly(name: str) -> Json:
    return {"conflictResolution": "priority", "conflictResolutionConfig": {"priorityOrder": [name]}}


class _Press:
    """64 connections that ask a house the same all the time; ``costs`` are CPU seconds of one request, for each round."""

    def __init__(self, house: House, folder: Path, method: str = "tools/call") -> None:
        self.costs: list[float] = []
        self._house = house
        self._folder = folder
        self._method = method
        self._sessions = [open_session(house.port) or "" for _ in range(64)]

    async def once(self, turn: int) -> None:
        """One round."""
        text = plan(
            self._house.port, HANDSHAKE, SIZES["200"], Load(64, 1.5), self._sessions, 1_000_000_000 * (turn + 1)
        )
        if self._method == PING:
            text = re.sub(r"(?m)^after .*$", 'after ,"method":"ping"}', re.sub(r"(?m)^text .*$", "text ", text))
        before = cpu(self._house.pid)
        load = await asyncio.create_subprocess_exec(
            self._folder / "load", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        told = json.loads((await load.communicate(text.encode()))[0])
        assert not told["errors"], told
        self.costs.append((cpu(self._house.pid) - before) / told["requests"])


SCENARIOS: Mapping[str, Callable[[int], Coroutine[Any, Any, list[Figure]]]] = {
    "lists": lists,
    "many": many,
    "idle": idle,
    "stdio": stdio,
}


def main() -> int:
    """Run what was named, or all. 0 when every figure is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of ten lists of each kind (default: 20)")
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS), help=f"of {', '.join(SCENARIOS)}")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name in options.scenario:
        print(f"{name} …", file=sys.stderr)
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda *_: None)  # our backends vanish in the end
            figures += runner.run(SCENARIOS[name](options.rounds))
    print(table(figures))
    print(f"\n{os.cpu_count()} cores, {platform.platform(terse=True)}, CPython {platform.python_version()}")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
