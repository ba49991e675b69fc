"""``vmcp start``, ``stop`` and ``restart``: real processes.

Rule: what is said to be there answers, and what is said to be gone is gone.
"""

import http.client
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.instances import TEXT, Site, site
from tests.cli.processes import gone
from vmcp.cli import instance, stop


def pid(here: Site) -> int:
    return int(here.json("status")["pid"])


def test_it_comes_back_with_a_url_and_ends_with_nothing_left(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        ended = here.process("start")
        urls = ended.stdout.split()
        assert [urlsplit(url).path for url in urls] == ["/mcp", "/g/mcp"]
        connection = http.client.HTTPConnection(urlsplit(urls[0]).netloc, timeout=5)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
        assert "house is ready: 1 of 1 backends up" in ended.stderr
        first = pid(here)
        assert os.getsid(first) == first, "it outlives this terminal"

        again = here.process("start", code=69)
        assert re.search(r"house runs already, at .*house\.sock; see vmcp restart", again.stderr)

        log = tmp_path / "state" / "vmcp" / "house.log"
        assert '"msg":"ready"' in log.read_text()
        assert log.stat().st_mode & 0o777 == 0o600

        here.file.write_text("nonsense")
        here.process("restart", code=78)
        assert pid(here) == first, "a bad configuration stops nothing"
        here.file.write_text(TEXT)
        here.process("restart")
        second = pid(here)
        assert second != first
        assert gone([first])

        assert here.run("stop").stdout == f"stopped house (pid {second})\n"
        assert gone([second])
        assert not list((tmp_path / "run").glob("*.sock"))
        here.run("stop", code=4)


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    with site(tmp_path, "name: x\n") as here:
        assert "groups" in here.process("start", code=78).stderr
        here.run("start", "-c", "none.yaml", code=66)
        text = TEXT.replace("port: 0", "port: 0, host: 203.0.113.7, allowAnonymousNetwork: true")
        here.file.write_text(text)
        ended = here.process("start", "--log-file", "own.log", code=69)
        assert "cannot listen on 203.0.113.7" in ended.stderr
        assert "it did not start (exit code 69)" in ended.stderr
        assert "cannot listen" in (tmp_path / "own.log").read_text()
        assert "cannot be written" in here.process("start", "--log-file", "no/such.log", code=73).stderr
        here.run("status", code=4)


def test_what_is_not_ready_in_time_says_who_is_waited_for(tmp_path: Path) -> None:
    text = TEXT.replace("isolation: session", "isolation: session, required: true").replace(
        "-S,", "-S, -c, 'import os; os.read(0, 1)',"
    )
    with site(tmp_path, text) as here:
        assert "it said nothing for 0 s" in here.process("start", "--wait", "0", code=75).stderr
        ended = here.process("start", "--wait", "6", code=75)
        assert "it waits for box" in ended.stderr
        assert here.run("health", "-q", code=1).stdout == ""
        here.run("stop")


def test_who_does_not_end_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(instance.Instance):
        def pid(self) -> int:
            return os.getpid()

    monkeypatch.setattr("signal.pidfd_send_signal", lambda fd, number: None)
    with pytest.raises(instance.Failed, match=r"has not ended in 0 s; see --force") as late:
        stop.end(Deaf("x/y"), 0)
    assert late.value.exit_code == 75

    def refused(fd: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("signal.pidfd_send_signal", refused)
    with pytest.raises(instance.Failed, match="another user's") as foreign:
        stop.end(Deaf("x/y"), 0)
    assert foreign.value.exit_code == 77
