"""``vmcp drain``: let a running instance take no more traffic, before it is stopped.

The rule: what is in hand ends as it would have; nobody is sent away who has been let in.
"""

import time
from typing import Final

import click

from vmcp.cli import instance

EACH: Final = 0.1


@click.command()
@instance.option
@click.option(
    "--wait", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds for calls in hand to end."
)
def command(where: str | None, wait: float) -> None:
    """Let no more traffic come: it is no longer ready, and streams that would never end do. It cannot be taken back.

    Exit codes: 0 drained, 75 calls are still in hand, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where)
    found.ask("POST", "drain", {})
    deadline = time.monotonic() + wait
    while (calls := found.get("status")["requestsInFlight"]) and time.monotonic() < deadline:
        time.sleep(EACH)
    if calls and wait:
        raise instance.Failed(f"{calls} calls are still in hand after {wait:g} s", instance.TEMPORARY)
    click.echo(f"drained, with {calls} calls in hand; end it with: vmcp stop" if calls else "drained")
