"""The page of statistics: who used what over days, and how everything does since the start.

The rule: what is of this process alone says so, and so does what outlives it.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from vmcp.admin import figures
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.charts import HEIGHT, WIDTH, bars, share
from vmcp.admin.pages.page import Made, Page

LINES: Final = 10
_BAR: Final = 120


async def _statistics(desk: Desk, asked: Asked) -> Made:
    usage = await figures.usage(desk, asked)
    kept = "series" in usage
    return {
        "usage": usage,
        "chart": bars(usage["series"], usage["spanSeconds"], usage["days"], time.time()) if kept else None,
        "rankings": _rankings(usage) if kept else [],
        "here": await figures.statistics(desk, asked),
        "periods": figures.PERIODS,
        "size": {"width": WIDTH, "height": HEIGHT, "bar": _BAR},
    }


def _rankings(usage: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"title": "Tools", "column": "tool", "lines": _lines(usage["tools"])},
        {"title": "Methods", "column": "method", "lines": _lines(usage["methods"])},
        {"title": "Backends", "column": "backend", "lines": _lines(usage["backends"])},
        {"title": "People", "column": "who", "lines": _lines(usage["people"])},
    ]


def _lines(ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    most = max((each["count"] for each in ranked), default=0)
    return [
        {**each, "bar": max(1.0, share(each["count"], most, _BAR)), "bad": share(each["errors"], most, _BAR)}
        for each in ranked[:LINES]
    ]


PAGES: Final = (Page("GET", "statistics", "read", "statistics.html", _statistics, "Statistics"),)
