"""The loop of these tests is the product's own. Rule: uvloop, and nothing else is changed."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
