"""The page of servers that could be added.

The rule: it shows what to write down, and adds nothing.
"""

from typing import Final

from vmcp.admin import workbench
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page


def _discovery(desk: Desk, asked: Asked) -> Made:
    return workbench.discovery(desk, asked)


PAGES: Final = (Page("GET", "discovery", "read", "discovery.html", _discovery, "Discovery"),)
