"""``lock``: what the section becomes, and the lock file as text. Rule: a file that is not of this form is refused whole."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.lock import LockSpec, Pin, Pinned, Pins, parse, text

WHOLE = "sha256:" + "a" * 64
ADD = Pin(WHOLE, {"description": "0" * 16, "name": "1" * 16})


def test_definitions_are_not_locked_unless_the_file_says_so() -> None:
    assert config(SMALL).lock == LockSpec("/etc/vmcp/vmcp.lock", "off", Pins())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("lock: {policy: warn}", LockSpec("/etc/vmcp/vmcp.lock", "warn")),
        ("lock: {policy: block, file: /var/lib/a.lock}", LockSpec("/var/lib/a.lock", "block")),
        ("lock: {policy: quarantine, file: sub/b.lock}", LockSpec("/etc/vmcp/sub/b.lock", "quarantine")),
    ],
)
def test_every_key_takes_effect(section: str, expected: LockSpec) -> None:
    assert config(SMALL + section).lock == expected


def test_another_policy_is_refused() -> None:
    assert told(problems(SMALL + "lock: {policy: always}")) == ["6:16 bad-value lock.policy"]


def test_a_lock_file_has_one_line_for_each_entry_in_the_order_of_the_names() -> None:
    backends = {
        "b": Pinned(WHOLE, {"z": ADD, "a": ADD}, {'say "it"': Pin(WHOLE)}, {"file:///{x}": ADD}),
        "a": Pinned(),
    }
    made = text(backends)
    assert [line for line in made.splitlines() if '"digest"' in line] == [
        f'    "a": {{"digest":"{WHOLE}","fields":{{"description":"{"0" * 16}","name":"{"1" * 16}"}}}},',
        f'    "z": {{"digest":"{WHOLE}","fields":{{"description":"{"0" * 16}","name":"{"1" * 16}"}}}}',
        f'    "say \\"it\\"": {{"digest":"{WHOLE}","fields":{{}}}}',
        f'    "file:///{{x}}": {{"digest":"{WHOLE}","fields":{{"description":"{"0" * 16}","name":"{"1" * 16}"}}}}',
    ]
    assert parse(made.encode()).backends == backends


def test_an_empty_lock_file_approves_nothing() -> None:
    assert text({}) == '{\n "version": 1,\n "backends": {}\n}\n'
    assert parse(text({}).encode()).backends == {}


def test_its_digest_names_its_content() -> None:
    one, other = parse(text({}).encode()), parse(text({"a": Pinned(WHOLE)}).encode())
    assert one.digest != other.digest
    assert one.digest == parse(text({}).encode()).digest


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff",
        b"<<<<<<< ours",
        b'{"version": 2, "backends": {}}',
        b'{"version": 1}',
        b'{"version": 1, "backends": {}, "more": 1}',
        b'{"version": 1, "backends": {"a": {"tool": {}}}}',
        b'{"version": 1, "backends": {"a": {"tools": {"t": {"digest": "sha256:abc"}}}}}',
        b'{"version": 1, "backends": {"a": {"instructions": "sha1:' + b"a" * 64 + b'"}}}',
        b'{"version": 1, "backends": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_lock_file_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(wrong)
