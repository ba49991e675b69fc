"""``vmcp selfcheck``: whether this vmcp is whole: every module of it and of others that it uses, its files, its child processes.

The rule: it needs no configuration and contacts nobody. What a build has forgotten shows here, and not at three in the morning.
"""

import importlib
import pkgutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import click

import vmcp
from vmcp.cli import output

PATIENCE: Final = 20.0
FILES: Final = ("admin/pages/templates/frame.html", "admin/pages/assets/style.css")
Finding = dict[str, Any]


@click.command()
@output.option
def command(form: str) -> None:
    """Look whether all is in place that belongs to this program. Exit codes: 0 it is whole, 1 it is not."""
    found = [_tried(name, check) for name, check in CHECKS.items()]
    output.rows(found, ["state", "what", "about"], form, name="what")
    sys.exit(0 if all(each["state"] == "ok" for each in found) else 1)


def _tried(name: str, check: Callable[[], str]) -> Finding:
    try:
        return {"state": "ok", "what": name, "about": check()}
    except (OSError, ImportError, AttributeError, ValueError, subprocess.SubprocessError) as wrong:
        return {"state": "failed", "what": name, "about": f"{type(wrong).__name__}: {wrong}"}


def names() -> Iterator[str]:
    """Every module of vmcp but the program itself, which runs already."""
    for each in pkgutil.walk_packages(vmcp.__path__, "vmcp."):
        if not each.name.endswith(".__main__"):
            yield each.name


def _modules() -> str:
    imported = [_imported(name) for name in names()]
    if len(imported) < 100:
        raise ImportError(f"only {len(imported)} modules are there")
    return f"{len(imported)} modules of vmcp, {len(sys.modules)} in all"


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError, ValueError, TypeError, NameError, LookupError, SyntaxError) as wrong:
        raise ImportError(f"{name}: {wrong}") from wrong


def _schema() -> str:
    from vmcp.config.schema import schema

    return f"{len(schema()['properties'])} keys"


def _pages() -> str:
    from importlib.resources import files

    for name in FILES:
        files("vmcp").joinpath(*name.split("/")).read_bytes()
    return ", ".join(FILES)


def _policies() -> str:
    import cedarpy

    request = {"principal": 'U::"a"', "action": 'A::"b"', "resource": 'R::"c"', "context": {}}
    decided = cedarpy.is_authorized(request, "permit(principal, action, resource);", [])
    if not decided.allowed:
        raise ValueError("a policy that permits everything denies")
    return "Cedar decides"


def _trust() -> str:
    from vmcp.egress import trust

    made = trust.context()
    return f"{made.cert_store_stats()['x509_ca']} roots{f' of {trust.roots()}' if trust.roots() else ''}"


def _children() -> str:
    """The process that keeps child processes begins, and ends when nobody needs it."""
    spawn = importlib.import_module("vmcp.upstream.spawn")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_RDWR)
        words, environment = spawn.command(), spawn.environment()
        subprocess.run(words, env=environment, stdin=theirs.fileno(), timeout=PATIENCE, check=True)  # noqa: S603 - ourselves
    return "they can be started"


def _temporary() -> str:
    with tempfile.TemporaryFile() as file:
        file.write(b"\0")
    return tempfile.gettempdir()


CHECKS: Final[dict[str, Callable[[], str]]] = {
    "modules": _modules,
    "schema": _schema,
    "pages": _pages,
    "policies": _policies,
    "trust": _trust,
    "children": _children,
    "temporary files": _temporary,
}
