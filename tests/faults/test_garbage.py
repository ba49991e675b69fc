"""A backend that answers with garbage, breaks off, or never ends: one clean error each, and everybody else is served (R-BE-*).

The rule: vmcp is a process of its own, asked over HTTP; after every fault the same backend and its neighbour are asked again.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.auth.house import Caller, House, Json, serving
from tests.auth.recorder import recording
from tests.faults.evil import CLOSING, ECHOED, ENDINGS, LASTING, WELL
from tests.real.processes import connects, free_port, running, wait_for

pytestmark = pytest.mark.timeout(120)

MEMORY = 64 << 20
"""Bytes that all of it may leave behind: 32 for the worst answer, and as much for what an allocator keeps."""


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, port = tmp_path_factory.mktemp("garbage"), free_port()
    with ExitStack() as stack:
        stack.enter_context(running([sys.executable, "-m", "tests.faults.evil", str(port)], folder / "evil.log"))
        wait_for(lambda: connects(port), 10, (folder / "evil.log").read_text)
        recorder = stack.enter_context(recording())
        evil: Json = {"url": f"http://localhost:{port}/mcp", "transport": "streamable-http"}
        evil["timeouts"] = {"connect": "1s", "firstByte": "1s", "total": "2s", "idleStream": "1s"}
        backends = {"evil": evil, "good": {"url": recorder.url("good")}}
        yield stack.enter_context(serving({"groups": {"all": {"backends": backends}}}, folder))


@pytest.fixture(scope="module")
def caller(house: House) -> Caller:
    return Caller(house, None).open()


def well(caller: Caller) -> None:
    """Both backends still serve."""
    told = caller.call("evil_well")
    if "error" in told and "the connection closed before an answer" in told["error"]["message"]:
        told = caller.call("evil_well")  # it closes without a word: who sends in that moment loses, but not twice
    assert told["result"]["content"][0]["text"] == "well", told
    assert caller.call("good_say", word="w")["result"]["structuredContent"]["word"] == "w"


@pytest.mark.parametrize("name", sorted([*CLOSING, *ENDINGS]))
def test_garbage_is_one_clean_error_and_nothing_else_suffers(house: House, caller: Caller, name: str) -> None:
    before = resident(house.pid)
    told = caller.call(f"evil_{name}")
    assert told.keys() == {"jsonrpc", "id", "error"}, told
    assert told["id"] == 1
    assert ECHOED not in str(told)
    assert len(told["error"]["message"]) < 400
    assert "backend" in told["error"]["message"] or name == "both", "it says whose fault it is"
    well(caller)
    assert resident(house.pid) - before < MEMORY


@pytest.mark.parametrize("name", sorted(WELL))
def test_an_answer_is_found_in_what_is_only_strange(caller: Caller, name: str) -> None:
    told = caller.call(f"evil_{name}")
    assert ("error" in told) is (name == "error"), told
    well(caller)


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_never_ends_is_ended_by_the_limit_that_is_named(caller: Caller, name: str) -> None:
    began = time.monotonic()
    told = caller.call(f"evil_{name}")
    assert time.monotonic() - began >= 0.9, "no limit is as short as that"
    assert "timeouts." in told["error"]["message"], told
    well(caller)


def test_no_traceback_was_written(house: House, caller: Caller) -> None:
    well(caller)
    assert "Traceback" not in house.log
