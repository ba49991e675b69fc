"""Commands about a running instance, over its real socket.

Rule: one instance for those who only look; whoever changes something has one of his own.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.instances import BOX, TEXT, Site, site, started
from tests.cli.processes import environment
from vmcp.cli import instance


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(tmp_path_factory.mktemp("house")) as made:
        yield made


def test_status_is_one_screen(house: Site) -> None:
    shown = house.process("status").stdout
    assert "house" in shown
    assert "1 of 1 healthy" in shown
    assert "/g/mcp" in shown
    assert "\x1b" not in shown
    assert house.json("status")["backends"] == {"total": 1, "up": 1, "healthy": 1}
    assert house.run("status", "-o", "name").stdout == "house\n"
    assert house.run("status", "-o", "yaml").stdout.startswith('name: "house"\n')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], ["box"]),
        (["list", "tools"], ["box_add", "box_fail", "box_count", "box_ask", "box_picture"]),
        (["list", "tools", "--endpoint", "/mcp"], ["box_add", "box_fail", "box_count", "box_ask", "box_picture"]),
        (["list", "prompts"], ["box_greet"]),
        (["list", "resources"], ["file:///page"]),
        (["list", "templates"], []),
        (["list", "groups"], ["g", "g"]),
        (["list", "sessions"], []),
        (["info"], ["box"]),
        (["info", "box"], ["box"]),
        (["health"], ["box"]),
        (["health", "check"], ["box"]),
    ],
)
def test_names_are_for_other_commands(house: Site, arguments: list[str], expected: list[str]) -> None:
    assert house.run(*arguments, "-o", "name").stdout.split() == expected


def test_a_table_has_what_is_worth_a_column(house: Site) -> None:
    first, line = house.run("list").stdout.splitlines()
    assert first.split() == ["NAME", "GROUP", "TRANSPORT", "PROTOCOL", "VERSION", "STATE", "HEALTH", "TOOLS"]
    assert line.split() == ["box", "g", "stdio", "2025-11-25", "up", "healthy", "5"]
    assert house.run("list", "sessions").stderr == "none\n"


def test_info_says_what_becomes_of_what_is_offered(house: Site) -> None:
    shown = house.run("info", "box").stdout
    assert "tools      add           box_add" in shown
    assert "isolation        session" in shown
    assert house.run("info", "none", code=1).stderr == "vmcp: there is nothing of this name\n"
    assert house.json("info")["offers"][0]["name"] == "box_add"


def test_health_is_for_what_restarts_containers(house: Site) -> None:
    assert house.run("health", "--quiet").stdout == ""
    assert house.run("health").stdout.endswith("house is ready\n")
    assert house.json("health")["ready"] is True


def test_metrics_are_numbers_by_their_names(house: Site) -> None:
    assert "vmcp_requests_total" in house.run("metrics", "show").stdout
    assert house.json("metrics")["vmcp_servers_total"] == 1


def test_the_log_can_be_read(house: Site) -> None:
    shown = house.run("logs", "-n", "200").stdout
    assert " info    listening url=http://127.0.0.1:" in shown
    lines = house.run("logs", "--json", "-n", "1000").stdout.splitlines()
    assert json.loads(lines[0])["msg"] == "listening"
    assert house.run("logs", "-n", "0").stdout == ""


def test_the_configuration_that_counts_can_be_read(house: Site) -> None:
    shown = house.run("config", "show").stdout
    assert 'name: "house"' in shown
    assert "toolbox" not in shown, "a command line may hold secrets"
    assert "server.port:" in house.run("config", "show", "--origin").stdout.replace('"', "")
    assert house.json("config", "show", "-c", "vmcp.yaml")["name"] == "house"
    assert house.run("config", "validate").stdout.startswith("ok: house")


def test_nobody_there_is_said_so(tmp_path: Path) -> None:
    with site(tmp_path) as empty:
        for verb in (
            ["status"],
            ["list"],
            ["info"],
            ["health"],
            ["metrics"],
            ["reload"],
            ["stop"],
            ["logs"],
            ["tools"],
        ):
            ended = empty.run(*verb, code=4)
            assert ended.stderr == "vmcp: there is no vmcp running for this user; start one with: vmcp start\n"
        assert empty.run("status", "--admin", "other", code=4).stderr.startswith("vmcp: there is no vmcp of the name")
        assert "nobody answers at" in empty.run("status", "--admin", "/no/such.sock", code=4).stderr
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(tmp_path / "run" / "left.sock"))
        left.close()
        assert "nobody answers at" in empty.run("status", "--admin", f"{tmp_path}/run/left.sock", code=4).stderr


def test_what_is_no_vmcp_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(tmp_path / "s.sock"))
        stranger.listen()
        monkeypatch.setattr(instance, "PATIENCE", 0.05)
        with pytest.raises(instance.Failed, match="does not answer") as late:
            instance.Instance(str(tmp_path / "s.sock")).ask("GET", "status", patience=0.05)
        assert late.value.exit_code == 4
    for said in (b"220 mail\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello"):
        here, there = socket.socketpair()
        there.sendall(said)
        there.shutdown(socket.SHUT_WR)
        monkeypatch.setattr(instance, "_connected", lambda where, patience, here=here: here)
        with pytest.raises(instance.Failed, match=r"HTTP|does not speak as vmcp does") as strange:
            instance.Instance("x/y").get("status")
        assert strange.value.exit_code == 4
        there.close()


def test_of_several_one_has_to_be_named_and_a_port_wants_its_token(tmp_path: Path) -> None:
    with started(tmp_path) as here:
        text = TEXT.replace("name: house", "name: second") + 'admin: {listen: "127.0.0.1:0"}\n'
        (tmp_path / "second.yaml").write_text(text)
        here.process("start", "-c", "second.yaml")
        ended = here.run("status", code=4)
        assert "several are running; name one of them:" in ended.stderr
        assert f"--admin {tmp_path}/run/second.sock" in ended.stderr
        assert here.run("status", "--admin", "second", "-o", "name").stdout == "second\n"
        assert here.run("status", "--admin", f"{tmp_path}/run/house.sock", "-o", "name").stdout == "house\n"
        lines = map(json.loads, here.run("logs", "--admin", "second", "--json", "-n", "1000").stdout.splitlines())
        url = next(line["url"] for line in lines if line["msg"] == "admin")
        assert here.run("status", "--admin", url, code=3).stderr == "vmcp: show the token of admin.tokenFile\n"
        os.environ["VMCP_ADMIN_TOKEN"] = "wrong"
        here.run("status", "--admin", url, code=3)
        os.environ["VMCP_ADMIN_TOKEN"] = (tmp_path / "run" / "second.token").read_text().strip()
        try:
            assert here.run("status", "--admin", url, "-o", "name").stdout == "second\n"
            assert "over its socket only" in here.run("stop", "--admin", url, code=4).stderr
        finally:
            del os.environ["VMCP_ADMIN_TOKEN"]


def test_a_reload_and_the_level_of_the_log_are_asked_for(tmp_path: Path) -> None:
    with started(tmp_path) as here:
        assert here.run("reload").stdout == "unchanged\n"
        here.file.write_text(TEXT + "nonsense: 1\n")
        ended = here.run("reload", code=78)
        assert ended.stdout == "rejected\n"
        assert "nonsense: unknown key" in ended.stderr
        assert here.json("reload", code=78)["result"] == "rejected"
        here.file.write_text(TEXT.replace("      box:", f"      twin: {BOX}\n      box:"))
        here.run("reload")
        assert here.run("list", "-o", "name").stdout.split() == ["twin", "box"]
        assert "info → debug" in here.run("logs", "level", "debug").stdout
        here.run("logs", "level", "loud", code=2)


def test_a_log_is_followed(tmp_path: Path) -> None:
    with started(tmp_path) as here:
        command = [sys.executable, "-m", "vmcp", "logs", "-f"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as following:
            assert following.stdout is not None
            here.run("logs", "level", "debug")
            assert any("log level changed" in line for line in following.stdout)
            following.terminate()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vmcp st", ["start", "stop", "status", "stdio"]),
        ("vmcp info ", ["box"]),
        ("vmcp call box_c", ["box_count"]),
        ("vmcp prompt ", ["box_greet"]),
        ("vmcp call --admin /no/such.sock ", []),
    ],
)
def test_a_shell_completes_with_what_runs(house: Site, line: str, expected: list[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_VMCP_COMPLETE": "bash_complete"}
    code = "from vmcp.cli import main; main(prog_name='vmcp')"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**environment(), **words}, check=False
    )
    assert [each.partition(",")[2] for each in ended.stdout.split()] == expected, ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_the_shell_is_printed(house: Site, shell: str) -> None:
    assert "_VMCP_COMPLETE" in house.run("completion", shell).stdout
    house.run("completion", "tcsh", code=2)
