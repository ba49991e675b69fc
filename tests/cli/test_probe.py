"""``vmcp validate --probe``: what only shows when backends are asked. Rule: it is advice, and fails only when strict."""

import json
from pathlib import Path

from tests.cli.locking import ADD, FIND, GONE, configure, offer, vmcp


def test_a_backend_that_is_well_brings_no_advice(tmp_path: Path) -> None:
    offer(tmp_path)
    configure(tmp_path)
    done = vmcp(tmp_path, "validate", "--probe", "--strict", "--output", "text")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "ok: house: 1 group: g (1 backend)\n")


def test_advice_stands_where_the_backend_or_the_group_does(tmp_path: Path) -> None:
    offer(tmp_path, tools=[{**ADD, "description": "Add\u202e."}, {**FIND, "name": "x" * 60}])
    configure(tmp_path, gone=GONE)
    done = vmcp(tmp_path, "validate", "--probe", "--budget", "10", "--output", "json")
    told = [(each["line"], each["rule"], each["path"]) for each in json.loads(done.stdout)["problems"]]
    assert done.returncode == 0
    assert told == [
        (6, "unanswered", "groups.g.backends.gone"),
        (5, "hidden-characters", "groups.g.backends.a"),
        (5, "name-length", "groups.g.backends.a"),
        (5, "name-length", "groups.g.backends.a"),
        (3, "token-budget", "groups.g"),
    ]
    assert vmcp(tmp_path, "validate", "--probe", "--strict").returncode == 78
    assert vmcp(tmp_path, "validate", "--strict").returncode == 0, "nobody is asked without --probe"


def test_what_is_not_as_it_was_locked_is_advice_as_well(tmp_path: Path) -> None:
    offer(tmp_path)
    configure(tmp_path, more="lock: {policy: warn}\n")
    assert vmcp(tmp_path, "lock").returncode == 0
    offer(tmp_path, tools=[{**ADD, "title": "Add"}, FIND])
    done = vmcp(tmp_path, "validate", "--probe", "--output", "text")
    assert done.returncode == 0
    assert "groups.g.backends.a: not as it was locked: 'tool add'" in done.stderr
    assert "hint: look at it with: vmcp lock diff" in done.stderr


def test_a_wrong_file_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    configure(tmp_path, more="mor: 1\n")
    assert vmcp(tmp_path, "validate", "--probe").returncode == 78
