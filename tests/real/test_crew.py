"""Three workers before the reference server: other people's clients, and clients that are asked in the middle, notice nothing.

The rule: every connection may come to another worker than the one before it; what was begun at one is gone on with there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.real.processes import backend, gateway
from tests.real.test_questions import ALLOW, EVERYTHING, REVISIONS, called
from tests.real.test_servers import CLIENTS, World

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = backend([*EVERYTHING, "stdio"], isolation="session", allow=ALLOW)
    config = {"name": "crew", "server": {"workers": 3}, "groups": {"g": {"backends": {"all": server}}}}
    with gateway(config, tmp_path_factory.mktemp("crew")) as found:
        yield found


@pytest.mark.parametrize("client", ["python-1", "python-2", "typescript-sdk", "typescript-client-auto"])
def test_a_client_made_by_others_notices_nothing(client: str, url: str, tmp_path: Path) -> None:
    errand = {"calls": {"all_echo": {"message": "hello"}}, "prompts": {}, "reads": []}
    for _ in range(2):
        found = CLIENTS[client][0](World(url, errand, {}), tmp_path)
        assert "Echo: hello" in str(found["calls"]["all_echo"])


@pytest.mark.parametrize("revision", REVISIONS)
def test_who_is_asked_in_the_middle_of_a_call_answers_whoever_takes_the_answer(revision: str, url: str) -> None:
    for _ in range(3):
        text, asked = uvloop.run(called(url, revision, "all_trigger-elicitation-request", {}))
        assert f"Ada of client-{revision}" in text
        assert asked.count("elicitation/create") == 1
