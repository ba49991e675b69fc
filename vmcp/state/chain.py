"""The chain that the records of an audit log hang on, and the proof that none of it was changed, dropped, moved or cut off.

The rule: a digest is taken of the bytes as they stand in the file, so that there is no form to agree on; whoever has no key can
be caught at everything but at writing the whole of it anew.

A line is a JSON object that ends in ``"seq"``, ``"prev"`` (the hash of the record before) and ``"hash"`` (of all that stands
before it in the line: SHA-256, or HMAC-SHA-256 where there is a key).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256 as _sha256
from typing import Final

import msgspec

GENESIS: Final = b"0" * 64
_RECORD: Final = re.compile(
    rb'(\{.*,"seq":([0-9]{1,18}),"prev":"([0-9a-f]{64})"),"hash":"([0-9a-f]{64})"\}\n?', re.DOTALL
)
_HEAD: Final = re.compile(rb'\{"seq":([0-9]{1,18}),"hash":"([0-9a-f]{64})","seal":"([0-9a-f]{64})"\} *\n')
HEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log ends, or another place in it."""

    seq: int
    hash: bytes


START: Final = Place(0, GENESIS)


class Record(msgspec.Struct, frozen=True):
    """What verifying reads of a record that tells of the log itself."""

    type: str = ""
    chain: str = "sha256"
    head: str = "found"
    file: str = ""
    torn: str | None = None


_decode = msgspec.json.Decoder(Record).decode


def digest(text: bytes, key: bytes | None) -> bytes:
    """The hash of a record or of a head."""
    if key is None:
        return hashlib.sha256(text).hexdigest().encode()
    return hmac.digest(key, text, "sha256").hex().encode()


class Chain:
    """Hangs records on the one before. Mutable; one writer."""

    def __init__(self, end: Place, key: bytes | None) -> None:
        self._seq = end.seq
        self._prev = end.hash.decode()
        self._key = key

    @property
    def end(self) -> Place:
        """The last record."""
        return Place(self._seq, self._prev.encode())

    def add(self, bodies: Iterable[bytes], lines: bytearray) -> None:
        """Append ``bodies``, JSON objects with members, to ``lines`` as the next ones of the log.

        One after the other, and ``bodies`` may be made as they are asked for: many at once are more than a cache holds.
        """
        key = self._key
        for body in bodies:
            seq = self._seq + 1
            text = body[:-1] + f',"seq":{seq},"prev":"{self._prev}"'.encode()
            prev = _sha256(text).hexdigest() if key is None else hmac.digest(key, text, "sha256").hex()
            lines += text
            lines += f',"hash":"{prev}"}}\n'.encode()
            self._seq, self._prev = seq, prev

    def head(self) -> bytes:
        """The end as it is kept beside the log: always of one length, so that it is written over in place."""
        end = self.end
        text = b'{"seq":%d,"hash":"%b","seal":"%b"}' % (end.seq, end.hash, _seal(end, self._key))
        return text.ljust(HEAD_BYTES - 1) + b"\n"


def _seal(end: Place, key: bytes | None) -> bytes:
    return digest(b"vmcp audit head %d %b" % (end.seq, end.hash), key)


def read_head(text: bytes, key: bytes | None) -> Place | None:
    """The place that a head tells; None when it is none of ours."""
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    place = Place(int(match[1]), match[2])
    return place if hmac.compare_digest(match[3], _seal(place, key)) else None


def place_of(line: bytes) -> Place | None:
    """Which record a line says that it is; None when it is none."""
    match = _RECORD.fullmatch(line)
    return Place(int(match[2]), match[4]) if match is not None else None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a log: where, and what it looks like."""

    file: str
    line: int
    what: str


class Proof:
    """Reads a log from its first line on. ``faults`` are found as it goes; ``notes`` are what is odd and no fault.

    ``pins`` are hashes by number that are known from elsewhere: a head, or checkpoints that went to another place.
    """

    def __init__(self, key: bytes | None, pins: Iterable[Place] = ()) -> None:
        self.first: int | None = None
        self.last: Place | None = None
        self.records = 0
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self._key = key
        self._pins = {pin.seq: pin.hash for pin in pins}
        self._met: set[int] = set()
        self._torn: tuple[str, int, bytes] | None = None

    def read(self, file: str, lines: Iterable[bytes]) -> None:
        """One file of the log, in the order in which they were written."""
        for number, line in enumerate(lines, 1):
            for what in self._line(file, number, line):
                self.faults.append(Fault(file, number, what))

    def end(self, file: str) -> None:
        """Nothing more comes."""
        if self._torn is not None:
            file, number, line = self._torn
            if line.endswith(b"\n"):
                self.faults.append(Fault(file, number, "is no record of this log"))
            else:
                self.notes.append(
                    f"{file}:{number}: the last record is not whole: it is being written, or its writer was killed"
                )
        for seq in sorted(self._pins.keys() - self._met):
            first = self.first
            if first is None or seq >= first:
                at = self.last.seq if self.last is not None else 0
                self.faults.append(
                    Fault(file, 0, f"the log was cut: it ends with record {at}, and there was a record {seq}")
                )

    def _line(self, file: str, number: int, line: bytes) -> Iterator[str]:
        match = _RECORD.fullmatch(line)
        if match is None:
            if self._torn is not None:
                yield "is no record of this log"
            self._torn = file, number, line
            return
        told = _told(line)
        place = Place(int(match[2]), match[4])
        yield from self._explain(told)
        yield from self._order(place, match[3])
        if told.chain == "hmac-sha256" and self._key is None:
            yield "needs the key that the log was written with"
        elif not hmac.compare_digest(digest(match[1], self._key), place.hash):
            yield f"record {place.seq} was changed, or the key is another one"
        if self._pins.get(place.seq, place.hash) != place.hash:
            yield f"record {place.seq} is not the one that there was"
        self._met.add(place.seq)
        self.first = place.seq if self.first is None else self.first
        self.last = place
        self.records += 1

    def _explain(self, told: Record) -> Iterator[str]:
        """A line before that is no record is explained by the start that tells of having found it."""
        torn, self._torn = self._torn, None
        if torn is not None:
            _, number, line = torn
            found = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
            if told.type == "audit_start" and told.torn == found:
                self.notes.append(f"line {number}: a record is not whole: its writer was killed")
            else:
                yield "comes after a line that is no record of this log"
        if told.type == "audit_start" and told.head == "missing":
            yield "the log was continued without its head: what was cut off before it would not be seen"
        if told.type == "audit_start" and told.head == "ahead":
            yield "the log had been cut or changed when it was continued here"
        if told.type == "audit_start" and told.file == "deleted":
            yield "the file before this one was deleted while it was written"
        if told.type == "audit_gap":
            self.notes.append("there is a gap record: some events could not be written")

    def _order(self, place: Place, prev: bytes) -> Iterator[str]:
        last = self.last
        if last is None:
            if (place.seq == 1) != (prev == GENESIS):
                yield f"record {place.seq} cannot be the first of a log"
        elif place.seq > last.seq + 1:
            yield f"records {last.seq + 1} to {place.seq - 1} are missing"
        elif place.seq <= last.seq:
            yield f"record {place.seq} follows record {last.seq}: one was moved or doubled"
        elif prev != last.hash:
            yield f"record {place.seq} does not belong to the record before it"


def _told(line: bytes) -> Record:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Record()
