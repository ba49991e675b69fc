"""What goes wrong around vmcp: idle crowds, clients that vanish, backends that hang, die, flap or were never there.

The one rule: each scenario starts its own vmcp and its own backends, and judges by what a client saw.
"""

import asyncio
import time
from typing import Any

from actor import Backend, Client
from house import Figure, House, clients, percentile, serving, until


async def _latencies(client: Client, name: str, count: int) -> list[float]:
    found = []
    for _ in range(count):
        told, seconds = await client.call(name)
        assert "result" in told, told
        found.append(seconds)
    return found


async def idle(count: int, seconds: float) -> list[Figure]:
    """R-IDLE-1 and R-IDLE-2: standing streams that hear nothing for long, then all the same thing, and then most are gone."""
    backend = await Backend().start()
    async with serving({"b": {"url": backend.url, "transport": "streamable-http"}}) as house:
        (caller,) = await clients(house, 1)
        alone = percentile(await _latencies(caller, "b_echo", 500), 0.99)
        memory, handles = house.memory(), house.handles()
        crowd = await clients(house, count)
        for client in crowd:
            await client.listen()
        each = (house.memory() - memory) / count
        cpu, began = house.cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        share = (house.cpu() - cpu) / (time.perf_counter() - began)
        beside = percentile(await _latencies(caller, "b_echo", 500), 0.99)
        spread = await _fan_out(backend, crowd)
        gone = await _vanish(house, crowd, handles)
    await backend.stop()
    return [
        Figure("R-IDLE-1", f"{count} idle streams: memory of each", each / 1024, 64, "KiB"),
        Figure("R-IDLE-1", f"CPU over {seconds:.0f} s, of a core", share * 100, 5, "%"),
        Figure("R-IDLE-1", "p99 of calls beside, against without", beside / alone, 1.5, "×"),
        Figure("R-IDLE-1", "one list_changed has reached all", spread, 2, "s"),
        Figure("R-IDLE-2", f"{count * 4 // 5} vanish: their descriptors are free", gone, 10, "s"),
    ]


async def _fan_out(backend: Backend, crowd: list[Client]) -> float:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.heard(b"list_changed")) for client in crowd]
        backend.change(["echo", "more"])
    return max(task.result() for task in tasks) - began


async def _vanish(house: House, crowd: list[Client], handles: int) -> float:
    leaving = crowd[: len(crowd) * 4 // 5]
    began = time.perf_counter()
    for client in leaving:
        client.vanish()
    await until(lambda: house.handles() <= handles + len(crowd) - len(leaving) + 20)
    took = time.perf_counter() - began
    for client in crowd[len(leaving) :]:
        client.close()
    return took


async def hang() -> list[Figure]:
    """R-BE-HANG: a backend that accepts and never answers, beside one that does."""
    stuck, good = await Backend().start(), await Backend().start()
    spec: dict[str, Any] = {"url": stuck.url, "transport": "streamable-http", "timeouts": {"total": "2s"}}
    spec["concurrency"] = {"maxInFlight": 64, "queue": 128, "queueWait": "1s"}
    async with serving({"stuck": spec, "good": {"url": good.url, "transport": "streamable-http"}}) as house:
        crowd = await clients(house, 80)
        (caller,) = await clients(house, 1)
        alone = percentile(await _latencies(caller, "good_echo", 500), 0.99)
        stuck.mode = "hang"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.call("stuck_echo")) for client in crowd]
            await asyncio.sleep(0.2)
            beside = percentile(await _latencies(caller, "good_echo", 500), 0.99)
        told = [task.result() for task in tasks]
    assert all("error" in answer for answer, _ in told)
    timed = [seconds for answer, seconds in told if "timeouts" in answer["error"]["message"]]
    await stuck.stop()
    await good.stop()
    off = max((abs(seconds - 2) for seconds in timed), default=99.0)
    return [
        Figure("R-BE-HANG", f"{len(timed)} calls ended by timeouts.total of 2 s: furthest off", off, 0.5, "s"),
        Figure("R-BE-HANG", "p99 of calls to its neighbour, against before", beside / alone, 1.5, "×"),
    ]


async def kill(times: int) -> list[Figure]:
    """R-BE-KILL: a backend that dies with calls in its hands, again and again."""
    backend = await Backend(delay=30).start()
    errors, back = [], []
    async with serving({"b": {"url": backend.url, "transport": "streamable-http"}}) as house:
        crowd = await clients(house, 20)
        for _ in range(times):
            async with asyncio.TaskGroup() as group:
                before = backend.calls
                tasks = [group.create_task(client.call("b_echo")) for client in crowd]
                await until(lambda: backend.calls >= before + len(crowd))  # noqa: B023 - this very turn
                await backend.stop()
                died = time.perf_counter()
                for task in tasks:
                    await asyncio.wait([task])
                    errors.append(time.perf_counter() - died)
            assert all("error" in task.result()[0] for task in tasks)
            backend.delay = 0
            await backend.start()
            began = time.perf_counter()
            while "result" not in (await crowd[0].call("b_echo"))[0]:
                pass
            back.append(time.perf_counter() - began)
            backend.delay = 30
    await backend.stop()
    return [
        Figure("R-BE-KILL", f"{len(errors)} calls in flight: error after its death", max(errors) * 1000, 250, "ms"),
        Figure("R-BE-KILL", "served again after it is back, worst", max(back), 2.0, "s"),
    ]


async def dead(count: int) -> list[Figure]:
    """R-DEAD30: three in ten backends are dead, each third of them in another way."""
    found = [await Backend([f"t{number}" for number in range(10)]).start() for _ in range(count)]
    lost = found[: count * 3 // 10]
    for number, backend in enumerate(lost):
        if number % 3 == 0:
            await backend.stop()
        else:
            backend.mode = "hang" if number % 3 == 1 else "error"
    backends = {f"b{number}": {"url": each.url, "transport": "streamable-http"} for number, each in enumerate(found)}
    async with serving(backends) as house:
        up = time.perf_counter() - house.began
        (client,) = await clients(house, 1)
        began = time.perf_counter()
        first = await client.ask("tools/list")
        cold, steady = time.perf_counter() - began, []
        for _ in range(50):
            began = time.perf_counter()
            await client.ask("tools/list")
            steady.append(time.perf_counter() - began)
    for backend in found[len(lost) // 3 :]:
        if backend.mode != "well" or backend not in lost:
            await backend.stop()
    assert len(first["result"]["tools"]) == min(1000, 10 * (count - len(lost)))
    return [
        Figure("R-DEAD30", f"{count} backends, {len(lost)} dead: ready", up, 5, "s from start"),
        Figure("R-DEAD30", "first list, with all that live", cold, 2, "s"),
        Figure("R-DEAD30", "steady list, p99", percentile(steady, 0.99) * 1000, 200, "ms"),
    ]


async def flap(seconds: float) -> list[Figure]:
    """R-FLAP: twenty backends that come and go each second, and a client that listens."""
    found = [await Backend([f"t{number}"]).start() for number in range(20)]
    backends = {f"b{number}": {"url": each.url, "transport": "streamable-http"} for number, each in enumerate(found)}
    async with serving(backends) as house:
        listener, asker = await clients(house, 2)
        await listener.listen()
        heard, cpu, began, slowest = 0, house.cpu(), time.perf_counter(), 0.0

        async def count() -> None:
            nonlocal heard
            while True:
                await listener.heard(b"list_changed")
                heard += 1

        async def flapping(backend: Backend, number: int) -> None:
            await asyncio.sleep(number / 20)
            while time.perf_counter() - began < seconds:
                await backend.stop()
                await asyncio.sleep(0.5)
                await backend.start()
                await asyncio.sleep(0.5)

        async with asyncio.TaskGroup() as group:
            counting = group.create_task(count())
            flaps = [group.create_task(flapping(backend, number)) for number, backend in enumerate(found)]
            while not all(task.done() for task in flaps):
                asked = time.perf_counter()
                await asker.ask("tools/list")
                slowest = max(slowest, time.perf_counter() - asked)
                await asyncio.sleep(0.05)
            counting.cancel()
        share = (house.cpu() - cpu) / (time.perf_counter() - began)
    for backend in found:
        await backend.stop()
    return [
        Figure("R-FLAP", f"20 backends flap for {seconds:.0f} s: slowest list", slowest, 1, "s"),
        Figure("R-FLAP", "list_changed for a client", heard * 60 / seconds, 12, "per minute"),
        Figure("R-FLAP", "CPU, of a core", share * 100, 50, "%"),
    ]
