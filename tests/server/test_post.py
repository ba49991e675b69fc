"""Messages between workers."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.peers import until
from vmcp.server.post import CONNECTION, MOST, QUESTION, Post
from vmcp.state.crew import LONGEST, Common, Crew

Posts = tuple[Post, Post, list[tuple[bytes, list[int]]]]


@pytest.fixture
def posts() -> Iterator[Posts]:
    """Two of them, and what the second got."""
    common = Common.of(2)
    here, there = Post(Crew(common, 0)), Post(Crew(common, 1))
    got: list[tuple[bytes, list[int]]] = []
    there.on[CONNECTION] = lambda body, descriptors: got.append((body, descriptors))
    yield here, there, got
    common.close()


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("size", [0, 10, LONGEST - 1, LONGEST, 1_000_000])
async def test_a_message_arrives_whole_with_its_descriptors(size: int, posts: Posts) -> None:
    here, there, got = posts
    there.start()
    before = open_descriptors()
    reads, writes = os.pipe()
    body = os.urandom(size)
    assert here.send(1, CONNECTION, body, [reads])
    os.close(reads)
    await until(lambda: bool(got))
    (arrived, (mine,)) = got[0]
    assert arrived == body
    os.write(writes, b"x")
    assert os.read(mine, 1) == b"x"
    for each in (mine, writes):
        os.close(each)
    there.stop()
    assert open_descriptors() == before


async def test_what_nobody_takes_is_closed(caplog: pytest.LogCaptureFixture, posts: Posts) -> None:
    here, there, got = posts
    reads, writes = os.pipe()
    before = open_descriptors()
    assert here.send(1, QUESTION, b"x" * LONGEST, [reads])
    assert here.send(1, CONNECTION, b"", [])
    there.start()
    await until(lambda: bool(got))
    there.stop()
    assert open_descriptors() == before
    assert "is lost" in caplog.text
    os.close(reads)
    os.close(writes)


async def test_what_lost_a_descriptor_on_its_way_is_lost_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, posts: Posts
) -> None:
    here, there, got = posts
    reads, writes = os.pipe()
    before = open_descriptors()
    assert here.send(1, CONNECTION, b"x", [reads] * (MOST + 1))
    assert here.send(1, CONNECTION, b"y", [])
    there.start()
    await until(lambda: bool(got))
    there.stop()
    assert [body for body, _ in got] == [b"y"]
    assert open_descriptors() == before
    assert "is lost" in caplog.text
    os.close(reads)
    os.close(writes)


async def test_without_a_descriptor_to_be_had_nothing_large_is_sent(posts: Posts) -> None:
    here, *_ = posts
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert not here.send(1, CONNECTION, b"x" * LONGEST, [])
        assert here.send(1, CONNECTION, b"x", [])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert here.send(1, CONNECTION, b"x" * LONGEST, [])


async def test_a_full_inbox_says_so_at_once(posts: Posts) -> None:
    here, there, got = posts
    sent = 0
    while here.send(1, CONNECTION, b"x" * 1000, []):
        sent += 1
    there.start()
    await until(lambda: len(got) == sent)
    assert here.send(1, CONNECTION, b"", [])
    there.stop()
