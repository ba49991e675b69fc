"""The pages of backends: all of them, each by itself, and what an operator does to one.

The rule: what a backend says of itself is shown as text.
"""

from typing import Any, Final
from urllib.parse import quote

from vmcp.admin import deeds, mates, scene
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page, See

WORDS: Final = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "template",
}
MOST: Final = 200
"""Things that are shown of what one offers; the pages of tools, prompts and resources have them all."""


async def _all(desk: Desk, asked: Asked) -> Made:
    return {"backends": scene.backends(await mates.together(desk, asked.now, "backends", "pace"))}


async def _one(desk: Desk, asked: Asked) -> Made:
    found = await scene.backend(desk, asked)
    if found is None:
        return None
    return {"backend": found, "places": _places(found), "usage": found["usage"], "words": WORDS, "most": MOST}


def _places(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each place at which it is, with its process."""
    running = {each["pid"]: each for each in found["processes"]}
    return [
        {**each, "process": running.get(each.get("pid"))} for each in found["facts"].get("replicas", [found["facts"]])
    ]


async def _reset(desk: Desk, asked: Asked) -> Made:
    if await deeds.reset(desk, asked.who, asked.name) is None:
        return None
    return See(f"backends/{quote(asked.name, safe='')}", "Calls are let through again.")


PAGES: Final = (
    Page("GET", "backends", "read", "backends.html", _all, "Backends"),
    Page("GET", "backends/*", "read", "backend.html", _one, title="Backend"),
    Page("POST", "backends/*/reset", "operate", "", _reset),
)
