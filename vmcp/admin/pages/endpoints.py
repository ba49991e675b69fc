"""The page of endpoints: what clients find at each address.

The rule: an address is shown as a client needs it.
"""

from typing import Final

from vmcp.admin import scene
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page


async def _all(desk: Desk, asked: Asked) -> Made:
    return await scene.endpoints(desk, asked)


PAGES: Final = (Page("GET", "endpoints", "read", "endpoints.html", _all, "Endpoints"),)
