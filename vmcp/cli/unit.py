"""``vmcp service``: the units with which systemd runs vmcp.

The rule: it prints and changes nothing. ``deploy/systemd`` holds what it prints for a whole machine, to the byte, so that what
is documented, linted and printed is one text.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

HEAD: Final = """\
# {title}
# Made by: vmcp service print{how}
"""
UNIT: Final = """
[Unit]
Description=vmcp: many MCP servers behind one endpoint
Documentation=man:vmcp(1)
{network}
[Service]
# It says itself when it is up, reloads, and ends. Before systemd 253: Type=notify, and ExecReload=/bin/kill -HUP $MAINPID
Type=notify-reload
{heard}
ExecStart={start}
WatchdogSec=30s
Restart=on-failure
RestartSec=1s
# Wrong usage, no such file, no log, no permission, wrong configuration: trying again would change nothing.
RestartPreventExitStatus=2 66 73 77 78
# SIGTERM for vmcp alone, which ends its children in order; SIGKILL for whatever is left.
KillMode=mixed
# A backend that runs out of memory is no reason to stop the others.
OOMPolicy=continue
LimitCORE=0
LimitNOFILE=65536
{place}
# What vmcp and its stdio backends cannot do. Memory that is written and executed stays allowed, for Node compiles into it.
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{walls}
[Install]
WantedBy={wanted}
"""
HEARD: Final = """\
# The one-file executable is two processes, of which the inner one speaks. Where vmcp is one (wheel, onedir): main
NotifyAccess=all"""
SYSTEM_PLACE: Final = """
# A user of its own, made for it. Its files: /etc/vmcp, /var/lib/vmcp, /var/cache/vmcp, /run/vmcp.
DynamicUser=yes
ConfigurationDirectory=vmcp
StateDirectory=vmcp
CacheDirectory=vmcp
CacheDirectoryMode=0700
RuntimeDirectory=vmcp
RuntimeDirectoryMode=0700
Environment=HOME=%S/vmcp XDG_STATE_HOME=%S XDG_CACHE_HOME=%C/vmcp VMCP_RUN_DIR=%t/vmcp
# The one-file executable unpacks itself here and not in /tmp, where what is old is removed, nor in /run, where nothing may run.
Environment=TMPDIR=%C/vmcp
# Secrets: LoadCredential=NAME:FILE in a drop-in, and {file: "${CREDENTIALS_DIRECTORY}/NAME"} in the configuration.
"""
SYSTEM_WALLS: Final = """\
CapabilityBoundingSet=
DevicePolicy=closed
KeyringMode=private
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
"""
SOCKET: Final = """
[Unit]
Description=Where clients of vmcp come
Documentation=man:vmcp(1)

[Socket]
# Takes the place of server.host and server.port, and passes the same checks: anonymous clients from the network are refused
# unless the configuration allows them. It stays open while vmcp is started again: who comes then, waits.
ListenStream={listen}
Backlog=4096
NoDelay=yes
FileDescriptorName=clients

[Install]
WantedBy=sockets.target
"""
NETWORK: Final = "Wants=network-online.target\nAfter=network-online.target\n"
PRIVATE: Final = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108 - only named
"""Where the unit of a machine sees nothing of what others see."""
PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@_-+=:,./")


@click.group()
def command() -> None:
    """Run vmcp by systemd."""


@command.command("print")
@click.option("--config", "-c", "paths", multiple=True, metavar="FILE", help="What to serve.  [default: see --user]")
@click.option(
    "--user", is_flag=True, help="A unit of this user, with ~/.config/vmcp/vmcp.yaml; else /etc/vmcp/vmcp.yaml."
)
@click.option("--socket", "wanted", is_flag=True, help="The socket unit that goes with it.")
@click.option("--listen", default="127.0.0.1:4483", show_default=True, help="Where the socket unit listens.")
@click.option("--program", help="The vmcp that it starts.  [default: this one]")
def print_(paths: tuple[str, ...], user: bool, wanted: bool, listen: str, program: str | None) -> None:
    """Print the unit. It takes effect where systemd reads it:

    vmcp service print | sudo tee /etc/systemd/system/vmcp.service
    """
    if wanted:
        click.echo(_head("vmcp.socket", " --socket") + SOCKET.format(listen=listen), nl=False)
        return
    words = [program] if program is not None else list(ourselves())
    files = [Path(path).absolute() for path in paths] or [Path("%E/vmcp/vmcp.yaml")]
    start = " ".join(map(word, [*words, "serve"]))
    for file in files:
        start += f" --config {file if not paths else word(str(file))}"
    away = [] if user else [text for text in (*words, *map(str, files)) if text.startswith(PRIVATE)]
    if away:
        hint = "put it elsewhere (/usr/local, /opt, /etc), or use --user"
        click.echo(f"vmcp: the user of this unit cannot reach {', '.join(away)}; {hint}", err=True)
    alone = program is None and not _unpacked()
    click.echo(_unit(start, user=user, heard="NotifyAccess=main" if alone else HEARD), nl=False)


def _unit(start: str, heard: str, *, user: bool) -> str:
    text = UNIT.format(
        start=start,
        heard=heard,
        network="" if user else NETWORK,
        place="RuntimeDirectory=vmcp\nRuntimeDirectoryMode=0700\n" if user else SYSTEM_PLACE,
        walls="" if user else SYSTEM_WALLS,
        wanted="default.target" if user else "multi-user.target",
    )
    return _head("vmcp.service", " --user" if user else "") + text


def _head(title: str, how: str) -> str:
    return HEAD.format(title=title, how=how)


def ourselves() -> Iterator[str]:
    """How this very vmcp is started."""
    if getattr(sys, "frozen", False):
        yield sys.executable
        return
    beside = shutil.which("vmcp", path=str(Path(sys.executable).parent))
    yield from (beside,) if beside is not None else (sys.executable, "-m", "vmcp")


def _unpacked() -> bool:
    """Whether this is the executable of one file: a process that unpacks it, and one below that speaks."""
    inside = getattr(sys, "_MEIPASS", None)
    return inside is not None and not Path(inside).is_relative_to(Path(sys.executable).parent)


def word(text: str) -> str:
    """One word of a command line as systemd reads it: it knows quotes, escapes, $VARIABLES and %specifiers."""
    safe = text.replace("%", "%%").replace("$", "$$")
    if text and PLAIN.issuperset(text):
        return safe
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
