"""The page of the configuration: each value with its origin, what the files would change, and what reloads have done.

The rule: it is for reading; a configuration is changed in its files.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from vmcp.admin import deeds, settings
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.pages.page import Made, Page, See
from vmcp.admin.pages.results import readable

_LONGEST: Final = 600


async def _config(desk: Desk, _: Asked) -> Made:
    told = await settings.whole(desk)
    values = [_value(each) for each in told["values"] or ()]
    config, now = desk.house.config, desk.house.reloaded
    return {
        **told,
        "digest": config.digest[:12],
        "files": desk.acts.files(),
        "since": now[1],
        "known": told["values"] is not None,
        "state": told["disk"].partition(":")[0],
        "written": [each for each in values if each["source"] != "default"],
        "defaults": [each for each in values if each["source"] == "default"],
        "difference": readable(told["text"]),
    }


def _value(each: Mapping[str, Any]) -> Mapping[str, Any]:
    value = each["value"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {**each, "value": readable(text, _LONGEST)}


async def _reload(desk: Desk, asked: Asked) -> Made:
    done = await deeds.reload(desk, asked.who)
    return See("config", f"The files were read: {done['result']}.")


PAGES: Final = (
    Page("GET", "config", "read", "config.html", _config, "Config"),
    Page("POST", "config/reload", "operate", "", _reload),
)
