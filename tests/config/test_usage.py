"""``telemetry.usage``: on unless it is off. Rule: from texts, as files have them."""

import pytest

from tests.config.samples import SMALL, config
from vmcp.config.model import Config
from vmcp.config.restart import kept
from vmcp.config.usage import UsageSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", UsageSpec(enabled=True, days=90, rows=50_000, people=True)),
        ("telemetry: {usage: {enabled: false}}", UsageSpec(enabled=False)),
        (
            "telemetry: {usage: {retentionDays: 30, maxRows: 2000, people: false}}",
            UsageSpec(days=30, rows=2000, people=False),
        ),
    ],
)
def test_what_is_said_counts_and_the_rest_is_as_usual(text: str, spec: UsageSpec) -> None:
    made: Config = config(f"{SMALL}{text}\n")
    assert (made.usage, made.telemetry) == (spec, None)


def test_it_takes_effect_after_a_restart() -> None:
    was, now = config(SMALL), config(f"{SMALL}telemetry: {{usage: {{enabled: false}}}}\n")
    found, restart = kept(was, now)
    assert (found.usage, restart) == (was.usage, (("telemetry", "usage"),))
