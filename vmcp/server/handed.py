"""A socket that systemd opened for us and hands over: the protocol of sd_listen_fds(3), without its library.

The rule: it is taken once and nothing that we start inherits it; it is a listening TCP socket, and there is one. Its address
counts as if the configuration had said it, so that every check on an address is made on the one where clients really come.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from vmcp.errors import CannotStart

FIRST: Final = 3
"""The number of the first descriptor that is handed over."""
_KEYS: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Unfit(CannotStart):
    """What was handed over is nothing at which vmcp can listen."""


def handed(environ: MutableMapping[str, str], first: int = FIRST) -> socket.socket | None:
    """The socket for clients, which the environment forgets; None when none is meant for this process. Raises ``Unfit``."""
    pid, count, names = (environ.pop(key, "") for key in _KEYS)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    for descriptor in range(first, first + int(count)):
        _keep(descriptor)
    if int(count) > 1:
        raise Unfit(
            f"systemd handed over {count} sockets ({names.replace(':', ', ')}), and vmcp listens at one;"
            " keep one ListenStream= (an address like [::]:4483 takes both families)"
        )
    return _opened(first, names)


def _keep(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise Unfit(f"LISTEN_FDS names descriptor {descriptor}, which is not open: {error.strerror}") from None


def _opened(descriptor: int, name: str) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        raise Unfit(f"{name or 'what systemd handed over'} is no socket") from None
    tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if not tcp or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.close()
        raise Unfit(f"{name or 'what systemd handed over'} is no listening TCP socket; use ListenStream= with a port")
    found.setblocking(False)
    return found


def address(listening: socket.socket) -> tuple[str, int]:
    """Host and port of it."""
    host, port = listening.getsockname()[:2]
    return host, port
