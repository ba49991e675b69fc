"""``vmcp manpage``: the manual page, made of the commands themselves; packagers and ``build.py`` put it beside the executable.

The rule: nothing is written down twice. What a command says of itself under ``--help`` is what the page says.
"""

import click

from vmcp import __version__

ENVIRONMENT = {
    "VMCP_CONFIG": "The configuration files, where no --config is given; several are separated by spaces.",
    "VMCP_ADMIN": "Which running instance is meant: its socket, its name, or the URL of its admin port.",
    "VMCP_ADMIN_TOKEN": "The token of the admin port.",
    "VMCP_RUN_DIR": "Where the admin sockets are.",
    "VMCP_TOKEN": "The token that is shown to an endpoint.",
    "VMCP_DEBUG": "On a terminal, show the traceback of something unexpected in place of putting it into a file.",
    "NO_COLOR": "No colours.",
    "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS": "Set by systemd(1): serve reports there, and takes its socket over.",
    "OTEL_*": "As OpenTelemetry has them.",
}
SIGNALS = {
    "SIGTERM, SIGINT": "End in order; a second one ends at once.",
    "SIGHUP": "Read the configuration anew; one that is wrong changes nothing.",
    "SIGUSR1, SIGUSR2": "Log more, log less.",
}
EXITS = {
    "0": "Done.",
    "1": "Something unexpected; or what was compared differs, or what was asked for is not well.",
    "2": "Wrong usage.",
    "3": "Not let in.",
    "4": "Nobody is there.",
    "5": "The tool failed.",
    "66": "No such file.",
    "69": "Unavailable: the port is taken, or it could not start.",
    "73": "A log or a file cannot be made.",
    "75": "Not yet.",
    "77": "No permission.",
    "78": "Wrong configuration.",
}


@click.command()
def command() -> None:
    """Print the manual page, for man(1)."""
    click.echo(page(), nl=False)


def page() -> str:
    """All of it, as roff."""
    from vmcp.cli import main

    lines = [
        f'.TH VMCP 1 "" "vmcp {_plain(__version__)}" "User Commands"',
        ".SH NAME",
        r"vmcp \- many MCP servers behind one endpoint",
        ".SH SYNOPSIS",
        r".B vmcp",
        r"\fICOMMAND\fR [\fIOPTIONS\fR]",
        ".SH DESCRIPTION",
        "An aggregation gateway for the Model Context Protocol. One YAML file says which servers there are, who may come in,",
        "and what is shown to whom. The configuration is described by the JSON Schema that",
        ".B vmcp schema",
        "prints.",
        ".SH COMMANDS",
    ]
    lines += _commands(main, click.Context(main, info_name="vmcp"), "vmcp")
    for title, facts in (("ENVIRONMENT", ENVIRONMENT), ("SIGNALS", SIGNALS), ("EXIT STATUS", EXITS)):
        lines.append(f".SH {_quoted(title)}")
        for name, words in facts.items():
            lines += [".TP", f".B {_plain(name)}", _plain(words)]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, ctx: click.Context, path: str) -> list[str]:
    found: list[str] = []
    for name in group.list_commands(ctx):
        each = group.get_command(ctx, name)
        if each is None or each.hidden:
            continue
        inner = click.Context(each, info_name=name, parent=ctx)
        found += _described(each, inner, f"{path} {name}")
        if isinstance(each, click.Group):
            found += _commands(each, inner, f"{path} {name}")
    return found


def _described(each: click.Command, ctx: click.Context, path: str) -> list[str]:
    usage = " ".join(each.collect_usage_pieces(ctx))
    lines = [f".SS {_quoted(f'{path} {usage}')}"]
    for paragraph in (each.help or "").split("\n\n"):
        lines += [_plain(" ".join(paragraph.replace("\b", "").split())), ".PP"]
    for parameter in each.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and "--help" not in parameter.opts:
            lines += [".TP", rf".B {_plain(record[0])}", _plain(" ".join(record[1].split()))]
    return lines


def _plain(text: str) -> str:
    """A line that roff takes as it stands."""
    safe = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe


def _quoted(text: str) -> str:
    """One argument of a request."""
    return '"' + _plain(text).replace('"', r"\(dq") + '"'
