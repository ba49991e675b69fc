"""``vmcp mount`` and ``unmount``. Rule: the file is the truth, and a file that would be worse is never written."""

from pathlib import Path

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


def test_a_wrong_command_line_is_told(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        for words in (
            ["n"],
            ["n", "--url", "https://x/mcp", "--", "run"],
            ["n", "--url", "https://x/mcp", "-e", "A=b"],
            ["n", "-H", "A=b", "--", "run"],
            ["n", "-e", "nonsense", "--", "run"],
        ):
            here.run("mount", *words, code=2)
        assert here.file.read_text() == TEXT
