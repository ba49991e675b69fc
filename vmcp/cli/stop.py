"""``vmcp stop``: end a running instance in order, and wait until it is gone."""

import os
import select
import signal

import click

from vmcp.cli import instance


@click.command()
@instance.option
@click.option("--wait", default=45.0, show_default=True, help="Seconds for it to end.")
@click.option("--force", is_flag=True, help="Do not let it finish what it has in hand.")
def command(where: str | None, wait: float, force: bool) -> None:
    """Stop a running instance: it finishes what it has in hand, up to server.limits.shutdownGrace.

    Exit codes: 0 it is gone, 4 there is none, 75 it has not ended yet, 77 it is another user's.
    """
    found = instance.find(where)
    name = found.get("status")["name"]
    pid = end(found, wait, force=force)
    click.echo(f"stopped {name} (pid {pid})")


def end(found: instance.Instance, wait: float, *, force: bool = False) -> int:
    """The process that was ended. Raises ``Failed``."""
    pid = found.pid()
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise instance.Failed(f"process {pid} cannot be watched: {error.strerror}", instance.TEMPORARY) from None
    try:
        for _ in range(2 if force else 1):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        gone, _, _ = select.select([process], [], [], wait)
    except PermissionError:
        raise instance.Failed(f"process {pid} is another user's", 77) from None
    except ProcessLookupError:
        return pid
    finally:
        os.close(process)
    if not gone:
        raise instance.Failed(f"process {pid} has not ended in {wait:g} s; see --force", instance.TEMPORARY)
    return pid
