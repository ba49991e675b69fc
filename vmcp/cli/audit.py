"""``vmcp audit``: the last records of a running instance's audit log, and whether a log is as it was written.

The rule: every fault is told with its file and line; a log of which the end cannot be known is not called whole. What requests
and results were is not shown.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from vmcp.cli import instance, output
from vmcp.state.chain import HEAD_BYTES, Place, Proof, read_head
from vmcp.state.logfile import rotated

OK, BROKEN, NO_INPUT, UNAVAILABLE = 0, 1, 66, 69
_MOST = 50
EACH = 1.0
MOST = 1000


_shown = click.option("--lines", "-n", default=30, show_default=True, type=click.IntRange(0, 1000), help="So many.")
_form = click.option(
    "--output", "-o", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)


@click.group(invoke_without_command=True)
@click.option("--follow", "-f", is_flag=True, help="The last records, and those that come: audit tail --follow.")
@click.pass_context
def command(ctx: click.Context, follow: bool) -> None:
    """Look at an audit log, and look after it."""
    if ctx.invoked_subcommand is None and follow:
        ctx.invoke(tail, filters=(), lines=30, follow=True, form="table", where=os.environ.get("VMCP_ADMIN"))
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command()
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@_shown
@click.option("--follow", "-f", is_flag=True, help="And those that come.")
@_form
@instance.option
def tail(filters: tuple[str, ...], lines: int, follow: bool, form: str, where: str | None) -> None:
    """Print the last records of a running instance.

    A FILTER is a word to look for, or as type:mcp_tool_call, outcome:error, who:alice, backend:git*, ms:>500, -method:ping.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none, 69 there is no log to read.
    """
    found = instance.find(where)
    seen = _print(found, filters, lines, 0, form)
    while follow:
        time.sleep(EACH)
        seen = _print(found, filters, MOST, seen, form)


def _print(found: instance.Instance, filters: Sequence[str], lines: int, since: int, form: str) -> int:
    """Print what is newer than ``since``; the number of the newest."""
    told = found.get(f"audit?{urlencode({'q': ' '.join(filters), 'limit': lines, 'since': since})}")
    why = told.get("unreadable") if told["enabled"] else "it has no audit section"
    if why:
        raise instance.Failed(f"there is no audit log to read: {why}", UNAVAILABLE)
    for each in reversed(told["records"]):
        click.echo(json.dumps(each, ensure_ascii=False) if form == "json" else _line(each))
    chain = told["chain"]
    if chain["state"] == "broken":
        click.echo(f"not whole: {output.plain(chain['faults'])}", err=True)
    return max(since, int(told["last"]))


def _line(each: Mapping[str, Any]) -> str:
    outcome = output.painted(each["outcome"] or "–", 11)
    took = f" {each['ms']:.0f} ms" if each["ms"] is not None else ""
    facts = [each["target"] or each["method"], each["backend"] and f"at {each['backend']}", each["who"], each["client"]]
    said = "  ".join(output.plain(fact) for fact in facts if fact)
    return f"{each['at'][:19]} {each['seq']:>7} {outcome} {output.plain(each['type']):20} {said}{took}"


@command.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@click.option("--key-file", help="File with the key that the log was written with (audit.key).")
@click.option("--key-env", help="Environment variable with that key.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="SEQ:HASH",
    help="A record that there was, from the process's own log ('audit checkpoint') or elsewhere.",
)
@click.option("--without-head", is_flag=True, help="The end need not be known: this is a copy, or a part of a log.")
def verify(
    paths: tuple[str, ...], key_file: str | None, key_env: str | None, checkpoints: tuple[str, ...], without_head: bool
) -> None:
    """Prove that no record was changed, dropped, moved or cut off.

    One FILE is taken together with the older ones beside it (FILE.000000001234); several are read in the order given.

    Exit codes: 0 whole, 1 not whole, 66 no such file, 2 usage.
    """
    key = _key(key_file, key_env)
    pins = [_pin(text) for text in checkpoints]
    order = [*rotated(paths[0]), Path(paths[0])] if len(paths) == 1 else [Path(path) for path in paths]
    missing = [str(path) for path in order if not path.is_file()]
    if missing:
        click.echo(f"no such file: {', '.join(missing)}", err=True)
        sys.exit(NO_INPUT)
    head = None
    if not without_head:
        # Before the log is read: what is written meanwhile stands behind this place.
        head = _head(order[-1], key)
        pins += [head] if head is not None and head.seq else []
    proof = Proof(key, pins)
    for path in order:
        with path.open("rb") as lines:
            proof.read(str(path), lines)
    proof.end(str(order[-1]))
    _report(proof, order, headless=head is None and not without_head)


def _key(file: str | None, env: str | None) -> bytes | None:
    if file and env:
        raise click.UsageError("give the key by --key-file or by --key-env")
    if file:
        try:
            return Path(file).read_text("utf-8").strip().encode()
        except (OSError, UnicodeDecodeError):
            raise click.UsageError(f"--key-file {file} cannot be read") from None
    if env:
        found = os.environ.get(env)
        if not found:
            raise click.UsageError(f"--key-env {env} is not set")
        return found.encode()
    return None


def _pin(text: str) -> Place:
    seq, _, said = text.partition(":")
    if not seq.isdecimal() or len(said) != 64:
        raise click.UsageError("--checkpoint is SEQ:HASH, the hash in 64 hexadecimal digits")
    return Place(int(seq), said.lower().encode())


def _head(path: Path, key: bytes | None) -> Place | None:
    try:
        with Path(f"{path}.head").open("rb") as file:
            return read_head(file.read(HEAD_BYTES), key)
    except OSError:
        return None


def _report(proof: Proof, order: Sequence[Path], *, headless: bool) -> None:
    for note in proof.notes:
        click.echo(f"note: {note}", err=True)
    if proof.first is not None and proof.first > 1:
        click.echo(f"note: what was before record {proof.first} is not here", err=True)
    for fault in proof.faults[:_MOST]:
        at = f"{fault.file}:{fault.line}" if fault.line else fault.file
        click.echo(f"{at}: {fault.what}", err=True)
    if len(proof.faults) > _MOST:
        click.echo(f"and {len(proof.faults) - _MOST} more", err=True)
    if headless:
        click.echo(
            f"{order[-1]}.head is not there or was not written with this key, so records may have been cut off;"
            " --without-head does not ask for it",
            err=True,
        )
    if proof.faults or headless:
        click.echo("not whole", err=True)
        sys.exit(BROKEN)
    last = proof.last
    end = f", the last is {last.seq}:{last.hash.decode()}" if last is not None else ""
    click.echo(f"whole: {proof.records} records in {len(order)} files{end}")
