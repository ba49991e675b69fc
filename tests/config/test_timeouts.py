"""Limits of time in the file: what counts where, and what is told of those that could never come to bear."""

from math import inf

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.model import PoolSpec, Timeouts

HTTP = "name: acme\ngroups:\n  code:\n    backends:\n      a: {url: 'https://a.example.com/mcp'%s}\n"
CHILD = "name: acme\ngroups:\n  code:\n    backends:\n      a: {command: [a]%s}\n"
COMMON = "operational: {timeouts: {default: %s}}\n"


def limits(text: str) -> Timeouts:
    return config(text).backends[0].timeouts


def test_what_stands_nearest_counts() -> None:
    text = HTTP % ", timeouts: {total: 1s}"
    common = "default: {total: 3s, connect: 3s, idleStream: 3s}, perWorkload: {a: {connect: 2s, total: 2s}}"
    text += f"operational: {{timeouts: {{{common}}}}}"
    found = limits(text)
    assert (found.total, found.connect, found.idle_stream, found.first_byte) == (1.0, 2.0, 3.0, 30.0)
    assert found.place == "timeouts"


@pytest.mark.parametrize("common", ["9s", "{total: 9s}"])
def test_a_duration_alone_is_the_total(common: str) -> None:
    assert limits(HTTP % "" + COMMON % common).total == 9.0
    assert limits(HTTP % "" + f"operational: {{timeouts: {{default: 5s, perWorkload: {{a: {common}}}}}}}").total == 9.0


def test_without_a_word_the_defaults_count() -> None:
    assert limits(HTTP % "") == Timeouts()
    assert Timeouts().longest == 600.0
    assert Timeouts(total=900.0).longest == 900.0


@pytest.mark.parametrize(
    ("backend", "first"),
    [
        (CHILD % "", inf),
        (CHILD % ", timeouts: {firstByte: 4s}", 4.0),
        (CHILD % "" + COMMON % "{firstByte: 4s}", 4.0),
        ((HTTP % "").replace("https", "wss"), inf),
        (HTTP % ", transport: sse", 30.0),
    ],
)
def test_where_an_answer_comes_in_one_piece_its_beginning_is_awaited_only_if_that_is_written(
    backend: str, first: float
) -> None:
    assert limits(backend).first_byte == first


def test_a_tool_with_less_time_waits_no_longer_for_its_first_byte_than_others() -> None:
    found = limits(HTTP % ", timeouts: {tools: {t: {total: 9s}}}").of("t")
    assert (found.total, found.first_byte, found.idle_stream) == (9.0, 30.0, 300.0)


def test_tools_have_limits_of_their_own() -> None:
    tools = "{export_all: {total: 20m}, 'export_*': {total: 10m, firstByte: 2m, idleStream: 1m, totalWithProgress: 1h}}"
    found = limits(HTTP % f", timeouts: {{total: 1s, tools: {tools}}}")
    assert found.of("list") is found
    assert found.of(None) is found
    long = found.of("export_all")
    assert (long.total, long.first_byte, long.idle_stream) == (1200.0, 1200.0, 1200.0), "or it could not use its time"
    some = found.of("export_some")
    assert (some.total, some.first_byte, some.idle_stream, some.longest) == (600.0, 120.0, 60.0, 3600.0)
    assert some.place == "timeouts.tools[export_*]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HTTP % ", timeouts: {total: 0s}", "bad-value groups.code.backends.a.timeouts.total"),
        (
            HTTP % ", timeouts: {total: 9s, totalWithProgress: 5s}",
            "contradiction groups.code.backends.a.timeouts.totalWithProgress",
        ),
        (
            HTTP % ", timeouts: {tools: {t: {total: 9s, totalWithProgress: 5s}}}",
            "contradiction groups.code.backends.a.timeouts.tools.t.totalWithProgress",
        ),
        (
            HTTP % ", timeouts: {tools: {t: {connect: 9s}}}",
            "unknown-key groups.code.backends.a.timeouts.tools.t.connect",
        ),
        (CHILD % ", timeouts: {connect: 9s}", "misplaced-key groups.code.backends.a.timeouts.connect"),
        (
            HTTP % "" + COMMON % "{total: 9s, totalWithProgress: 5s}",
            "contradiction operational.timeouts.default.totalWithProgress",
        ),
        (
            HTTP % "" + "operational: {timeouts: {perWorkload: {a: {total: 9s, totalWithProgress: 5s}}}}",
            "contradiction operational.timeouts.perWorkload.a.totalWithProgress",
        ),
        (HTTP % "" + COMMON % "[]", "bad-type operational.timeouts.default"),
        (HTTP % "" + COMMON % "soon", "bad-value operational.timeouts.default"),
        (HTTP % "" + COMMON % "{totl: 9s}", "unknown-key operational.timeouts.default.totl"),
        (HTTP % ", pool: {minSize: 9, maxSize: 8}", "contradiction groups.code.backends.a.pool.minSize"),
        (HTTP % ", pool: {minSize: 65}", "contradiction groups.code.backends.a.pool.minSize"),
        (CHILD % ", retry: idempotent", "misplaced-key groups.code.backends.a.retry"),
        (HTTP % ", transport: sse, retry: reads", "misplaced-key groups.code.backends.a.retry"),
        (
            HTTP % ", retry: idempotent, pool: {retryAttempts: 0}",
            "contradiction groups.code.backends.a.retry",
        ),
        (HTTP % ", pool: {minSize: 1, idleTimeout: 0s}", "contradiction groups.code.backends.a.pool.minSize"),
        (
            CHILD % "" + "operational: {timeouts: {perWorkload: {a: {connect: 9s}}}}",
            "misplaced-key operational.timeouts.perWorkload.a.connect",
        ),
        (HTTP % ", retry: always", "bad-value groups.code.backends.a.retry"),
    ],
)
def test_what_could_never_come_to_bear_is_told(text: str, expected: str) -> None:
    assert [each.partition(" ")[2] for each in told(problems(text))] == [expected]


@pytest.mark.parametrize(
    "more",
    [
        ", timeouts: {total: 9s, totalWithProgress: 9s, connect: 1s}",
        ", pool: {minSize: 8, maxSize: 8, validationInterval: 0s, retryAttempts: 0, retryDelay: 0s}",
        ", retry: idempotent",
    ],
)
def test_what_has_an_effect_is_accepted(more: str) -> None:
    assert told(problems(HTTP % more)) == []


def test_the_pool_and_what_is_retried_become_values() -> None:
    text = HTTP % ", retry: idempotent, pool: {minSize: 2, validationInterval: 9s, retryAttempts: 1, retryDelay: 2s}"
    spec = config(text).backends[0]
    assert spec.pool == PoolSpec(min_size=2, validation_interval=9.0, retry_attempts=1, retry_delay=2.0)
    assert spec.retry == "idempotent"
    assert config(SMALL).backends[0].retry == "reads"
