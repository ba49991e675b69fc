"""``vmcp audit verify``: whether an audit log is as it was written.

The rule: every fault is told with its file and line; a log of which the end cannot be known is not called whole.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vmcp.state.auditlog import rotated
from vmcp.state.chain import HEAD_BYTES, Place, Proof, read_head

OK, BROKEN, NO_INPUT = 0, 1, 66
_MOST = 50


@click.group()
def command() -> None:
    """Look after an audit log."""


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
