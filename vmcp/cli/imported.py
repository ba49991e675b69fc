"""What ``vmcp init`` makes of a plan: the text of the file, the report, and the file with the secrets.

The rule: the text is loaded before it is written, and only ``env_file`` has a value in it.
"""

import re
from collections.abc import Iterator

from vmcp.clients import emit
from vmcp.clients.plan import Plan, servers
from vmcp.clients.trial import stand_ins
from vmcp.config.load import load
from vmcp.config.tree import printable

_MOST_NAMES = 8


def text(made: Plan, name: str) -> str:
    """The configuration as YAML. Raises ``ConfigError`` if the loader refuses it."""
    data = made.data(name)
    whence = ", ".join(printable(label, 80) for label in made.findings)
    lines = [f"# Made by vmcp init from {whence}", "# Check it with: vmcp validate   Serve it with: vmcp serve"]
    lines += ["", *emit.block({"name": data.pop("name")})]
    for key, value in data.items():
        lines += ["", *emit.block({key: value})]
    whole = "\n".join(lines) + "\n"
    if any(settings.get("enabled", True) for settings in made.backends.values()):
        load([("vmcp.yaml", whole)], stand_ins(whole))
    return whole


def report(made: Plan) -> str:
    """What became of every server, and what has to be set."""
    return "\n".join([*_files(made), *_needed(made)]) + "\n"


def _files(made: Plan) -> Iterator[str]:
    for label, findings in made.findings.items():
        yield f"{label}:"
        for server, status in servers(findings).items():
            notes = [each.what for each in findings if each.server == server and each.what]
            yield f"  {status:13} {server}" + (f": {notes[0]}" if notes else "")
            yield from (f"  {'':13} {'':{len(server)}}  {note}" for note in notes[1:])
        if not findings:
            yield "  no MCP servers"
    counts = ((made.count(status), status) for status in ("exact", "approximated", "dropped"))
    yield ", ".join(f"{count} {status}" for count, status in counts)


def _needed(made: Plan) -> Iterator[str]:
    if made.needs:
        yield ""
        yield f"To set in the environment of vmcp ({len(made.needs)}):"
    for need in made.needs:
        early = "; vmcp validate needs it too" if need.early else ""
        yield f"  {need.name}=  # {'; '.join(need.places[:_MOST_NAMES])}{early}"


def env_file(made: Plan) -> str:
    """The variables with their values, for a shell or a service to read; empty where the file had none."""
    return "".join(f"{need.name}={_quoted(need.value or '')}\n" for need in made.needs)


def _quoted(value: str) -> str:
    """A value as a shell and as systemd read it."""
    return "'" + value.replace("'", "'\\''") + "'" if re.search(r"[^\w./:@%+,=-]", value) else value
