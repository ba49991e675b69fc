"""The first page: how everything is, in one look.

The rule: it says in words what it shows in colours.
"""

from typing import Final

from vmcp.admin import scene
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages import topology
from vmcp.admin.pages.page import Made, Page


async def _overview(desk: Desk, asked: Asked) -> Made:
    told = await scene.overview(desk, asked)
    return {**told, "picture": topology.picture(told), "wide": topology.WIDTH, "node": topology.NODE}


PAGES: Final = (Page("GET", "", "read", "overview.html", _overview, "Overview"),)
