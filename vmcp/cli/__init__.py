"""The command line: one file per verb, imported when it is used, so that ``vmcp version`` costs nothing.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 not let in, 4 nobody there, 5 a tool failed, 66 no such file, 69 unavailable,
73 no log or no file can be made, 75 not yet, 77 no permission, 78 bad configuration.
"""

import importlib
import sys
from typing import Any

import click

from vmcp.cli import mishap

VERBS = {
    "serve": "Serve a configuration.",
    "start": "Serve a configuration in the background.",
    "stop": "End a running instance in order.",
    "restart": "Stop an instance and start it again.",
    "reload": "Let a running instance read its configuration anew.",
    "drain": "Let a running instance take no more traffic.",
    "run": "Serve a configuration for as long as a command runs.",
    "status": "Say how a running instance is.",
    "list": "List backends, tools, sessions … of a running instance.",
    "info": "Tell all about a backend of a running instance.",
    "health": "Say whether a running instance and its backends are well.",
    "metrics": "Print what a running instance has counted.",
    "reset": "Close the circuit breaker of a backend.",
    "cache": "Say how the cache does, and forget what it keeps.",
    "sessions": "List the sessions of clients, and end one.",
    "top": "Watch what passes through a running instance.",
    "logs": "Print the log of a running instance, or set its level.",
    "ui": "Open the web pages of a running instance in a browser.",
    "mount": "Add a backend to the configuration file, and reload.",
    "unmount": "Remove a backend from the configuration file, and reload.",
    "config": "Show the configuration that counts.",
    "tools": "List tools as signatures, of a URL, a running instance or a configuration.",
    "call": "Call a tool.",
    "prompt": "Get a prompt.",
    "read": "Read a resource.",
    "stdio": "Serve over stdin and stdout, or be a bridge to a running instance.",
    "validate": "Check a configuration and say everything that is wrong with it.",
    "plan": "Say what a configuration would change for clients, and at the gateway.",
    "diff": "Say in what two configurations differ for clients.",
    "lock": "Pin what backends offer, and approve what has changed.",
    "explain": "Say whether somebody may use something, and what decides it.",
    "auth": "Log in at backends that want a login, and see how that stands.",
    "audit": "Show the last records of an audit log, and prove that it is whole.",
    "schema": "Print the JSON Schema of the configuration.",
    "init": "Make a configuration, from the servers that your clients have.",
    "connect": "Put vmcp into the configuration of a client.",
    "doctor": "Say what stands in the way of a configuration on this machine.",
    "service": "Print the units with which systemd runs vmcp.",
    "completion": "Print the completion script of a shell.",
    "manpage": "Print the manual page.",
    "selfcheck": "Say whether this vmcp is whole.",
    "version": "Print the version, what is in it, and the licences of that.",
    "help": "Tell what an error means and what to do about it.",
}

FILES = {"logs": "tail", "service": "unit"}
"""Where a verb is that is not in the file of its name."""


class _Verbs(click.Group):
    """A group whose commands are imported on demand."""

    def main(self, *args: Any, **more: Any) -> Any:
        """See click; whatever is not caught is told by ``mishap``."""
        sys.excepthook = mishap.tell
        return super().main(*args, **more)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # once vmcp.cli.list is imported, that is what 'list' means here

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; a verb that is misspelt is guessed."""
        word = args[0] if args else ""
        if word not in VERBS and not word.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(word, VERBS, 2)
            ctx.fail(f"there is no verb '{word}'" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"vmcp.cli.{FILES.get(cmd_name, cmd_name)}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Many MCP servers behind one endpoint, declared in one file."""
