"""``vmcp doctor``: whether a configuration can work on this machine, and what to do where it cannot.

The rule: it changes nothing, shows no secret, and each thing that is wrong comes with what to do about it.
"""

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from vmcp.admin import place
from vmcp.cli import files, instance, output
from vmcp.cli.start import running
from vmcp.config.model import BackendSpec, Config
from vmcp.config.values import SecretRef

OK, WRONG = "ok", "failed"
PROGRAMS: Final[Mapping[str, str]] = {
    "npx": "install Node.js",
    "node": "install Node.js",
    "uvx": "install uv",
    "uv": "install uv",
    "docker": "install Docker",
    "podman": "install Podman",
}
Finding = dict[str, Any]


@click.command()
@click.option("--config", "-c", "paths", multiple=True, envvar="VMCP_CONFIG", help="A file.  [default: vmcp.yaml]")
@click.option("--offline", is_flag=True, help="Do not ask the backends.")
@click.option("--wait", default=15.0, show_default=True, help="Seconds for backends to answer.")
@output.option
def command(paths: tuple[str, ...], offline: bool, wait: float, form: str) -> None:
    """Look at everything that a configuration needs on this machine: programs, secrets, places, backends.

    Exit codes: 0 all is well, 1 something is not, 78 bad configuration, 66 no such file.
    """
    config = files.configuration(files.read(paths or ("vmcp.yaml",)))
    where = running(config.name)
    found = [*_programs(config), *_secrets(config), *_places(config, where)]
    if not offline:
        found += _backends(config, where, wait)
    output.rows(found, ["state", "what", "about", "fix"], form, name="what")
    sys.exit(0 if all(each["state"] == OK for each in found) else 1)


def _finding(what: str, about: str, fix: str = "") -> Finding:
    return {"state": WRONG if fix else OK, "what": what, "about": about, "fix": fix}


def _programs(config: Config) -> Iterator[Finding]:
    for spec in config.backends:
        if spec.command:
            yield _program(spec)


def _program(spec: BackendSpec) -> Finding:
    program, own = spec.command[0], spec.env.get("PATH")
    path = own if isinstance(own, str) else os.environ.get("PATH")
    at = shutil.which(program, path=path)
    if at is not None:
        return _finding(f"program of {spec.name}", at)
    fix = PROGRAMS.get(Path(program).name, "install it, or write its whole path")
    return _finding(f"program of {spec.name}", f"{output.plain(Path(program).name)} is not on PATH", fix)


def _secrets(config: Config) -> Iterator[Finding]:
    for ref in dict.fromkeys(_references(config)):
        if ref.file is not None:
            there = os.access(ref.file, os.R_OK)
            yield _finding("secret", f"file {ref.file}", "" if there else "make it, readable for this user")
        else:
            there = ref.env in os.environ
            yield _finding("secret", f"variable {ref.env}", "" if there else f"export {ref.env}=…")


def _references(value: object) -> Iterator[SecretRef]:
    if isinstance(value, SecretRef):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _references(getattr(value, each.name))
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _references(below)
    elif isinstance(value, tuple):
        for below in value:
            yield from _references(below)


def _places(config: Config, where: str | None) -> Iterator[Finding]:
    host, port = config.server.host, config.server.port
    if where is not None:
        yield _finding("instance", f"runs, at {where}")
    else:
        wrong = _taken(host, port)
        yield _finding("listener", f"{host}:{port}{wrong}", "stop who has it, or set server.port" if wrong else "")
        try:
            yield _finding("admin socket", config.admin.socket or str(place.prepared(os.environ, os.geteuid())))
        except place.Unsafe as unsafe:
            yield _finding("admin socket", str(unsafe), "set admin.socket, or VMCP_RUN_DIR to a folder of your own")
    if config.audit is not None and config.audit.file is not None:
        folder = Path(config.audit.file).parent
        there = os.access(folder, os.W_OK)
        yield _finding("audit log", str(folder), "" if there else "make it, writable for this user")


def _taken(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            return f" cannot be had: {error.strerror}"
    return ""


def _backends(config: Config, where: str | None, wait: float) -> list[Finding]:
    if where is not None:
        told = instance.Instance(where).get("backends")["backends"]
    else:
        told = _asked(replace(config, start_deadline=wait, audit=None))
    return [_backend(each) for each in told]


def _backend(each: Mapping[str, Any]) -> Finding:
    up = each["state"] == "up"
    about = f"{each['tools']} tools" if up else each["why"] or "it does not answer"
    return _finding(f"backend {each['name']}", about, "" if up else f"see vmcp info {each['name']}, or its own log")


def _asked(config: Config) -> list[Mapping[str, Any]]:
    import uvloop

    from vmcp.cli import logs
    from vmcp.server.within import surveyed

    logs.configure("critical", "auto")
    return uvloop.run(surveyed(config, os.environ))
