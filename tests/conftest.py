"""What every test shares: the event loop that anyio's plugin runs coroutine tests on, and bounded property tests.

Rule: nothing here changes what a test means.
"""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The house is written for asyncio alone."""
    return "asyncio"
