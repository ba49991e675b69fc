"""The GitHub Action, step by step, as a runner runs it: its scripts in bash, its files and variables; GitHub itself is a script.

Rule: the scripts are those of ``action.yml``; a repository is made for each test.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import ROOT
from tests.config.samples import SMALL
from tests.deploy.manifests import DEPLOY, document

STEPS = {step["name"]: step for step in document(DEPLOY / "action" / "action.yml")["runs"]["steps"]}
GH = '#!/bin/sh\nprintf "%s\\n" "$*" >> "$GH_LOG"\ncase "$*" in *--paginate*) cat "$GH_FOUND" ;; esac\n'


class Runner:
    """A runner with a checkout. ``outputs`` is what steps have said so far."""

    def __init__(self, folder: Path) -> None:
        self.temp, self.checkout = folder / "temp", folder / "checkout"
        tools = folder / "tools"
        for each in (self.temp, self.checkout, tools):
            each.mkdir()
        self.summary, self.path, self._output = folder / "summary", folder / "path", folder / "output"
        self.log, self.found = folder / "gh.log", folder / "gh.found"
        for file in (self.summary, self.path, self._output, self.log, self.found):
            file.touch()
        self.vmcp = _script(tools / "vmcp", f'#!/bin/sh\nexec "{sys.executable}" -m vmcp "$@"\n')
        _script(tools / "gh", GH)
        self.environ = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_PATH": str(self.path),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GH_LOG": str(self.log),
            "GH_FOUND": str(self.found),
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    @property
    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._output.read_text().splitlines())

    def step(self, name: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        given = {**self.environ, **environ}
        assert set(STEPS[name].get("env", {})) <= set(given), "a variable that the step has"
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
            cwd=self.checkout,
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words]
        return subprocess.run(
            command, cwd=self.checkout, env=self.environ, capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()

    def commit(self, text: str) -> str:
        (self.checkout / "vmcp.yaml").write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "x")
        return self.git("rev-parse", "HEAD")


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    made = Runner(tmp_path)
    made.git("init", "--quiet")
    return made


def test_a_good_configuration_passes_and_a_wrong_one_is_annotated(runner: Runner) -> None:
    runner.commit(SMALL)
    good = runner.step("Validate", CONFIG="vmcp.yaml\n", STRICT="false")
    assert good.returncode == 0, good.stderr
    assert runner.outputs["valid"] == "true"
    assert json.loads(Path(runner.outputs["sarif"]).read_text())["runs"][0]["results"] == []
    runner.commit(SMALL + "server: {prot: 1}\n")
    wrong = runner.step("Validate", CONFIG="vmcp.yaml\n", STRICT="false")
    assert wrong.returncode == 78
    assert "::error file=vmcp.yaml,line=6," in wrong.stdout
    assert runner.outputs["valid"] == "false"
    (result,) = json.loads(Path(runner.outputs["sarif"]).read_text())["runs"][0]["results"]
    assert result["ruleId"] == "unknown-key"
    assert STEPS["Upload findings"]["if"].startswith("always()"), "findings of a wrong file are those that matter"


def test_strict_and_several_files_are_passed_on(runner: Runner) -> None:
    runner.commit(SMALL.replace("https", "http"))
    (runner.checkout / "more files.yaml").write_text("name: other\n")
    files = "vmcp.yaml\nmore files.yaml\n"
    assert "ok: other" in runner.step("Validate", CONFIG=files, STRICT="false").stdout
    assert runner.step("Validate", CONFIG=files, STRICT="true").returncode == 78


def test_a_plan_is_told_and_nobody_is_asked_or_started(runner: Runner) -> None:
    """What a pull request has written into the file is not run."""
    base = runner.commit(SMALL)
    trap = runner.temp / "started"
    runner.commit(SMALL + f"      new: {{command: [touch, {trap}]}}\n")
    told = runner.step("Plan", CONFIG="vmcp.yaml", CATALOGS="", BASE=base)
    assert told.returncode == 0, told.stderr
    assert "`new`" in runner.summary.read_text()
    assert runner.outputs["differs"] == "true"
    assert not trap.exists()
    assert runner.git("worktree", "list").count("\n") == 0, "the other checkout is gone"
    written = {"GH_TOKEN": "x", "PLAN": runner.outputs["file"], "REPOSITORY": "o/r", "NUMBER": "7", "DIFFERS": "true"}
    assert runner.step("Comment", **written).returncode == 0
    assert "--method POST repos/o/r/issues/7/comments" in runner.log.read_text()
    runner.found.write_text("42\n")
    assert runner.step("Comment", **written).returncode == 0
    assert "--method PATCH repos/o/r/issues/comments/42" in runner.log.read_text()
    assert (runner.temp / "vmcp-comment.md").read_text().startswith("<!-- vmcp plan -->\n###")


def test_what_changes_nothing_makes_no_comment(runner: Runner) -> None:
    base = runner.commit(SMALL)
    runner.commit(SMALL + "# a word\n")
    assert runner.step("Plan", CONFIG="vmcp.yaml", CATALOGS="", BASE=base).returncode == 0
    assert runner.outputs["differs"] == "false"
    said = {"GH_TOKEN": "x", "PLAN": runner.outputs["file"], "REPOSITORY": "o/r", "NUMBER": "7", "DIFFERS": "false"}
    assert runner.step("Comment", **said).returncode == 0
    assert "POST" not in runner.log.read_text()


def test_a_file_that_is_new_is_told_whole_and_a_wrong_one_fails(runner: Runner) -> None:
    runner.git("commit", "--quiet", "--allow-empty", "-m", "x")
    base = runner.git("rev-parse", "HEAD")
    runner.commit(SMALL)
    assert runner.step("Plan", CONFIG="vmcp.yaml", CATALOGS="", BASE=base).returncode == 0
    runner.commit("name: [\n")
    assert runner.step("Plan", CONFIG="vmcp.yaml", CATALOGS="", BASE=base).returncode == 78


def test_a_vmcp_that_is_there_is_used(runner: Runner) -> None:
    assert runner.step("Use", VMCP=str(runner.vmcp)).returncode == 0
    (folder,) = runner.path.read_text().splitlines()
    found = shutil.which("vmcp", path=folder)
    assert found is not None
    assert Path(found).resolve() == runner.vmcp


def test_nothing_of_an_input_is_put_into_a_script() -> None:
    """What stands in ``run`` is code; inputs come as variables."""
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")
