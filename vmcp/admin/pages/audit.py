"""The page of the audit log: its last records, filtered, and whether they hang together.

The rule: it shows what was recorded but for requests and results; that the log is whole from its first record on, only
``vmcp audit verify`` says.
"""

from typing import Final

from vmcp.admin import auditing
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page
from vmcp.admin.pages.traffic import filtered

READY: Final = (
    ("Errors and denials", "outcome:error"),
    ("Tool calls", "type:mcp_tool_call"),
    ("Denied", "decision:deny"),
    ("Operators", "type:admin_act"),
    ("Reloads", "type:config_reload"),
)


async def _audit(desk: Desk, asked: Asked) -> Made:
    asked, filtering = filtered(asked, auditing.WORDS)
    return {**filtering, "log": await auditing.audit(desk, asked), "ready": READY}


PAGES: Final = (Page("GET", "audit", "read", "audit.html", _audit, "Audit"),)
