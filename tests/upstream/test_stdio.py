"""The stdio transport against real child processes: what they get, what they may do wrong, and that nothing of them is left.

Rule: after a close no process of the group runs, on either event loop.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.upstream.badserver import until
from tests.upstream.child import failure, notice, result
from tests.upstream.fakes import Script, alive, command, journal_of, soon, spawned
from vmcp.errors import Code, Overdue, Unavailable
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream import complaints, inbox, stdio
from vmcp.upstream.room import room
from vmcp.upstream.stdio import Program, StdioWire
from vmcp.upstream.wire import Outgoing

PONG = ["say", result({})]
FLOOD = int(os.environ.get("VMCP_STDERR_FLOOD", "24"))
"""Megabytes."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def ask(id_: int = 1, method: str = "ping", **params: Any) -> Outgoing:
    return Outgoing(id_, jsonrpc.request(id_, method, params))


async def listened(wire: StdioWire, id_: int = 1) -> tuple[list[str], bytes]:
    """The messages that came with the answer to a ping, and its result."""
    found: list[str] = []

    async def on_message(message: Message) -> None:
        found.append(message.method)

    answer = await wire.exchange(ask(id_), on_message, soon())
    return found, bytes(answer.message.result)


# --- what a child gets


async def test_a_child_gets_the_listed_environment_and_nothing_else_of_ours(journal: Path) -> None:
    ours = {"PATH": os.environ["PATH"], "LANG": "C", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s", "PYTHONPATH": "x"}
    env = stdio.environment({"API_KEY": "k", "HOME": "/mine"}, ours)
    async with spawned(journal, {}, env):
        await until(lambda: bool(journal_of(journal, "environ")))
    got = journal_of(journal, "environ")[0]
    got.pop("LC_CTYPE", None)  # Python sets it for itself
    assert got == {"PATH": os.environ["PATH"], "LANG": "C", "API_KEY": "k", "HOME": "/mine"}


async def test_a_child_leads_a_process_group_of_its_own_and_stands_where_it_was_told(journal: Path) -> None:
    wire = await stdio.spawn("time", Program(command(journal, {}), cwd=str(journal.parent)))
    await until(lambda: bool(journal_of(journal, "pid")))
    await wire.close()
    [pid], [group], [cwd] = (journal_of(journal, key) for key in ("pid", "group", "cwd"))
    assert (group, cwd) == (pid, str(journal.parent.resolve()))
    assert group != os.getpgid(0)


async def test_what_is_no_program_is_refused_with_what_to_do(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for words, cwd, why in [
        (
            ["no-such-program-here"],
            None,
            "'no-such-program-here' was not found on the PATH of this service; install it",
        ),
        (
            [str(tmp_path / "none")],
            None,
            "was not found on the PATH of this service; install it, or give its full path",
        ),
        ([str(plain)], None, f"cannot start '{plain}': Permission denied"),
        (
            [command(plain, {})[0]],
            str(tmp_path / "nowhere"),
            f"its working directory '{tmp_path / 'nowhere'}' does not exist",
        ),
        (
            [command(plain, {})[0]],
            str(plain),
            f"its working directory '{plain}' cannot be entered: Not a directory",
        ),
    ]:
        with pytest.raises(Unavailable) as refused:
            await stdio.spawn("time", Program(words, cwd=cwd))
        assert why in refused.value.why
        assert refused.value.vmcp_code == Code.CONNECTION_FAILED


async def test_a_missing_npx_says_to_install_node() -> None:
    for program, hint in {"npx": "install Node.js", "uvx": "install uv", "docker": "install Docker"}.items():
        with pytest.raises(Unavailable, match=hint):
            await stdio.spawn("time", Program([program], {"PATH": "/nowhere"}))


async def test_a_child_that_tells_its_secret_does_not_tell_it_on(journal: Path) -> None:
    env = {"API_KEY": "hush-0123456789", "HOME": "/home/somebody", "FOLDER": "/srv/data", "MODE": "short"}
    said = " ".join(env.values())
    async with spawned(journal, {"start": [["write", 2, f"{said}\n"]]}, env) as wire:
        await until(lambda: bool(wire.stderr))
        assert wire.stderr == ["*** /home/somebody /srv/data short"]
        assert "hush" not in str(wire.facts())
    assert wire.obituary().endswith(': "*** /home/somebody /srv/data short"')


@pytest.mark.parametrize("env", [{"A": "b\0c"}, {"A=B": "c"}], ids=["NUL in a value", "sign in a name"])
async def test_an_environment_that_no_process_can_have_is_refused(env: dict[str, str], journal: Path) -> None:
    with pytest.raises(Unavailable):
        async with spawned(journal, {}, env):
            await until(lambda: bool(journal_of(journal, "pid")))


# --- conversations


async def test_a_question_and_its_answer(journal: Path) -> None:
    async with spawned(journal, {"ping": [PONG]}) as wire:
        answer = await wire.exchange(ask(7), None, soon())
        assert (bytes(answer.message.id), bytes(answer.message.result)) == (b"7", b"{}")
        assert (answer.status, answer.session) == (200, None)
        await wire.tell(jsonrpc.notification("notifications/initialized"), ())
        await until(lambda: len(journal_of(journal, "told")) == 2)
    assert journal_of(journal, "told") == [
        {"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]


async def test_what_a_client_wrote_over_several_lines_is_no_second_message_to_a_child(journal: Path) -> None:
    smuggled = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"forbidden"}}'
    params = {"arguments": msgspec.Raw(b"[\n%b\r\n]" % smuggled)}
    async with spawned(journal, {"ping": [PONG]}) as wire:
        await wire.exchange(Outgoing(1, jsonrpc.request(1, "ping", params)), None, soon())
    (told,) = journal_of(journal, "told")
    assert told["params"]["arguments"] == [msgspec.json.decode(smuggled)]


async def test_answers_find_their_questions_in_any_order(journal: Path) -> None:
    late = [["say", {"jsonrpc": "2.0", "id": 1, "result": {"n": 1}}], ["say", result({"n": 2})]]
    async with spawned(journal, {"second": [late[1], late[0]]}) as wire, asyncio.TaskGroup() as group:
        first = group.create_task(wire.exchange(ask(1, "first"), None, soon()))
        await until(lambda: len(journal_of(journal, "told")) == 1)
        second = group.create_task(wire.exchange(ask(2, "second"), None, soon()))
    assert [bytes(task.result().message.result) for task in (first, second)] == [b'{"n": 1}', b'{"n": 2}']


async def test_what_comes_during_a_call_goes_to_whom_it_concerns(journal: Path) -> None:
    steps = [
        ["say", notice("notifications/progress", progressToken=1, progress=1)],
        ["say", notice("notifications/progress", progressToken="1", progress=2)],
        ["say", notice("notifications/progress", progressToken=9, progress=3)],
        ["write", 1, '{"jsonrpc":"2.0","method":"notifications/progress","params":[]}\n'],
        ["say", notice("notifications/message", level="info", data="x")],
        ["say", notice("notifications/tools/list_changed")],
        ["say", {"jsonrpc": "2.0", "id": 1, "method": "roots/list"}],
        ["say", {"jsonrpc": "2.0", "id": 8, "result": {}}],
        ["say", failure(-32000, "it has no id") | {"id": None}],
        PONG,
    ]
    strays: list[str] = []
    async with spawned(journal, {"ping": steps}) as wire:
        wire.on_stray = lambda message: strays.append(message.method)
        found, _ = await listened(wire)
    assert found == ["notifications/progress", "notifications/message"]
    others = ["notifications/tools/list_changed", "roots/list"]
    assert strays == ["notifications/progress"] * 3 + others


async def test_a_log_line_belongs_to_nobody_when_two_calls_are_in_flight(journal: Path) -> None:
    log = ["say", notice("notifications/message", level="info", data="x")]
    both = [log, ["say", {"jsonrpc": "2.0", "id": 1, "result": {}}], PONG]
    strays: list[str] = []
    async with spawned(journal, {"ping": both}) as wire, asyncio.TaskGroup() as group:
        wire.on_stray = lambda message: strays.append(message.method)
        group.create_task(wire.exchange(ask(1, "first"), None, soon()))
        group.create_task(wire.exchange(ask(2), None, soon()))
    assert strays == ["notifications/message"]


async def test_a_call_that_nobody_listens_to_gets_its_answer_all_the_same(journal: Path) -> None:
    steps = [["say", notice("notifications/message", level="info", data=n)] for n in range(3)]
    async with spawned(journal, {"ping": [*steps, PONG]}) as wire:
        assert bytes((await wire.exchange(ask(), None, soon())).message.result) == b"{}"


async def test_a_flood_of_notifications_costs_the_oldest_and_never_the_answer(journal: Path) -> None:
    count = inbox.QUEUE + 500
    line = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}\n'
    found: list[str] = []
    first = asyncio.Event()

    async def slow(message: Message) -> None:
        found.append(message.method)
        if len(found) == 1:
            await first.wait()

    script = {"ping": [["write", 1, line, count], PONG, ["write", 2, "done\n"]]}
    async with spawned(journal, script) as wire, asyncio.TaskGroup() as group:
        task = group.create_task(wire.exchange(ask(), slow, soon()))
        await until(lambda: "done" in wire.stderr and 1 in wire._pending)
        await until(lambda: wire._pending[1].qsize() >= inbox.QUEUE - 1)
        first.set()
    assert bytes(task.result().message.result) == b"{}"
    assert 1 < len(found) <= count


async def test_an_answer_in_time_is_taken_and_a_late_one_dropped(journal: Path) -> None:
    async with spawned(
        journal, {"ping": [PONG], "after": [["say", {"jsonrpc": "2.0", "id": 1, "result": {}}], PONG]}
    ) as wire:
        with pytest.raises(Overdue) as late:
            await wire.exchange(ask(1, "silent"), None, soon(0.05))
        assert late.value.which == "timeouts.total"
        assert late.value.vmcp_code == Code.CONNECTION_TIMEOUT
        await wire.exchange(ask(2, "after"), None, soon())
        assert not wire._pending


# --- lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
async def test_a_line_may_come_in_any_pieces(end: bytes) -> None:
    line = '{"jsonrpc":"2.0","method":"grüße/\U0001f600"}'.encode() + end
    for cut in range(len(line) + 1):
        found: list[str] = []
        wire = StdioWire("time")
        wire.on_stray = lambda message, found=found: found.append(message.method)
        for piece in (line[:cut], line[cut:] + b" \n\n" + line, b""):
            wire.pipe_data_received(1, piece)
        assert found == ["grüße/\U0001f600"] * 2


async def test_what_is_no_message_is_skipped_and_logged(journal: Path, caplog: pytest.LogCaptureFixture) -> None:
    garbage = "Server started on stdio \x1b[0m\nnull\n[]\n{\n17\n\n   \n"
    script: Script = {"start": [["write", 1, garbage]], "ping": [["write", 1, "debug: got ping\n"], PONG]}
    with caplog.at_level(logging.WARNING, "vmcp.upstream.stdio"):
        async with spawned(journal, script) as wire:
            assert await listened(wire) == ([], b"{}")
    lines = [record.__dict__["text"] for record in caplog.records]
    assert lines == ["Server started on stdio  [0m", "null", "[]", "{", "17", "debug: got ping"]


async def test_a_batch_is_so_many_messages(journal: Path) -> None:
    batch = [notice("notifications/message", level="info", data=1), result({"x": 1})]
    async with spawned(journal, {"ping": [["say", batch]]}) as wire:
        assert await listened(wire) == (["notifications/message"], b'{"x": 1}')


async def test_a_child_that_writes_behind_heads_is_answered_alike(journal: Path) -> None:
    """As one that follows the Language Server Protocol: it reads either, and writes like this."""
    script: Script = {
        "ping": [["frame", notice("notifications/message", level="info", data="ü")], ["frame", result({"x": 1})]],
        "tools/list": [["write", 1, "a log line\n"], ["frame", result({"tools": []})]],
    }
    async with spawned(journal, script) as wire:
        assert await listened(wire) == (["notifications/message"], b'{"x": 1}')
        answer = await wire.exchange(ask(2, "tools/list", cursor="ü"), None, soon())
        assert bytes(answer.message.result) == b'{"tools": []}'
        await wire.tell(jsonrpc.notification("notifications/x"), ())
        await until(lambda: len(journal_of(journal, "told")) == 3)
    assert journal_of(journal, "headed") == [False, False, True]
    assert journal_of(journal, "told")[1]["params"] == {"cursor": "ü"}


async def test_a_child_that_babbles_is_not_well_for_a_while(journal: Path) -> None:
    few, many = (["write", 1, "garbage\n \n", count] for count in (stdio.NOISE, stdio.NOISE + 1))
    async with spawned(journal, {"ping": [few, PONG], "again": [many, PONG]}) as wire:
        await listened(wire)
        assert wire.wrong == ""
        await wire.exchange(ask(2, "again"), None, soon())
        assert wire.wrong == "it wrote more than 100 lines in a row that are no JSON-RPC"
        assert wire.facts()["garbage"] == 2 * stdio.NOISE + 1


async def test_endless_garbage_fills_no_log(journal: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vmcp.upstream.stdio"):
        async with spawned(journal, {"ping": [["write", 1, "garbage\n", 5000], PONG]}) as wire:
            assert await listened(wire) == ([], b"{}")
    assert complaints.LINES <= len(caplog.records) < 2500


async def test_what_was_left_out_of_the_log_is_told_there(caplog: pytest.LogCaptureFixture) -> None:
    wire = StdioWire("time")
    with caplog.at_level(logging.WARNING, "vmcp.upstream.stdio"):
        wire.pipe_data_received(1, b"garbage\n" * (complaints.LINES + 7))
        wire._pace._since -= 1.0
        wire.pipe_data_received(1, b"more\n")
    *_, left_out, more = caplog.records
    assert (left_out.message, left_out.__dict__["lines"]) == ("lines that are no JSON-RPC left out", 7)
    assert more.__dict__["text"] == "more"


async def test_a_message_of_several_megabytes_passes(journal: Path) -> None:
    big = ["write", 1, '{"jsonrpc":"2.0","id":1,"result":{"x":"']
    async with spawned(journal, {"ping": [big, ["write", 1, "x", 5 << 20], ["write", 1, '"}}\n']]}) as wire:
        assert len((await listened(wire))[1]) == (5 << 20) + 8


async def test_a_line_without_end_ends_the_child(
    journal: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE", 1 << 20)
    async with spawned(journal, {"ping": [["write", 1, "x", 64 << 20]]}) as wire:
        with pytest.raises(Unavailable, match="SIGKILL"):
            await wire.exchange(ask(), None, soon())
    assert "what it wrote is no message, the process is ended" in caplog.text


async def test_a_line_just_within_the_limit_does_not(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_LINE", 1 << 20)
    async with spawned(journal, {"ping": [["write", 1, "x", 1 << 20], ["write", 1, "\n"], PONG]}) as wire:
        assert await listened(wire) == ([], b"{}")


# --- stderr


async def test_a_flood_on_stderr_blocks_nothing_and_only_the_last_of_it_is_kept(
    journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flood = [["write", 2, "x" * 99 + "\n", 10_500]] * FLOOD
    with caplog.at_level(logging.DEBUG, "vmcp.upstream.stdio"):
        async with spawned(journal, {"ping": [*flood, ["write", 2, "the last\n"], PONG]}) as wire:
            assert await listened(wire) == ([], b"{}")
            await until(lambda: wire.stderr[-1] == "the last")
            assert len(wire.stderr) == stdio.STDERR_LINES
            assert len(wire._complaints._kept) <= 2 * complaints.KEPT
    assert complaints.LINES <= sum(record.message == "stderr" for record in caplog.records) < FLOOD * 1000


async def test_stderr_without_line_ends_is_bounded(journal: Path) -> None:
    async with spawned(journal, {"ping": [["write", 2, "x", 1 << 20], PONG]}) as wire:
        assert await listened(wire) == ([], b"{}")
        assert await listened(wire, 2) == ([], b"{}")
        assert len(wire._complaints._kept) <= 2 * complaints.KEPT + (64 << 10)


async def test_control_characters_on_stderr_reach_no_terminal(journal: Path) -> None:
    async with spawned(journal, {"start": [["write", 2, "\x1b[31mred\x07\r\n\n \n"]]}) as wire:
        await until(lambda: bool(wire.stderr))
        assert list(wire.stderr) == [" [31mred "]


# --- how a child ends


@pytest.mark.parametrize("last", ["Error: no API key\n", "Error: no API key"], ids=["line", "no line end"])
async def test_a_child_that_exits_fails_the_calls_in_flight_with_its_last_words(last: str, journal: Path) -> None:
    gone: list[bool] = []
    async with spawned(journal, {"ping": [["write", 2, f"starting\n{last}"], ["leave", 3]]}) as wire:
        wire.on_gone = lambda: gone.append(True)
        with pytest.raises(Unavailable) as failed:
            await wire.exchange(ask(), None, soon())
        assert failed.value.why == 'the process exited with status 3: "Error: no API key"'
        assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert gone == [True]
        with pytest.raises(Unavailable, match="exited with status 3"):
            await wire.exchange(ask(2), None, soon())


@pytest.mark.parametrize("end", ["\n", ""], ids=["line", "no line end"])
async def test_a_child_that_answers_and_exits_has_answered(end: str, journal: Path) -> None:
    head, tail = '{"jsonrpc":"2.0","id":1,"result":{"x":"', '"}}' + end
    answer = [["write", 1, head], ["write", 1, "x", 1 << 20], ["write", 1, tail], ["leave", 0]]
    async with spawned(journal, {"ping": answer}) as wire:
        assert len((await listened(wire))[1]) == (1 << 20) + 8


async def test_a_child_that_is_killed_says_by_what(journal: Path) -> None:
    async with spawned(journal, {}) as wire:
        await until(lambda: bool(journal_of(journal, "pid")))
        os.kill(journal_of(journal, "pid")[0], signal.SIGSEGV)
        with pytest.raises(Unavailable, match="the process was ended by SIGSEGV"):
            await wire.exchange(ask(), None, soon())


async def test_a_child_that_closes_its_stdout_fails_the_call(journal: Path) -> None:
    async with spawned(journal, {"ping": [["mute"]]}) as wire:
        with pytest.raises(Unavailable, match="the process closed its output"):
            await wire.exchange(ask(), None, soon())


async def test_a_grandchild_that_holds_the_streams_delays_nothing(journal: Path) -> None:
    async with spawned(journal, {"ping": [["heir"], ["leave", 4]]}) as wire:
        async with asyncio.timeout(2):
            with pytest.raises(Unavailable, match="exited with status 4"):
                await wire.exchange(ask(), None, soon())
    await until(lambda: not any(map(alive, journal_of(journal, "grandchild"))))


async def test_a_child_that_never_reads_is_ended(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WRITE_STALL", 0.1)
    async with spawned(journal, {"start": [["deaf"]]}) as wire:
        with pytest.raises(Overdue):
            await wire.exchange(ask(1, "big", x="x" * (3 << 20)), None, soon(0.05))
        with pytest.raises(Overdue) as stalled:
            await wire.exchange(ask(2), None, soon())
        assert stalled.value.which == "stdin write stall"
        await until(lambda: wire.exited)
        with pytest.raises(Unavailable, match="SIGKILL"):
            await wire.exchange(ask(3), None, soon())


async def test_a_call_waits_for_a_child_that_does_not_read_no_longer_than_its_deadline(journal: Path) -> None:
    async with spawned(journal, {"start": [["deaf"]]}) as wire:
        await until(lambda: bool(journal_of(journal, "pid")))
        await wire.tell(b"x" * (3 << 20), ())
        async with asyncio.timeout(2):
            with pytest.raises(Overdue, match=r"timeouts\.total"):
                await wire.exchange(ask(2), None, soon(0.05))
        assert not wire._pending
        os.kill(journal_of(journal, "pid")[0], signal.SIGKILL)


async def test_who_waits_for_a_child_that_ends_meanwhile_is_told_so(journal: Path) -> None:
    async with spawned(journal, {"start": [["deaf"]]}) as wire, asyncio.TaskGroup() as group:
        await until(lambda: bool(journal_of(journal, "pid")))
        await wire.tell(b"x" * (3 << 20), ())
        waiting = group.create_task(_failure(wire))
        await until(lambda: 1 in wire._pending)
        os.kill(journal_of(journal, "pid")[0], signal.SIGKILL)
        await until(lambda: wire.exited)
        wire.resume_writing()
    assert "SIGKILL" in waiting.result().why


async def test_a_child_that_reads_again_in_time_goes_on(journal: Path) -> None:
    async with spawned(journal, {"ping": [PONG]}) as wire:
        await wire.tell(jsonrpc.notification("big", {"x": "x" * (3 << 20)}), ())
        assert await listened(wire) == ([], b"{}")


# --- closing


async def test_a_child_that_hears_the_end_of_its_input_goes_by_itself(journal: Path) -> None:
    async with spawned(journal, {"end": [["write", 2, "bye\n"]]}) as wire:
        await until(lambda: bool(journal_of(journal, "pid")))
    assert journal_of(journal, "end") == [True]
    assert not alive(journal_of(journal, "pid")[0])
    assert "exited with status 0" in wire.obituary()


@pytest.mark.parametrize("start", [[["deaf"]], [["stubborn"], ["deaf"]]], ids=["deaf", "deaf and stubborn"])
async def test_a_child_that_stays_is_terminated_and_then_killed(
    start: list[list[str]], journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdio, "CLOSE_WAIT", 0.1)
    monkeypatch.setattr(stdio, "TERM_WAIT", 0.3)
    async with spawned(journal, {"start": [["write", 2, "up\n"], *start]}) as wire:
        await until(lambda: "up" in wire.stderr)
        if len(start) == 2:
            await until(lambda: _ignores_term(journal_of(journal, "pid")[0]))
    assert not alive(journal_of(journal, "pid")[0])
    assert ("SIGKILL" if len(start) == 2 else "SIGTERM") in wire.obituary()


def _ignores_term(pid: int) -> bool:
    [mask] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
    return bool(int(mask.split()[1], 16) & 1 << (signal.SIGTERM - 1))


async def test_a_grandchild_that_ignores_sigterm_goes_with_the_child(journal: Path) -> None:
    async with spawned(journal, {"ping": [["offspring"], PONG]}) as wire:
        await listened(wire)
        [pid], [grandchild] = journal_of(journal, "pid"), journal_of(journal, "grandchild")
        assert alive(pid)
        assert alive(grandchild)
    assert not alive(pid)
    await until(lambda: not alive(grandchild))


async def test_closing_twice_and_after_the_end_is_harmless(journal: Path) -> None:
    async with spawned(journal, {"ping": [["leave", 0]]}) as wire:
        with pytest.raises(Unavailable):
            await wire.exchange(ask(), None, soon())
        await wire.close()
        await wire.close()
    with pytest.raises(Unavailable):
        await wire.tell(b"{}", ())
    await StdioWire("time").close()


async def test_closing_ends_the_calls_in_flight(journal: Path) -> None:
    async with asyncio.TaskGroup() as group, spawned(journal, {}) as wire:
        task = group.create_task(_failure(wire))
        await until(lambda: bool(journal_of(journal, "told")))
    assert "exited with status 0" in task.result().why


async def _failure(wire: StdioWire) -> Unavailable:
    with pytest.raises(Unavailable) as failed:
        await wire.exchange(ask(), None, soon())
    return failed.value


async def test_a_wire_without_a_process_is_killed_in_vain() -> None:
    wire = StdioWire("time")
    wire._kill()
    assert wire.obituary() == "the process closed its output"


def test_an_unknown_signal_is_told_by_its_number() -> None:
    assert stdio._ending(-signal.SIGRTMIN - 1) == f"was ended by signal {signal.SIGRTMIN + 1}"


# --- messages for which there must be room


LARGE = [
    ["write", 1, '{"jsonrpc":"2.0","id":1,"result":{"x":"'],
    ["write", 1, "x", 2_000_000],
    ["write", 1, '"}}\n'],
]


async def test_what_is_large_is_not_read_before_there_is_room_for_it(journal: Path) -> None:
    rooms = room()
    async with spawned(journal, {"big": LARGE, "ping": [PONG]}) as wire, asyncio.TaskGroup() as group:
        rooms.leaves_unread(rooms.limit)
        asked = group.create_task(wire.exchange(ask(1, "big"), None, soon()))
        await until(lambda: rooms.wanted)
        assert wire._cutter.pending < 1_000_000
        rooms.leaves_unread(-rooms.limit)
        assert len(bytes((await asked).message.result)) == 2_000_008
        await until(lambda: rooms.used == 0)
        assert bytes((await wire.exchange(ask(2), None, soon())).message.result) == b"{}"


async def test_who_is_closed_while_he_waits_for_room_leaves_none_behind(journal: Path) -> None:
    rooms = room()
    async with spawned(journal, {"big": LARGE}) as wire, asyncio.TaskGroup() as group:
        rooms.leaves_unread(rooms.limit)
        asked = group.create_task(wire.exchange(ask(1, "big"), None, soon()))
        await until(lambda: rooms.wanted)
        asked.cancel()
    await until(lambda: not rooms.wanted)
    rooms.leaves_unread(-rooms.limit)
    assert rooms.used == 0
