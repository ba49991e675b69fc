"""Workers of one crew in one process, who ask each other as if they were several. Rule: real sockets, one loop."""

import contextlib
from collections.abc import AsyncIterator

from vmcp.server.mates import Mates
from vmcp.server.post import Post
from vmcp.state.crew import Common, Crew
from vmcp.tasks import Nest


@contextlib.asynccontextmanager
async def crew(count: int) -> AsyncIterator[list[Mates]]:
    """So many of them, all of which are there."""
    common = Common.of(count)
    try:
        async with Nest("mates") as nest:
            made = []
            for index in range(count):
                post = Post(Crew(common, index))
                post.start()
                post.crew.seated(0)
                made.append(Mates(post.crew))
                made[-1].start(post, nest)
            try:
                yield made
            finally:
                for each in made:
                    assert each._post is not None
                    each._post.stop()
    finally:
        common.close()
