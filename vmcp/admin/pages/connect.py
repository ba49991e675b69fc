"""The page that says how clients get at what is served here.

The rule: it shows what ``vmcp connect`` would write, and writes nothing.
"""

from typing import Final

from vmcp.admin import workbench
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page


def _connect(desk: Desk, asked: Asked) -> Made:
    told = workbench.connect(desk, asked)
    return None if told is None else {**told, "path_": told["path"], "path": "connect"}


PAGES: Final = (Page("GET", "connect", "read", "connect.html", _connect, "Connect"),)
