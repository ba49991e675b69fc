"""``vmcp ui``. Rule: a real process; the link that is printed is followed, and a second time it is not let in."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.processes import CHILD, run, serving
from vmcp.cli.ui import has_display


@pytest.mark.parametrize(
    ("environ", "platform", "display"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": "localhost:10", "SSH_CONNECTION": "x"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "x"}, "darwin", False),
    ],
)
def test_a_browser_is_opened_where_somebody_sees_it(environ: dict[str, str], platform: str, display: bool) -> None:
    assert has_display(environ, platform) is display


def config(folder: Path, admin: str) -> str:
    file = folder / "vmcp.yaml"
    file.write_text(
        f"name: {folder.name}\nadmin: {{socket: a.sock, {admin}}}\n"
        f"groups: {{g: {{backends: {{box: {{command: [python3, {CHILD}]}}}}}}}}\n"
    )
    return str(file)


def test_a_link_is_printed_that_works_once(tmp_path: Path) -> None:
    with serving("-c", config(tmp_path, 'listen: "127.0.0.1:0", ui: {enabled: true}')) as process:
        process.until("admin")
        done = run("ui", "--print", "--admin", str(tmp_path / "a.sock"))
        assert (done.returncode, done.stderr) == (0, "")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(done.stdout.strip(), timeout=10) as page:
            assert page.url.endswith("/ui/")
            assert b"Overview" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            opener.open(done.stdout.strip(), timeout=10)


def test_where_there_are_no_pages_it_says_what_to_set(tmp_path: Path) -> None:
    with serving("-c", config(tmp_path, 'listen: "127.0.0.1:0"')) as process:
        process.until("admin")
        done = run("ui", "--admin", str(tmp_path / "a.sock"))
        assert done.returncode == 1
        assert done.stderr == "vmcp: there are no web pages; set admin.ui.enabled and admin.listen\n"
