"""The command line: one file per verb, imported when it is used, so that ``vmcp version`` costs nothing.

Exit codes: 0 done, 1 unexpected, 2 usage, 66 no such file, 69 unavailable, 73 no audit log, 77 no permission, 78 bad
configuration.
"""

import importlib

import click

VERBS = {
    "serve": "Serve a configuration.",
    "stdio": "Serve over stdin and stdout, or be a bridge to a running instance.",
    "validate": "Check a configuration and say everything that is wrong with it.",
    "explain": "Say whether somebody may use something, and what decides it.",
    "audit": "Prove that an audit log is whole.",
    "schema": "Print the JSON Schema of the configuration.",
    "version": "Print the version.",
}


class _Verbs(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"vmcp.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Many MCP servers behind one endpoint, declared in one file."""
