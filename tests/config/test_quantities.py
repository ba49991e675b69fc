"""Durations and sizes, exactly."""

import pytest

from vmcp.config.quantities import seconds, size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0s", 0),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("1ns", 1e-9),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("7B", 7), (0, 0), (1024, 1024), ("12", 12), ("x", 0)],
)
def test_sizes(text: int | str, value: int) -> None:
    assert size(text) == value
