"""The page of sessions: which clients are here, and their end.

The rule: a session is called by a name of our own, never by the id with which its client is recognised.
"""

from typing import Final

from vmcp.admin import deeds, mates
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page, See

MOST: Final = 200
"""Lines of the table; ``vmcp sessions`` has them all."""


async def _all(desk: Desk, asked: Asked) -> Made:
    return {**await mates.together(desk, asked.now, "sessions"), "most": MOST}


async def _end(desk: Desk, asked: Asked) -> Made:
    ended = await deeds.end(desk, asked.who, asked.name)
    return See("sessions", "The session was ended." if ended else "There is no such session any more.")


PAGES: Final = (
    Page("GET", "sessions", "read", "sessions.html", _all, "Sessions"),
    Page("POST", "sessions/*/end", "operate", "", _end),
)
