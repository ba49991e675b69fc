"""Who is at the other end of a UNIX socket, by the word of the kernel.

The rule: where the kernel does not say, nobody is let in.
"""

import os
import socket
import struct
from typing import Final

_MAC: Final = 0, 1
"""SOL_LOCAL and LOCAL_PEERCRED."""


def uid_of(connection: socket.socket) -> int | None:
    """The user at the other end; None when the system does not tell."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", said)[1])
        return int(struct.unpack_from("2I", connection.getsockopt(*_MAC, 76))[1])
    except (OSError, struct.error):
        return None


def allowed(uid: int | None) -> bool:
    """Whether a user may look and act: he who runs us, and root."""
    return uid is not None and uid in (0, os.geteuid())
