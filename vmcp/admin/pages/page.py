"""What a web page is: where it is, who may, its template, and the facts that it shows.

The rule: a page that shows something is GET and has a JSON twin; a page that does something is POST, and only there when the
configuration allows it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vmcp.admin.desk import Asked, Desk

Who = Literal["read", "tryIt", "operate"]
"""Everybody who is let in, or only where ``admin.ui.tryIt`` or ``admin.ui.operate`` is set."""
LOGOUT: Final = "logout"
"""The path of the form that ends it."""
Context = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class See:
    """Instead of a page: go to ``path`` below ``/ui/``, which says ``notice`` once. The answer of what does something."""

    path: str
    notice: str = ""


Made = Context | See | None
"""None where there is nothing of this name."""
Facts = Callable[[Desk, Asked], Made | Awaitable[Made]]


@dataclass(frozen=True, slots=True)
class Page:
    """``path`` is below ``/ui/``; one step may be ``*``, which is ``asked.name``. With a ``label`` it is in the navigation."""

    method: Literal["GET", "POST"]
    path: str
    who: Who
    template: str
    facts: Facts
    label: str = ""
    """What the navigation calls it, and the title begins with; a page without is reached by links."""
    title: str = ""
    """The title, where there is no label."""
