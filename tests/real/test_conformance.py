"""The official conformance suites, against the fixture directly and through vmcp.

The rule: what passes directly passes through vmcp, but for the scenarios that ``expected_failures.txt`` names, and a name there
whose scenario passes is an error too.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.real.processes import PEERS, ROOT, backend, free_port, gateway, http_server, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ALPHA = "conformance-0.2.0-alpha.12"
SUITES = {
    "0.1.16": (*script("conformance-0.1.16"), "server", "--suite", "all"),
    "2025-11-25": (*script(ALPHA), "server", "--requirements", "2025-11-25"),
    "2026-07-28": (*script(ALPHA), "server", "--requirements", "2026-07-28"),
    "0.2.0-alpha.12": (*script(ALPHA), "server", "--suite", "all"),
}
SCORED = {"0.1.16": 32, "2025-11-25": 30, "2026-07-28": 37, "0.2.0-alpha.12": 56}
ALL = "0.2.0-alpha.12"
UNOFFERED = "tasks-"
"""Scenarios of an extension that the fixture does not have: they fail on it directly."""
VERDICT = re.compile(r"^([✓✗]) (\S+): (\d+) passed, (\d+) failed$", re.MULTILINE)
NOT_SCORED = re.compile(r"^  [✓✗] (\S+) \(.*\)$", re.MULTILINE)


class Report(NamedTuple):
    """What one run of a suite found."""

    passed: frozenset[str]
    failed: frozenset[str]
    not_scored: frozenset[str]
    why: dict[str, list[str]]


def run_suite(suite: str, url: str, folder: Path) -> Report:
    """Run a suite against a server, its files in ``folder``."""
    command = [*SUITES[suite], "--url", url, "-o", folder]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    verdicts = VERDICT.findall(done.stdout)
    assert verdicts, done.stdout[-2000:] + done.stderr
    failed = frozenset(name for mark, name, _, _ in verdicts if mark == "✗")
    return Report(
        passed=frozenset(name for _, name, _, _ in verdicts) - failed,
        failed=failed,
        not_scored=frozenset(NOT_SCORED.findall(done.stdout)),
        why={name: reasons(folder, name) for name in failed},
    )


def reasons(folder: Path, scenario: str) -> list[str]:
    """What the failed checks of a scenario complained of."""
    found = [file for file in folder.glob("*/checks.json") if file.parent.name.startswith(f"server-{scenario}-2")]
    checks = [check for file in found for check in json.loads(file.read_text("utf-8"))]
    return [f"{check['id']}: {check.get('errorMessage', '')}" for check in checks if check["status"] == "FAILURE"]


def expected_failures(suite: str) -> frozenset[str]:
    """The scenarios of this suite that the list names."""
    lines = (
        line.partition("#")[0].split() for line in (PEERS / "expected_failures.txt").read_text("utf-8").splitlines()
    )
    entries = [tuple(words) for words in lines if words]
    assert all(len(entry) == 2 and entry[0] in SUITES for entry in entries), entries
    assert len(set(entries)) == len(entries), "an entry stands there twice"
    return frozenset(scenario for named, scenario in entries if named == suite)


@pytest.fixture(scope="module")
def fixture_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tests.real.fixture", str(port)]
    with http_server(command, port, tmp_path_factory.mktemp("fixture") / "log") as url:
        yield url


ASKS = {"isolation": "session", "allow": {"sampling": True, "elicitation": {"form": True, "url": True}, "roots": True}}
FIXTURE = [sys.executable, "-m", "tests.real.fixture"]


def bare(fixture: dict[str, Any]) -> dict[str, Any]:
    """The fixture's names stay as the suites want them, whatever else there is."""
    order = {"priorityOrder": ["fixture", "notes", "units", "new"]}
    aggregation = {"conflictResolution": "priority", "conflictResolutionConfig": order}
    return {"backends": {"fixture": fixture}, "aggregation": aggregation}


def by_http(stack: ExitStack, fixture_url: str, folder: Path) -> dict[str, Any]:
    return bare(backend(url=fixture_url, **ASKS))


def by_stdio(stack: ExitStack, fixture_url: str, folder: Path) -> dict[str, Any]:
    return bare(backend([*FIXTURE, "stdio"], cwd=str(ROOT), **ASKS))


def by_prefix(stack: ExitStack, fixture_url: str, folder: Path) -> dict[str, Any]:
    """The fixture twice, each with half of a name: the prefix makes it whole, ``test_`` and ``json_``."""
    backends = {}
    for name in ("test", "json"):
        port = free_port()
        url = stack.enter_context(http_server([*FIXTURE, str(port), f"{name}_"], port, folder / f"{name}.log"))
        backends[name] = backend(url=url, **ASKS)
    return {"backends": backends, "aggregation": {"conflictResolution": "prefix"}}


VARIANTS = {"http": by_http, "stdio": by_stdio, "prefix": by_prefix}


@pytest.fixture(scope="module", params=VARIANTS)
def vmcp_url(
    request: pytest.FixtureRequest, fixture_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """vmcp before four servers, the fixture among them."""
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    with ExitStack() as stack:
        units = http_server([sys.executable, "examples/servers/units.py", str(port)], port, folder / "units.log")
        decoys = {
            "notes": backend([sys.executable, ROOT / "examples" / "servers" / "notes.py"]),
            "units": backend(url=stack.enter_context(units)),
            "new": backend([sys.executable, PEERS / "server_sdk2.py", "new", "stdio"]),
        }
        made = VARIANTS[request.param](stack, fixture_url, folder)
        backends = made["backends"] | dict(list(decoys.items())[: 4 - len(made["backends"])])
        config = {"name": "conformance", "groups": {"all": {"backends": backends}}, "aggregation": made["aggregation"]}
        assert len(backends) == 4
        yield stack.enter_context(gateway(config, folder))


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def direct(suite: str, fixture_url: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run_suite(suite, fixture_url, tmp_path_factory.mktemp("direct"))


def test_the_fixture_itself_passes_everything_that_is_scored(suite: str, direct: Report) -> None:
    scored = direct.passed - direct.not_scored
    failed = {name for name in direct.failed - direct.not_scored if not name.startswith(UNOFFERED)}
    assert not failed, direct.why
    assert len(scored) == SCORED[suite]


def test_what_passes_directly_passes_through_vmcp(
    suite: str, direct: Report, vmcp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    through = run_suite(suite, vmcp_url, tmp_path_factory.mktemp("through"))
    lost, expected = direct.passed - through.passed, expected_failures(suite)
    new = {name: through.why.get(name, ["did not run"]) for name in sorted(lost - expected)}
    assert not new, "lost on the way:\n" + json.dumps(new, indent=1)
    assert not expected - lost, f"these pass or do not exist; take them off the list: {sorted(expected - lost)}"


@pytest.fixture(scope="module")
def tasks_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of 2026-07-28 with the tasks extension."""
    port = free_port()
    command = [sys.executable, "-m", "tests.real.fixture_tasks", str(port)]
    with http_server(command, port, tmp_path_factory.mktemp("tasks") / "log") as url:
        yield url.replace("/mcp", "/tasks/mcp").replace("localhost", "127.0.0.1")


def test_tasks_pass_through_vmcp_as_they_do_directly(tasks_url: str, tmp_path: Path) -> None:
    decoys = {"notes": backend([sys.executable, ROOT / "examples" / "servers" / "notes.py"])}
    config = {
        "name": "tasks",
        "groups": {"all": {"backends": {"tasks": backend(url=tasks_url, **ASKS), **decoys}}},
        "aggregation": {
            "conflictResolution": "priority",
            "conflictResolutionConfig": {"priorityOrder": ["tasks", "notes"]},
        },
    }
    with gateway(config, tmp_path) as url, ThreadPoolExecutor(2) as two:
        running = [two.submit(run_suite, ALL, place, tmp_path / name) for name, place in (("a", tasks_url), ("b", url))]
        direct, through = (run.result() for run in running)
    offered = {name for name in direct.passed | direct.failed if name.startswith(UNOFFERED)}
    assert offered <= direct.passed, {name: direct.why.get(name) for name in offered - direct.passed}
    assert offered <= through.passed, {name: through.why.get(name) for name in offered - through.passed}
