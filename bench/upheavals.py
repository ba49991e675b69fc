"""What happens to vmcp itself: cancelled calls, overload, reloads, a stop, a kill; and whether anything of it all stays behind.

The one rule: every request that was sent is in a ledger until its one answer came; what is left there was lost.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import account
import prepare
from actor import Backend, Client, Json
from calls import SIZES, STATELESS, Load, plan
from house import Figure, House, clients, free_port, percentile, ready, serving, until

LOST = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)


def _spec(backend: Backend, **more: Any) -> Json:
    return {"url": backend.url, "transport": "streamable-http", **more}


async def cancel(count: int) -> list[Figure]:
    """R-CANCEL-1: most callers leave in the middle; then everybody is served as before, and the backend has heard of it."""
    backend = await Backend(delay=0.01).start()
    dice = random.Random(1)
    async with serving({"b": _spec(backend, pool={"maxSize": 10}, isolation="shared")}) as house:
        gate, handles = asyncio.Semaphore(40), house.handles()

        async def leave() -> None:
            async with gate:
                client = await Client(house.port).open()
                try:
                    async with asyncio.timeout(dice.random() * 0.02 if dice.random() < 0.7 else 10):
                        await client.call("b_echo")
                except TimeoutError:
                    client.vanish()
                client.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(leave())
        probes = await clients(house, 100)
        served = [(await client.call("b_echo"))[0] for client in probes]
        for client in probes:
            client.close()
        await until(lambda: house.handles() <= handles + 12)
        odd = "Traceback" in house.log or "never retrieved" in house.log
    await backend.stop()
    failed = sum("result" not in told for told in served)
    return [
        Figure("R-CANCEL-1", f"{count} calls, 70 % left: probes that fail afterwards, of 100", failed, 0),
        Figure("R-CANCEL-1", "tracebacks in the log", float(odd), 0),
    ]


async def leak(calls: int) -> list[Figure]:
    """R-LEAK: the memory after so many sessions and calls, and after ten times as many."""
    backend = await Backend().start()
    async with serving({"b": _spec(backend)}) as house:

        async def round_of(count: int) -> int:
            for _ in range(count // 50):
                crowd = await clients(house, 5)
                for client in crowd:
                    for _ in range(8):
                        await client.call("b_echo")
                    await client.ask("tools/list")
                    await client.ask("no/such")
                    await client.leave()
            return house.memory()

        await round_of(calls)
        first, handles = await round_of(calls), house.handles()
        last = await round_of(10 * calls)
        grown, more = last - first, house.handles() - handles
    await backend.stop()
    return [
        Figure(
            "R-LEAK",
            f"memory after {12 * calls} requests, over that after {2 * calls}",
            grown / (1 << 20),
            2,
            "MiB",
        ),
        Figure("R-LEAK", "descriptors more", more, 0),
    ]


class Ledger:
    """A load of a fixed rate: each request has exactly one outcome. ``late``: answered after two seconds."""

    def __init__(self, crowd: list[Client], rate: float, tool: str = "b_echo") -> None:
        self.outcomes: Counter[str] = Counter()
        self.late = 0
        self.latencies: list[float] = []
        self._crowd = asyncio.Queue[Client]()
        for client in crowd:
            self._crowd.put_nowait(client)
        self._rate = rate
        self._tool = tool
        self.going = True

    async def run(self) -> None:
        """Until ``going`` is false, and then until the last answer."""
        async with asyncio.TaskGroup() as group:
            following = time.perf_counter()
            while self.going:
                group.create_task(self._one())
                following += 1 / self._rate
                await asyncio.sleep(max(0.0, following - time.perf_counter()))

    async def _one(self) -> None:
        began = time.perf_counter()
        client = await self._crowd.get()
        try:
            told, _ = await client.call(self._tool)
            outcome = "served" if "result" in told else str(told.get("status") or told["error"]["message"])[:60]
        except LOST as error:
            outcome = f"lost: {type(error).__name__}"
        took = time.perf_counter() - began
        self.outcomes[outcome] += 1
        self.latencies.append(took)
        self.late += took > 2
        self._crowd.put_nowait(client)

    @property
    def failed(self) -> int:
        """All that was not served."""
        return sum(self.outcomes.values()) - self.outcomes["served"]


async def reload(times: int, seconds: float) -> list[Figure]:
    """R-RELOAD: the file changes again and again under load, each fifth time into nonsense."""
    found = [await Backend([f"t{number}"]).start() for number in range(20)]
    backends = {f"b{number}": _spec(each) for number, each in enumerate(found)}
    backends["b"] = _spec(await Backend().start())
    async with serving(backends) as house:
        crowd, streams = await clients(house, 40), await clients(house, 200)
        for stream in streams:
            await stream.listen()
        ledger = Ledger(crowd, 300)
        async with asyncio.TaskGroup() as group:
            cut = [group.create_task(_ended(stream)) for stream in streams]
            group.create_task(ledger.run())
            for number in range(times):
                house.write(_changed(house.config, number))
                house.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(seconds / times)
            ledger.going = False
            ended = sum(task.done() for task in cut)
            for task in cut:
                task.cancel()
        logged = house.log
    print(f"    outcomes: {dict(ledger.outcomes)}", file=sys.stderr)
    return [
        Figure("R-RELOAD", f"{times} reloads, {sum(ledger.outcomes.values())} requests: failed", ledger.failed, 0),
        Figure("R-RELOAD", "answered later than after 2 s", ledger.late, 0),
        Figure("R-RELOAD", "of 200 streams: cut", ended, 0),
        Figure(
            "R-RELOAD",
            "reloads that took no effect, of the valid ones",
            times - times // 5 - logged.count("reloaded"),
            0,
        ),
    ]


async def _ended(stream: Client) -> None:
    """Until a standing stream is cut, or ends in order."""
    with contextlib.suppress(ConnectionError):
        await stream.heard(b"\0never")


def _changed(config: Json, number: int) -> Json:
    """Another configuration: one in five wrong, else one backend touched."""
    changed: Json = json.loads(json.dumps(config))
    if number % 5 == 4:
        changed["groups"]["all"]["backends"]["b0"]["nonsense"] = number
    else:
        touched = changed["groups"]["all"]["backends"][f"b{number % 20}"]
        touched["timeouts"] = {"total": f"{60 + number}s"}
    return changed


async def drain() -> list[Figure]:
    """R-DRAIN: SIGTERM with calls of many lengths in flight, and streams."""
    backend = await Backend(["echo"], delay=2.0).start()
    async with serving({"b": _spec(backend)}) as house:
        crowd, streams = await clients(house, 100), await clients(house, 50)
        for stream in streams:
            await stream.listen()
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(_ended(stream))
            calls = [group.create_task(client.call("b_echo")) for client in crowd]
            await until(lambda: backend.calls == len(crowd))
            began = time.perf_counter()
            house.process.send_signal(signal.SIGTERM)
            await until(lambda: "stopping" in house.log or house.process.poll() is not None)
            refused = not await ready(house.port)
            await until(lambda: house.process.poll() is not None)
            took = time.perf_counter() - began
    lost = sum("result" not in task.result()[0] for task in calls)
    await backend.stop()
    return [
        Figure("R-DRAIN", f"{len(calls)} calls in flight at SIGTERM: lost", lost, 0),
        Figure("R-DRAIN", "still said to be ready", float(not refused), 0),
        Figure("R-DRAIN", "exit code", float(house.process.returncode), 0),
        Figure("R-DRAIN", "gone after its calls of 2 s", took, 40, "s"),
    ]


async def killed() -> list[Figure]:
    """R-KILL9: SIGKILL with a child process; the port is free and nobody is left."""
    child = [sys.executable, "-c", "import sys\nfor line in sys.stdin: pass"]
    backend = await Backend().start()
    async with serving({"b": _spec(backend), "child": {"command": child}}, operational={}) as house:
        family = set(account.tree(house.pid)) - {house.pid}
        began = time.perf_counter()
        os.kill(house.pid, signal.SIGKILL)
        house.process.wait()
        await until(lambda: not any(_alive(pid) for pid in family))
        gone = time.perf_counter() - began
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", house.port, reuse_address=True)
        free = time.perf_counter() - began
        server.close()
    await backend.stop()
    return [
        Figure("R-KILL9", f"{len(family)} child processes: gone after", gone, 6, "s"),
        Figure("R-KILL9", "the port can be bound again after", free, 6, "s"),
    ]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def over(seconds: float) -> list[Figure]:
    """R-OVER: sixteen times the callers that keep it busy, each of whom asks again at once, served or shed."""
    names = {"conflictResolution": "priority", "conflictResolutionConfig": {"priorityOrder": ["b"]}}
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder, port = Path(made), free_port()
        prepare.compile_programs(folder)
        backend = subprocess.Popen([folder / "backend", str(port)])  # noqa: ASYNC220 - at once
        stack.callback(backend.kill)
        spec = {"url": f"http://127.0.0.1:{port}/mcp", "transport": "streamable-http"}
        async with serving({"b": spec}, aggregation=names) as house:
            peak, _, _ = await _pressed(house, folder, 64, seconds)
            goodput, shed, probe = await _pressed(house, folder, 1024, seconds)
            began = time.perf_counter()
            (client,) = await clients(house, 1)
            while "result" not in await client.ask("tools/list"):
                pass
            calm = time.perf_counter() - began
    lost = (1 - goodput / peak) * 100
    return [
        Figure("R-OVER", f"goodput lost of {peak:.0f}/s, with 16 times the callers", lost, 20, "%"),
        Figure("R-OVER", "slowest health check meanwhile", probe * 1000, 100, "ms"),
        Figure("R-OVER", "calm again after", calm, 5, "s"),
        Figure("R-OVER", "requests that were shed", shed, None),
    ]


async def _pressed(house: House, folder: Path, count: int, seconds: float) -> tuple[float, int, float]:
    """Served per second, shed, and the slowest health check."""
    text = plan(house.port, STATELESS, SIZES["200"], Load(count, seconds), [], 1_000_000_000)
    press = await asyncio.create_subprocess_exec(folder / "load", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    slowest = 0.0
    async with asyncio.TaskGroup() as group:
        pressing = group.create_task(press.communicate(text.encode()))
        while not pressing.done():
            began = time.perf_counter()
            await ready(house.port)
            slowest = max(slowest, time.perf_counter() - began)
            await asyncio.sleep(0.1)
    told = json.loads(pressing.result()[0])
    return (told["requests"] - told["errors"]) / told["seconds"], told["errors"], slowest


async def soak(count: int) -> list[Figure]:
    """R-SOAK, in short: mixed work, and the slope of the memory over it."""
    backend = await Backend().start()
    async with serving({"b": _spec(backend)}) as house:
        samples: list[int] = []
        crowd, done, slow = await clients(house, 16), 0, []
        while done < count:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_mixed(client)) for client in crowd]
            done += sum(len(task.result()) for task in tasks)
            slow.append(max(max(task.result()) for task in tasks))
            samples.append(house.memory())
    await backend.stop()
    quarter = len(samples) // 4
    # Bodies in passing make it swing by megabytes; what stays shows in the lowest.
    second, last = min(samples[quarter : 2 * quarter]), min(samples[-quarter:])
    growth = (last - second) / second * 100
    tenth = max(1, len(slow) // 10)
    drift = percentile(slow[-tenth:], 0.5) / percentile(slow[tenth : 2 * tenth] or slow, 0.5)
    return [
        Figure("R-SOAK", f"{done} requests: growth of memory, last quarter over second", growth, 3, "%"),
        Figure("R-SOAK", "slowest call of a turn, last tenth against second", drift, 1.2, "×"),
    ]


async def _mixed(client: Client) -> list[float]:
    found = []
    for size in (1 << 10, 1 << 14, 200, 200, 1 << 17, 200):
        told, seconds = await client.call("b_echo", "x" * size)
        assert "result" in told
        found.append(seconds)
    return found
