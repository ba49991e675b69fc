"""What a backend over stdio is as a process: a pipe between its standard streams and the server of ``world.py``.

The rule: bytes pass as they are; the end of either side is the end of the process. ``python relay.py PORT WORLD``.
"""

import os
import socket
import sys
import threading


def inwards(wire: socket.socket) -> None:
    """From standard input to the server."""
    while data := os.read(0, 65536):
        wire.sendall(data)
    os._exit(0)


def main() -> None:
    wire = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.sendall(sys.argv[2].encode() + b"\n")
    threading.Thread(target=inwards, args=(wire,), daemon=True).start()
    while data := wire.recv(65536):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
