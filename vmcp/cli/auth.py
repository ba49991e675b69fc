"""``vmcp auth``: log in at a backend in the gateway's name or one's own, see how that stands, and end it.

The rule: no token and no code is ever printed.
"""

import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import uvloop

from vmcp.cli import files, logs
from vmcp.config.model import Config
from vmcp.errors import VmcpError
from vmcp.server import login as logins
from vmcp.server.login import Consent, Login

OK, UNAVAILABLE, NO_PERMISSION = 0, 69, 77
T = TypeVar("T")
_LONG = 366 * 24 * 60
"""Minutes."""
_CONFIG = click.option(
    "--config", "-c", "paths", multiple=True, envvar="VMCP_CONFIG", help="A configuration file.  [default: vmcp.yaml]"
)


@click.group()
def command() -> None:
    """Log in at backends whose strategy is oauth.

    With mode 'gateway' the login is for everybody; with mode 'user' it is yours, and vmcp lists the backend with it.
    """


@command.command()
@click.argument("backend")
@_CONFIG
@click.option("--headless", is_flag=True, help="The browser is on another machine: paste where it ended.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Ask for this scope too.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where the browser comes back to.  [default: any]"
)
def login(backend: str, paths: tuple[str, ...], headless: bool, scopes: tuple[str, ...], port: int) -> None:
    """Log in at BACKEND.

    Exit codes: 0 logged in, 77 refused, 69 not possible now, 78 bad configuration, 66 no such file, 2 usage.
    """
    wanted = tuple(each for scope in scopes for each in scope.split())
    paste = _paste if headless else None
    made = _done(paths, backend, lambda consent: logins.login(consent, wanted, _show, paste, port))
    click.echo(f"logged in at {backend} ({_told(made)})")


@command.command()
@click.argument("backend")
@_CONFIG
def status(backend: str, paths: tuple[str, ...]) -> None:
    """Say whether there is a login at BACKEND.

    Exit codes: 0 there is, 77 there is none, 78 bad configuration, 66 no such file, 2 usage.
    """
    found = _done(paths, backend, logins.status)
    whose = "yours" if found.per_user else "the gateway's"
    click.echo(
        f"{backend}: {f'logged in ({_told(found.login)})' if found.login else 'not logged in'}; this login is {whose}"
    )
    if found.per_user:
        click.echo(f"{backend}: logins of {found.others} other users are kept")
    sys.exit(OK if found.login is not None else NO_PERMISSION)


@command.command()
@click.argument("backend")
@_CONFIG
def logout(backend: str, paths: tuple[str, ...]) -> None:
    """Forget the login at BACKEND; a running instance does so within a minute.

    Exit codes: 0 it is gone, 78 bad configuration, 66 no such file, 2 usage.
    """
    gone = _done(paths, backend, logins.logout)
    click.echo(f"logged out of {backend}" if gone else f"there was no login at {backend}")


def _done(paths: tuple[str, ...], backend: str, work: Callable[[Consent], Coroutine[Any, Any, T]]) -> T:
    config = files.configuration(files.read(paths or ("vmcp.yaml",)))
    logs.configure("error", "auto")
    try:
        return uvloop.run(_at(config, backend, work))
    except logins.NoLogin as error:
        click.echo(f"vmcp: {error}", err=True)
        sys.exit(UNAVAILABLE)
    except VmcpError as error:
        click.echo(f"vmcp: {error}", err=True)
        sys.exit(NO_PERMISSION)


async def _at(config: Config, backend: str, work: Callable[[Consent], Coroutine[Any, Any, T]]) -> T:
    async with logins.at(config, backend, os.environ) as consent:
        return await work(consent)


def _show(url: str) -> None:
    click.echo("Open this page in a browser, and log in there:")
    click.echo(f"\n  {url}\n")


def _paste() -> str:
    return str(click.prompt("When the browser shows an error, paste the address of that page here"))


def _told(login: Login) -> str:
    left = max(0, round((login.until - time.time()) / 60))
    stays = (
        "renewed by itself" if login.refresh else f"good for {left} minutes" if left < _LONG else "good until withdrawn"
    )
    scopes = f", scopes: {' '.join(login.scopes)}" if login.scopes else ""
    return f"at {login.issuer}, {stays}{scopes}"
