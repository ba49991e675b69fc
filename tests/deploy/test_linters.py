"""What the tools say of ``deploy/`` for whom it is made: kubectl, helm, kubernetes-validate, systemd-analyze, check-jsonschema …

Rule: they are not part of the project and run where they are: VMCP_DEPLOY_TOOLS=1 wants them all on the PATH, and fails without.
In CI their place is taken by ``test_manifests.py``, and by what they have made, which lies in ``rendered/``.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.processes import ROOT
from tests.deploy.manifests import DEPLOY, RENDERED, SOURCES
from tests.deploy.render import made

pytestmark = pytest.mark.skipif(
    not os.environ.get("VMCP_DEPLOY_TOOLS"), reason="tools of others: VMCP_DEPLOY_TOOLS=1 runs them"
)
MOST = 2.0
"""systemd's measure of exposure that the unit may have: 0 is none, 10 is all."""


def said(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    """All that a tool that is satisfied has to say."""
    given = {**os.environ, **environ}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", SOURCES)
def test_what_lies_here_is_what_the_tools_make(name: str) -> None:
    assert made(name) == (RENDERED / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("name", SOURCES)
def test_kubernetes_knows_every_key(name: str, version: str) -> None:
    told = said("kubernetes-validate", "--strict", "-k", version, RENDERED / f"{name}.yaml")
    unknown = [line for line in told.splitlines() if line and not line.startswith("INFO")]
    assert all("ServiceMonitor" in line for line in unknown), unknown


def test_helm_has_nothing_to_say() -> None:
    chart = DEPLOY / "helm" / "vmcp"
    for more in ((), ("--values", Path(__file__).with_name("full-values.yaml"))):
        assert "0 chart(s) failed" in said("helm", "lint", "--strict", "--kube-version", "1.33", chart, *more)
    refused = subprocess.run(["helm", "template", str(chart), "--set", "replica=2"], capture_output=True, check=False)
    assert refused.returncode != 0


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.compose-spec", "compose/compose.yaml"),
        ("vendor.github-actions", "action/action.yml"),
    ],
)
def test_files_of_others_have_their_form(schema: str, path: str) -> None:
    said("check-jsonschema", "--builtin-schema", schema, DEPLOY / path)


def test_pre_commit_takes_the_hook() -> None:
    said("pre-commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml")


@pytest.mark.parametrize("name", ["docker/Dockerfile", "compose/identity/Dockerfile"])
def test_a_dockerfile_has_no_fault(name: str) -> None:
    assert said("dockerfile-utils", "lint", DEPLOY / name).strip() == ""


def test_scripts_are_bash() -> None:
    said("bash", "-n", DEPLOY / "docker" / "rootfs")


def units(folder: Path, *, user: bool = False) -> Path:
    """The units as they would lie on a machine where vmcp is /bin/true."""
    made = folder / ("user" if user else "system")
    shutil.copytree(DEPLOY / "systemd", made)
    (made / "vmcp.service.d" / "credentials.conf").unlink()
    text = (made / "vmcp.service").read_text()
    (made / "vmcp.service").write_text(text.replace("/usr/local/bin/vmcp", "/bin/true"))
    return made


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """An older systemd says that it does not know notify-reload, and takes what older-systemd.conf says."""
    folder = units(tmp_path)
    told = said("systemd-analyze", "verify", "--man=no", folder / "vmcp.service", folder / "vmcp.socket")
    assert all("notify-reload" in line for line in told.splitlines() if line), told


def test_a_unit_of_a_person_is_taken_too(tmp_path: Path) -> None:
    printed = said("python3", "-m", "vmcp", "service", "print", "--user", "--program", "/bin/true")
    (tmp_path / "vmcp.service").write_text(printed)
    (tmp_path / "run").mkdir(mode=0o700)
    told = said(
        *("systemd-analyze", "verify", "--user", "--man=no", tmp_path / "vmcp.service"),
        XDG_RUNTIME_DIR=str(tmp_path / "run"),
    )
    assert all("notify-reload" in line for line in told.splitlines() if line), told


def test_the_unit_is_shut_in(tmp_path: Path) -> None:
    told = said("systemd-analyze", "security", "--offline=yes", "--no-pager", units(tmp_path) / "vmcp.service")
    (line,) = [line for line in told.splitlines() if "Overall exposure" in line]
    assert float(line.rpartition(": ")[2].split()[0]) <= MOST
