"""``vmcp completion``: what a shell wants to know to complete a line."""

import click
from click.shell_completion import get_completion_class

HOW = {
    "bash": 'eval "$(vmcp completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(vmcp completion zsh)"   # in ~/.zshrc',
    "fish": "vmcp completion fish > ~/.config/fish/completions/vmcp.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(HOW)))
def command(shell: str) -> None:
    """Print the completion script of a shell, to be loaded by it; names of tools and backends come from what runs."""
    from vmcp.cli import main

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "vmcp", "_VMCP_COMPLETE").source())
    click.echo(f"# {HOW[shell]}")
