"""What systemd may hand over, and what of it is refused.

Rule: real descriptors, at the numbers that they happen to have.
"""

import os
import socket
from collections.abc import Iterator

import pytest

from vmcp.server.handed import Unfit, address, handed


@pytest.fixture
def open_socket() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.set_inheritable(True)
        yield made


def environ(count: object = 1, pid: object = None, names: str = "vmcp.socket") -> dict[str, str]:
    return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "HOME": "/"}


def test_a_socket_is_taken_over_and_inherited_by_nobody(open_socket: socket.socket) -> None:
    given = environ()
    found = handed(given, open_socket.fileno())
    assert found is not None
    assert address(found) == open_socket.getsockname()
    assert not found.get_inheritable()
    assert not found.getblocking()
    assert given == {"HOME": "/"}
    found.detach()


def test_version_6_is_taken_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as made:
        found = handed(environ(), made.fileno())
        assert found is not None
        assert address(found)[0] == "::1"
        found.detach()


@pytest.mark.parametrize("given", [{}, environ(pid=1), environ(count=0), environ(count="-1"), environ(count="x")])
def test_what_is_not_meant_for_us_is_left(given: dict[str, str]) -> None:
    assert handed(given) is None
    assert not {key for key in given if key.startswith("LISTEN")}


def test_two_are_too_many_and_are_named(open_socket: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        first = min(open_socket.fileno(), other.fileno())
        span = abs(open_socket.fileno() - other.fileno()) + 1
        with pytest.raises(Unfit, match=rf"handed over {span} sockets \(one, two\).*ListenStream") as refused:
            handed(environ(span, names="one:two"), first)
    assert refused.value.code == 78


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(Unfit, match=f"descriptor {writing}, which is not open"):
        handed(environ(), writing)


def test_what_is_no_socket_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(Unfit, match=r"vmcp\.socket is no socket"):
            handed(environ(), reading)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("family", "kind"),
    [(socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET, socket.SOCK_STREAM)],
)
def test_a_socket_at_which_no_tcp_client_comes_is_refused(family: int, kind: int) -> None:
    """The last one is of the right kind, and does not listen."""
    made = socket.socket(family, kind)
    with pytest.raises(Unfit, match="no listening TCP socket"):
        handed(environ(names=""), made.detach())
