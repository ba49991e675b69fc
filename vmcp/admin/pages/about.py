"""The page about vmcp itself, and what an operator does to all of it.

The rule: whatever acts here is a form, and there only if ``admin.ui.operate`` is set.
"""

import platform
from typing import Final

from vmcp.admin import deeds, mates, process
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import LOGOUT, Made, Page, See
from vmcp.admin.routes import BEFORE, WAYS


async def _about(desk: Desk, asked: Asked) -> Made:
    status = (await mates.together(desk, asked.now, "status"))["status"]
    return {
        "status": status,
        "process": process.vitals(status["pid"]),
        "python": platform.python_version(),
        "reloads": ", ".join(f"{count} {result}" for result, count in status["config"]["reloads"].items()),
        "twins": [BEFORE + way.path for way in WAYS if way.method == "GET" and "*" not in way.path],
    }


async def _reload(desk: Desk, asked: Asked) -> Made:
    told = await deeds.reload(desk, asked.who)
    problems = "; ".join(told["problems"])
    return See("about", f"Reload: {told['result']}{f' ({problems})' if problems else ''}")


async def _drain(desk: Desk, asked: Asked) -> Made:
    await deeds.drain(desk, asked.who)
    return See("about", "No more traffic is let in, until vmcp is stopped.")


async def _clear(desk: Desk, asked: Asked) -> Made:
    told = await deeds.clear(desk, asked.who, str(asked.body.get("pattern") or "*"))
    return See("about", f"{told['cleared']} results were forgotten.")


PAGES: Final = (
    Page("GET", "about", "read", "about.html", _about, "About"),
    Page("POST", "reload", "operate", "", _reload),
    Page("POST", "drain", "operate", "", _drain),
    Page("POST", "cache/clear", "operate", "", _clear),
    Page("POST", LOGOUT, "read", "", lambda _desk, _asked: See("")),
)
