"""The page of endpoints: what clients find at each address.

The rule: an address is shown as a client needs it.
"""

from typing import Final

from vmcp.admin import scene
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page


def _all(desk: Desk, _: Asked) -> Made:
    return scene.endpoints(desk)


PAGES: Final = (Page("GET", "endpoints", "read", "endpoints.html", _all, "Endpoints"),)
