"""A child process for tests of the stdio transport: it does what its script says and writes down what it was told.

Rule: the standard library only, so that it starts quickly and knows nothing of vmcp.
Run as ``child.py JOURNAL SCRIPT``: SCRIPT is a JSON object from methods to steps ("start" and "end" are the ends of its life);
a step is a list, the name of a function below and its arguments. JOURNAL gets a line of JSON for everything worth knowing.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Told = Mapping[str, Any]
Step = Sequence[Any]

CAPABILITIES = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "logging": {}}
INSTRUCTIONS = "Ask nicely."
ECHO = {"name": "echo", "inputSchema": {"type": "object"}}
STUBBORN_SLEEPER = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)


def result(value: Mapping[str, Any]) -> dict[str, Any]:
    """A reply to whatever was asked."""
    return {"jsonrpc": "2.0", "id": "$id", "result": value}


def failure(code: int, message: str, data: object = None) -> dict[str, Any]:
    """An error to whatever was asked."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": "$id", "error": error}


def notice(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def answers(revision: str) -> dict[str, list[dict[str, Any]]]:
    """What a small server of ``revision`` says to each method."""
    unknown = [failure(-32601, "Method not found")]
    told: dict[str, Any] = {"capabilities": CAPABILITIES, "instructions": INSTRUCTIONS}
    discovered = {
        **told,
        "supportedVersions": [revision],
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    greeted = {**told, "protocolVersion": revision, "serverInfo": {"name": "small", "version": "1"}}
    modern = revision == "2026-07-28"
    return {
        "server/discover": [result(discovered)] if modern else unknown,
        "initialize": unknown if modern else [result(greeted)],
        "tools/list": [result({"tools": [ECHO]})],
        "prompts/list": [result({"prompts": []})],
        "resources/list": [result({"resources": []})],
        "resources/templates/list": unknown,
        "tools/call": [result({"content": []})],
    }


def fill(part: Any, told: Told) -> Any:
    """``part`` with ``$id`` and ``$token`` replaced by those of the request ``told``."""
    if isinstance(part, dict):
        return {key: fill(value, told) for key, value in part.items()}
    if isinstance(part, list):
        return [fill(value, told) for value in part]
    if part == "$token":
        return told["params"]["_meta"]["progressToken"]
    return told.get("id") if part == "$id" else part


def note(**facts: Any) -> None:
    with Path(sys.argv[1]).open("a") as journal:
        journal.write(json.dumps(facts) + "\n")


def say(told: Told, message: Any) -> None:
    write(told, 1, json.dumps(fill(message, told)) + "\n")


def frame(told: Told, message: Any) -> None:
    """Say it behind a head, and note in which framing we were asked."""
    note(headed=told["headed"])
    body = json.dumps(fill(message, told), ensure_ascii=False)
    write(told, 1, f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}")


def write(told: Told, stream: int, text: str, times: int = 1) -> None:
    left = text.encode() * times
    while left:
        left = left[os.write(stream, left) :]


def leave(told: Told, status: int) -> None:
    os._exit(status)


def mute(told: Told) -> None:
    os.close(1)


def deaf(told: Told) -> None:
    while True:
        signal.pause()


def stall(told: Told, seconds: float) -> None:
    time.sleep(seconds)


def stubborn(told: Told) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def offspring(told: Told) -> None:
    """A grandchild that holds none of our streams and does not hear SIGTERM."""
    words = [sys.executable, "-I", "-S", "-c", STUBBORN_SLEEPER]
    grandchild = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert grandchild.stdout is not None
    grandchild.stdout.readline()
    note(grandchild=grandchild.pid)


def escapee(told: Told, streams: bool = False) -> None:
    """A grandchild in a session of its own, which does not hear SIGTERM; it may hold our streams."""
    words = [sys.executable, "-I", "-S", "-c", STUBBORN_SLEEPER.replace("print(1, flush=True)", "os.write(9, b'1')")]
    words[-1] = "import os; " + words[-1]
    reading, writing = os.pipe()
    os.dup2(writing, 9)
    closed = None if streams else subprocess.DEVNULL
    grandchild = subprocess.Popen(
        words, stdin=closed, stdout=closed, stderr=closed, start_new_session=True, pass_fds=[9]
    )
    os.read(reading, 1)
    note(grandchild=grandchild.pid)


def orphan(told: Told) -> None:
    """A grandchild of a grandchild that is gone, in a session of its own, as a daemon makes itself."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note(grandchild=os.getpid())
            time.sleep(60)
        os._exit(0)
    os.wait()


def confess(told: Told) -> None:
    """What the kernel says of us."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limits = {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("DATA", "NOFILE", "NPROC", "CORE")
    }
    files = sorted(int(each.name) for each in Path("/proc/self/fd").iterdir() if each.exists())
    note(status=status, limits=limits, files=files, session=os.getsid(0))


def gorge(told: Told, size: int) -> None:
    """Take memory; say so if there is not as much."""
    try:
        bytearray(size)
    except MemoryError:
        note(hungry=True)


def heir(told: Told) -> None:
    """A grandchild that holds all of our streams open."""
    note(grandchild=subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]).pid)


STEPS: Mapping[str, Callable[..., None]] = {
    step.__name__: step
    for step in (
        *(say, frame, write, leave, mute, deaf, stall, stubborn),
        *(offspring, escapee, orphan, heir, confess, gorge),
    )
}


def run(steps: Sequence[Step], told: Told) -> None:
    for name, *words in steps:
        STEPS[name](told, *words)


def main() -> None:
    script: Mapping[str, Sequence[Step]] = json.loads(sys.argv[2])
    note(pid=os.getpid(), group=os.getpgid(0), environ=dict(os.environ), cwd=str(Path.cwd()))
    run(script.get("start", ()), {})
    for line in sys.stdin.buffer:
        headed = line.startswith(b"Content-Length:")
        if headed:
            sys.stdin.buffer.readline()
        told = json.loads(sys.stdin.buffer.read(int(line[15:])) if headed else line)
        note(told=told)
        run(script.get(told.get("method", "reply"), ()), told | {"headed": headed})
    note(end=True)
    run(script.get("end", ()), {})


if __name__ == "__main__":
    main()
