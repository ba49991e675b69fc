"""The commands of the manifests, really run: what a unit, an image and a pod start answers as they expect it.

Rule: the words, the configuration and the environment are those of the files; only places and addresses are of the test.
"""

import http.client
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import ROOT, environment
from tests.cli.systemd import ear, service
from tests.deploy.manifests import DEPLOY, commands, of_kind, rendered, unit
from vmcp.server.serving import BACKLOG

NOWHERE = "http://127.0.0.1:1/mcp"
POD_IP = "10.1.2.3"


def local(text: str, secrets: Path) -> str:
    """A configuration that leads nowhere outside, with its secrets in a folder of the test."""
    text = re.sub(r"https://(api|idp)\.[^\s]+", NOWHERE, text).replace("/run/secrets/vmcp", str(secrets))
    return text.replace(f"issuer: {NOWHERE}", "issuer: https://127.0.0.1:1")


def asked(port: int, path: str, host: str) -> int:
    """The status of an answer to ``host``, which is what whoever asks takes us for."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        line.request("GET", path, headers={"Host": host})
        answer = line.getresponse()
        answer.read()
        return answer.status
    finally:
        line.close()


def healthy(folder: Path, words: list[str]) -> int:
    """The exit code of a health check beside the instance."""
    given = {**environment(), "VMCP_RUN_DIR": str(folder)}
    command = [sys.executable, "-m", "vmcp", *words]
    return subprocess.run(command, env=given, cwd=ROOT, timeout=30, check=False).returncode


@pytest.mark.parametrize("name", ["production", "helm-full"])
def test_a_pod_answers_the_kubelet_and_scrapers_and_no_strangers(name: str, tmp_path: Path) -> None:
    found = rendered(name)
    (container,) = of_kind(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "github-token").write_text("Bearer of-the-pod")
    (secrets / "state-keys").write_text("5e" * 32)
    (secrets / "state-keys").chmod(stat.S_IRUSR)
    config = tmp_path / "vmcp.yaml"
    config.write_text(local(of_kind(found, "ConfigMap")["data"]["vmcp.yaml"], secrets))
    words = [str(config) if word == "/etc/vmcp/vmcp.yaml" else word for word in container["args"]]
    given: dict[str, str] = {each["name"]: each.get("value", POD_IP) for each in container["env"]}
    with service(*words[1:], "--port", "0", environ={**given, "VMCP_RUN_DIR": str(tmp_path / "run")}) as process:
        process.until('"msg":"(ready|not ready)"')
        port = int(process.until(r"http://0\.0\.0\.0:(\d+)")[1])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert asked(port, container[probe]["httpGet"]["path"], f"{POD_IP}:4483") == 200
        assert asked(port, "/metrics", f"{POD_IP}:4483") == 401, "served, to who may call"
        assert asked(port, "/readyz", "evil.example") == 421
        assert asked(port, "/mcp", given.get("SERVICE_HOST", "vmcp.vmcp.svc")) == 401
        assert healthy(tmp_path / "run", _words("Dockerfile HEALTHCHECK")) == 0
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert healthy(tmp_path / "run", _words("Dockerfile HEALTHCHECK")) != 0
    assert "of-the-pod" not in process.text


def test_an_image_serves_the_configuration_of_compose(tmp_path: Path) -> None:
    config = tmp_path / "vmcp.yaml"
    config.write_text(local((DEPLOY / "compose" / "vmcp.yaml").read_text(), tmp_path))
    words = [str(config) if word == "/etc/vmcp/vmcp.yaml" else word for word in _words("Dockerfile")]
    with service(*words[1:], "--port", "0", environ={"VMCP_RUN_DIR": str(tmp_path / "run")}) as process:
        port = int(process.until(r"http://0\.0\.0\.0:(\d+)")[1])
        assert asked(port, "/livez", "localhost:4483") == 200
        assert asked(port, "/mcp", "localhost:4483") == 401
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_unit_starts_with_its_socket_its_credential_and_its_folders(tmp_path: Path) -> None:
    """As systemd does: it puts its folders into the words, opens the socket, and listens to what is reported."""
    folder = DEPLOY / "systemd"
    facts: list[tuple[str, str, str]] = unit(folder / "vmcp.service")
    places = {
        f"%{letter}": str(tmp_path / name)
        for letter, name in (("E", "etc"), ("S", "lib"), ("C", "cache"), ("t", "run"))
    }
    for place in places.values():
        (Path(place) / "vmcp").mkdir(mode=0o700, parents=True)
    (tmp_path / "etc" / "vmcp" / "vmcp.yaml").write_text(local((folder / "vmcp.yaml").read_text(), tmp_path))
    (tmp_path / "github-token").write_text("Bearer of-systemd")
    given: dict[str, Any] = dict(
        pair.split("=", 1) for _, key, value in facts if key == "Environment" for pair in _put(value, places).split()
    )
    (start,) = [_put(value, places) for _, key, value in facts if key == "ExecStart"]
    with ear(tmp_path) as told, socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as handed:
        environ = {**given, "NOTIFY_SOCKET": str(told.path), "CREDENTIALS_DIRECTORY": str(tmp_path)}
        with service(*shlex.split(start)[2:], environ=environ, given=handed, names="clients") as process:
            told.until("READY=1")
            told.until("STATUS=")
            assert asked(handed.getsockname()[1], "/readyz", "localhost") == 200
            assert healthy(tmp_path / "run" / "vmcp", ["health", "--quiet"]) == 0
            at = len(told.heard)
            process.signal(signal.SIGHUP)
            told.until("RELOADING=1\nMONOTONIC_USEC=", at)
            told.until("READY=1", at)
            process.signal(signal.SIGTERM)
            assert process.end() == 0
    assert "of-systemd" not in process.text


def _put(text: str, places: dict[str, str]) -> str:
    for letters, place in places.items():
        text = text.replace(letters, place)
    assert "%" not in text, "a specifier that is not known here"
    return text


def _words(where: str) -> list[str]:
    return next(words for place, words in commands() if place == where)
