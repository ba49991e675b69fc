"""Who is at the other end. Rule: the kernel's word, over a real pair of sockets."""

import os
import socket

from vmcp.admin.peer import allowed, uid_of


def test_the_kernel_says_who_it_is() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert uid_of(here) == os.geteuid()


def test_what_the_kernel_does_not_say_is_nobody() -> None:
    closed = socket.socket(socket.AF_UNIX)
    closed.close()
    assert uid_of(closed) is None


def test_the_same_user_and_root_are_let_in() -> None:
    assert allowed(os.geteuid())
    assert allowed(0)
    assert not allowed(os.geteuid() + 1)
    assert not allowed(None)
