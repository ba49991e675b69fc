"""``vmcp restart``: what ``stop`` and ``start`` do, in one go. The rule: the configuration is checked before anything stops."""

import click

from vmcp.cli import files, instance, start
from vmcp.cli.stop import end


@click.command()
@start.options
def command(
    paths: tuple[str, ...], host: str | None, port: int | None, workers: int | None, log_file: str | None, wait: float
) -> None:
    """Stop the instance of a configuration, if it runs, and start it again in the background.

    Exit codes: 0 ready, 69 it could not start, 75 it does not end or is not ready yet, 78 bad configuration (then it goes on).
    """
    paths = paths or ("vmcp.yaml",)
    config = files.configuration(files.read(paths))
    where = start.running(config.name)
    if where is not None:
        end(instance.Instance(where), wait)
    start.begin(config, start.words(paths, host, port, workers), log_file, wait)
