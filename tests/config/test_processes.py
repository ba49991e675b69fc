"""What a child process may use, in the file: what it becomes, and what is told of keys that could have no effect."""

import pytest

from tests.config.samples import config, problems, told
from vmcp.config.model import Limits
from vmcp.config.processes import ProcessSpec
from vmcp.config.schema import schema

LOCAL = "name: acme\ngroups: {code: {backends: {files: {command: [serve]%s}}}}\n"
REMOTE = "name: acme\ngroups: {code: {backends: {files: {url: https://x.example/mcp%s}}}}\n"
AT = "groups.code.backends.files."


def test_the_limits_of_a_child_become_values() -> None:
    text = LOCAL % (
        ", isolation: session, idleStop: 90s, warm: true, limits: {memory: 1GiB, files: 64, processes: 100, newPrivileges: true}"
    )
    assert config(text).backends[0].process == ProcessSpec(
        1 << 30, 64, 100, new_privileges=True, idle_stop=90.0, warm=True
    )
    assert config(LOCAL % "").backends[0].process == ProcessSpec()


def test_how_many_children_there_may_be_becomes_values() -> None:
    text = LOCAL % "" + "server: {limits: {processes: 5, processesPerPrincipal: 2, processStarts: 1}}\n"
    limits = config(text).server.limits
    assert (limits.processes, limits.processes_per_principal, limits.process_starts) == (5, 2, 1)


def test_the_defaults_of_the_schema_are_those_of_the_model() -> None:
    backend = schema()["$defs"]["backend"]["properties"]
    limits = backend["limits"]["properties"]
    assert limits["files"]["default"] == ProcessSpec().files
    assert limits["newPrivileges"]["default"] is ProcessSpec().new_privileges
    assert backend["idleStop"]["default"] == "10m"
    assert backend["warm"]["default"] is ProcessSpec().warm
    said = schema()["properties"]["server"]["properties"]["limits"]["properties"]
    assert said["processes"]["default"] == Limits().processes
    assert said["processesPerPrincipal"]["default"] == Limits().processes_per_principal
    assert said["processStarts"]["default"] == Limits().process_starts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LOCAL % ", limits: {memory: 16MiB}", []),
        (LOCAL % ", limits: {memory: 1MiB}", [f"bad-value {AT}limits.memory"]),
        (LOCAL % ", limits: {memory: much}", [f"bad-value {AT}limits.memory"]),
        (LOCAL % ", isolation: identity, idleStop: 5m", []),
        (LOCAL % ", idleStop: 5m", [f"contradiction {AT}idleStop"]),
        (LOCAL % ", isolation: request, idleStop: 5m", [f"contradiction {AT}idleStop"]),
        (REMOTE % ", limits: {files: 64}", [f"misplaced-key {AT}limits"]),
        (LOCAL % ", warm: true", [f"contradiction {AT}warm"]),
        (LOCAL % ", warm: false", []),
        (LOCAL % ", isolation: request, warm: true", []),
        (REMOTE % ", warm: true", [f"misplaced-key {AT}warm"]),
        (REMOTE % ", idleStop: 5m", [f"misplaced-key {AT}idleStop"]),
    ],
    ids=lambda value: value[60:110] if isinstance(value, str) else None,
)
def test_a_key_that_cannot_work_is_told(text: str, found: list[str]) -> None:
    assert [each.partition(" ")[2] for each in told(problems(text))] == found
