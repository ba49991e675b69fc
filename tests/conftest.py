"""What every test shares: the event loop that anyio's plugin runs coroutine tests on, and bounded property tests.

Rule: nothing here changes what a test means.
"""

import logging
import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The house is written for asyncio alone."""
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def own_run_folder() -> Iterator[None]:
    """Processes that are started put their admin sockets where nobody else's are."""
    before = os.environ.get("VMCP_RUN_DIR")
    with tempfile.TemporaryDirectory(prefix="vmcp-run-") as folder:
        os.environ["VMCP_RUN_DIR"] = folder
        yield
    os.environ.pop("VMCP_RUN_DIR")
    if before is not None:
        os.environ["VMCP_RUN_DIR"] = before


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command that runs in the tests' process sets the root logger up; the next test must not inherit that."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    handlers = set(root.handlers)
    yield
    for left in [each for each in root.handlers if type(each) is logging.StreamHandler and each not in handlers]:
        root.removeHandler(left)
