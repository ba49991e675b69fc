"""``vmcp mount`` and ``unmount``. Rule: the file is the truth, and a file that would be worse is never written."""

from pathlib import Path

import pytest

from tests.cli.instances import PYTHON, TEXT, TOOLBOX, site, started


def test_a_backend_comes_and_goes_with_the_file(tmp_path: Path) -> None:
    text = f"# mine\n{TEXT}"
    with started(tmp_path, text) as here:
        program = [PYTHON.strip('"'), "-S", str(TOOLBOX)]
        here.run("mount", "more", "-e", "HOME=${HOME}", "--", *program)
        assert here.file.read_text().startswith("# mine\n")
        assert '          HOME: "${HOME}"\n' in here.file.read_text()
        assert here.run("list", "-o", "name").stdout.split() == ["box", "more"]
        here.run("unmount", "more")
        assert here.file.read_text() == text
        assert here.run("list", "-o", "name").stdout.split() == ["box"]


def test_what_would_be_wrong_is_shown_and_not_written(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        refused = here.run("mount", "bad", "--url", "ftp://x.example.com", code=78)
        assert "groups.g.backends.bad.url: must begin with" in refused.stderr
        assert here.file.read_text() == TEXT
        assert "there is a backend 'box' already" in here.run("mount", "box", "--url", "https://x/mcp", code=2).stderr
        here.run("unmount", "none", code=2)
        here.run("mount", "n", "--url", "https://x.example.com/mcp", "-c", "none.yaml", code=66)
        assert here.file.read_text() == TEXT


def test_a_file_alone_is_enough_and_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        real = tmp_path / "real.yaml"
        here.file.rename(real)
        here.file.symlink_to(real)
        real.chmod(0o640)
        here.run("mount", "web", "--url", "https://x.example.com/mcp", "-H", "X-A=1", "--group", "g")
        assert here.file.is_symlink()
        assert real.stat().st_mode & 0o777 == 0o640
        assert '        headers:\n          X-A: "1"\n' in real.read_text()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["real.yaml", "run", "vmcp.yaml"]


def test_what_this_shell_does_not_know_is_no_error(tmp_path: Path) -> None:
    with site(tmp_path, TEXT + "metadata: {a: '${NOBODY_SET_THIS}'}\n") as here:
        here.run("mount", "web", "--url", "https://x.example.com/mcp")
        assert "web" in here.file.read_text()


FRAGMENT = """\
backends:
  one: {url: "https://one.example.com/mcp", headers: {X-Day: 2025-11-25}}
groups:
  g:
    backends: {two: {url: "https://two.example.com/mcp", headers: {X-Key: "${HOME}"}}}
  more:
    backends:
      three: {command: [run, "yes"]}
"""


def test_all_backends_of_a_file_come_in_their_groups(tmp_path: Path) -> None:
    with site(tmp_path, f"# mine\n{TEXT}") as here:
        (tmp_path / "f.yaml").write_text(FRAGMENT)
        assert here.run("mount", "f.yaml").stderr.splitlines()[-1] == "mounted one, two, three"
        text = here.file.read_text()
        assert text.startswith("# mine\n")
        shown = here.json("config", "show", "-c", "vmcp.yaml")["groups"]
        assert [*shown] == ["g", "more"]
        assert [*shown["g"]["backends"]] == ["box", "one", "two"]
        assert 'X-Day: "2025-11-25"' in text
        assert 'X-Key: "${HOME}"' in text
        assert "already" in here.run("mount", "f.yaml", "--group", "g", code=2).stderr
        for name in ("one", "two"):
            here.run("unmount", name)
        assert "last backend" in here.run("unmount", "three", code=2).stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("groups: {g: {backends: {n: {url: 'https://x/mcp'}}}}\nserver: {port: 1}", "by hand: server"),
        ("groups: {g: {title: x, backends: {n: {url: 'https://x/mcp'}}}}", "into it by hand: title"),
        ("mcpServers: {n: {url: 'https://x/mcp'}}", "vmcp init --from f.json"),
        ("groups: {g: {backends: {box: {url: 'https://x/mcp'}}}}", "there is a backend 'box' already"),
        ("groups: {g: {backends: {}}}", "and nothing else"),
        ("groups: {g: 7}", "and nothing else"),
        ("backends: {n: null}", "and nothing else"),
        ("backends: {n: x}", "and nothing else"),
        ('{"backends": {"n": {}}, "\\u001b]0;x\\u0007": 1}', "by hand:  ]0;x "),
        ("groups: 7", "by hand: groups"),
        ("name: x", "by hand: name"),
        ("", "the file is empty"),
        ("a: [", "f.json: 1:"),
    ],
)
def test_a_file_that_cannot_be_taken_whole_is_not_taken(tmp_path: Path, text: str, why: str) -> None:
    with site(tmp_path) as here:
        (tmp_path / "f.json").write_text(text)
        assert why in here.run("mount", "f.json", code=2).stderr
        assert here.file.read_text() == TEXT


def test_a_wrong_command_line_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.run("mount", "none.yaml", code=66)
        for words in (
            ["n"],
            ["n", "--url", "https://x/mcp", "--", "run"],
            ["n", "--url", "https://x/mcp", "-e", "A=b"],
            ["n", "-H", "A=b", "--", "run"],
            ["n", "-e", "nonsense", "--", "run"],
            ["f.yaml", "-e", "A=b"],
        ):
            here.run("mount", *words, code=2)
        assert here.file.read_text() == TEXT
