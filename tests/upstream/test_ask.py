"""What goes along with an ask. Rule: what is dropped, is dropped whole."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw

from vmcp.upstream.ask import params_of, without_logs


@pytest.mark.parametrize(
    ("told", "members"),
    [(b"", {}), (b'{"a":1.0}', {"a": Raw(b"1.0")}), (b"[1]", None), (b"null", None), (b"{", None)],
)
def test_the_params_of_a_notification(told: bytes, members: Mapping[str, Raw] | None) -> None:
    assert params_of(Raw(told)) == members


async def test_only_log_messages_are_left_out() -> None:
    got: list[str] = []

    async def notify(method: str, params: Mapping[str, Any]) -> None:
        got.append(method)

    quiet = without_logs(notify)
    for method in ("notifications/message", "notifications/progress"):
        await quiet(method, {})
    assert got == ["notifications/progress"]
