"""``vmcp diff``: in what two configurations differ. The rule: it is ``vmcp plan NEW --against OLD`` by another name."""

import click

from vmcp.cli import comparing
from vmcp.routing.plan import plan
from vmcp.routing.settings import settings


@click.command()
@click.argument("old")
@click.argument("new")
@comparing.given
@comparing.form
@comparing.wait
def command(old: str, new: str, given: tuple[str, ...], form: str, wait: float) -> None:
    """Say in what the configurations OLD and NEW differ for clients, and at the gateway.

    Exit codes: 0 nothing differs, 1 something does, 69 nothing does as far as backends answered, 78 bad configuration,
    66 no such file, 2 usage.
    """
    before, after = comparing.side([old]), comparing.side([new])
    assert before.config is not None
    assert after.config is not None
    was, now = comparing.catalogs(before.config, after.config, given, wait)
    differ = settings(before.config, after.config)
    comparing.show(plan((old, new), before.sheets(was), after.sheets(now), differ), form)
