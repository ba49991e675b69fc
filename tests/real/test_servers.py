"""Real servers through the gateway, by real clients: each client lists everything and calls every server.

The rule: servers and clients are other people's, at pinned versions, and run as processes; what is expected of them is what
they do without vmcp between them.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.real.processes import PEERS, ROOT, SDK1_PYTHON, backend, free_port, gateway, http_server, node, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Json = dict[str, Any]
Command = list[str | Path]

PYTHON = sys.executable
EVERYTHING = script("@modelcontextprotocol/server-everything")
FILES = script("@modelcontextprotocol/server-filesystem")
MEMORY = script("@modelcontextprotocol/server-memory")
INSPECTOR = script("@modelcontextprotocol/inspector", "clients/launcher/build/index.js")
EXAMPLES = ROOT / "examples" / "servers"
STATIC = "demo://resource/static/document/features.md"
ENTITY = {"name": "vmcp", "entityType": "gateway", "observations": ["has many backends"]}

# How many tools each backend has, at the pinned version. "everything" is shared, and told of no capabilities; "remote" has a
# session for each client, may put forms before users, and shows the tool for that.
TOOLS = {"everything": 13, "remote": 14, "files": 14, "memory": 9, "time": 2, "git": 12, "notes": 3, "units": 2}
TOOLS |= {"old": 1, "old-http": 1, "new": 1, "new-http": 1}
PROMPTS = {"everything_simple-prompt", "remote_simple-prompt", "notes_summarize"}
PROMPTS |= {"old_poem", "old-http_poem", "new_poem", "new-http_poem"}


class World(NamedTuple):
    """The endpoint, the errand that a client is sent on, and a piece of each answer."""

    url: str
    errand: Json
    answers: dict[str, str]


def http_backends(stack: ExitStack, folder: Path) -> Json:
    """Servers that are reached over HTTP, running."""
    made = {}
    commands: dict[str, Callable[[str], Command]] = {
        "remote": lambda _: [*EVERYTHING, "streamableHttp"],
        "units": lambda port: [PYTHON, EXAMPLES / "units.py", port],
        "old-http": lambda port: [SDK1_PYTHON, PEERS / "server_sdk1.py", "old-http", port],
        "new-http": lambda port: [PYTHON, PEERS / "server_sdk2.py", "new-http", port],
    }
    for name, command in commands.items():
        port = free_port()
        server = http_server(command(str(port)), port, folder / f"{name}.log", {"PORT": str(port)})
        made[name] = backend(url=stack.enter_context(server))
    return made


def stdio_backends(folder: Path) -> Json:
    """Servers that vmcp starts."""
    return {
        "everything": backend([*EVERYTHING, "stdio"]),
        "files": backend([*FILES, folder]),
        "memory": backend(MEMORY, env={"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}),
        "time": backend([PYTHON, "-m", "mcp_server_time", "--local-timezone", "UTC"]),
        "git": backend([PYTHON, "-m", "mcp_server_git", "--repository", folder / "repository"]),
        "notes": backend([PYTHON, EXAMPLES / "notes.py"]),
        "old": backend([SDK1_PYTHON, PEERS / "server_sdk1.py", "old", "stdio"]),
        "new": backend([PYTHON, PEERS / "server_sdk2.py", "new", "stdio"]),
    }


def errand(folder: Path) -> tuple[Json, dict[str, str]]:
    """What every client does, and a piece of what it must be told for each."""
    hours = {"source_timezone": "UTC", "time": "16:30", "target_timezone": "Asia/Tokyo"}
    calls: dict[str, tuple[Json, str]] = {
        "everything_echo": ({"message": "over stdio"}, "Echo: over stdio"),
        "remote_echo": ({"message": "over HTTP"}, "Echo: over HTTP"),
        "files_read_text_file": ({"path": str(folder / "hello.txt")}, "hello from a file"),
        "memory_create_entities": ({"entities": [ENTITY]}, "content"),
        "memory_search_nodes": ({"query": "many backends"}, "gateway"),
        "time_convert_time": (hours, "01:30"),
        "git_git_status": ({"repo_path": str(folder / "repository")}, "untracked.txt"),
        "notes_search": ({"query": "endpoint"}, "welcome"),
        "units_search": ({"query": "inch"}, "inch (length)"),
        "old_greet": ({"who": "you"}, "hello you, from SDK 1"),
        "old-http_greet": ({"who": "you"}, "hello you, from SDK 1"),
        "new_greet": ({"who": "you"}, "hello you, from SDK 2"),
        "new-http_greet": ({"who": "you"}, "hello you, from SDK 2"),
    }
    prompts: dict[str, tuple[Json, str]] = {
        "notes_summarize": ({"title": "welcome"}, "one endpoint"),
        "old_poem": ({"subject": "rain"}, "a poem about rain"),
        "new-http_poem": ({"subject": "snow"}, "a poem about snow"),
    }
    reads = {
        "old-http://motd": "nothing new",
        "new://square/7": "49",
        "note:///welcome": "one endpoint",
        STATIC: "text",
    }
    given = {
        "calls": {name: arguments for name, (arguments, _) in calls.items()},
        "prompts": {name: arguments for name, (arguments, _) in prompts.items()},
        "reads": list(reads),
    }
    return given, {name: answer for name, (_, answer) in {**calls, **prompts}.items()} | reads


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world").resolve()
    (folder / "hello.txt").write_text("hello from a file", "utf-8")
    subprocess.run(["git", "init", "-q", "-b", "main", folder / "repository"], check=True)
    (folder / "repository" / "untracked.txt").touch()
    (folder / "memory.jsonl").write_text(json.dumps({"type": "entity", **ENTITY}) + "\n", "utf-8")
    with ExitStack() as stack:
        backends = stdio_backends(folder) | http_backends(stack, folder)
        config = {"name": "world", "groups": {"all": {"backends": backends}}}
        yield World(stack.enter_context(gateway(config, folder)), *errand(folder))


def drive(*command: str | Path, env: dict[str, str] | None = None) -> Any:
    """Run a client to its end; the JSON that it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def by_script(*command: str | Path, last: tuple[str, ...] = ()) -> Callable[[World, Path], Json]:
    """A client that is a script of ours around somebody's SDK."""

    def found(world: World, _: Path) -> Json:
        return dict(drive(*command, world.url, json.dumps(world.errand), *last))

    return found


def by_inspector(world: World, folder: Path) -> Json:
    """The Inspector's command line: one process a request, two at a time."""

    def ask(method: str, *options: str) -> Any:
        command = (*INSPECTOR, "--cli", world.url, "--transport", "http", "--method", method, *options)
        return drive(*command, env={"HOME": str(folder)})  # it keeps a catalog there

    def arguments(option: str, given: Json) -> list[str]:
        pairs = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
        return [word for pair in pairs for word in (option, pair)]

    lists = {
        "tools": ("tools/list", "tools", "name"),
        "resources": ("resources/list", "resources", "uri"),
        "templates": ("resources/templates/list", "resourceTemplates", "uriTemplate"),
        "prompts": ("prompts/list", "prompts", "name"),
    }
    with ThreadPoolExecutor(2) as two:
        listed = {key: two.submit(ask, method) for key, (method, _, _) in lists.items()}
        calls = {
            name: two.submit(ask, "tools/call", "--tool-name", name, *arguments("--tool-arg", given))
            for name, given in world.errand["calls"].items()
        }
        gets = {
            name: two.submit(ask, "prompts/get", "--prompt-name", name, *arguments("--prompt-args", given))
            for name, given in world.errand["prompts"].items()
        }
        reads = {uri: two.submit(ask, "resources/read", "--uri", uri) for uri in world.errand["reads"]}
        done = {
            group: {key: job.result() for key, job in jobs.items()}
            for group, jobs in {"calls": calls, "gets": gets, "reads": reads}.items()
        }
        found = {
            key: [entry[field] for entry in listed[key].result()[member]] for key, (_, member, field) in lists.items()
        }
    return {**found, **done}


SDK2, TYPESCRIPT = PEERS / "clients" / "sdk2.py", PEERS / "clients" / "typescript.mjs"
CLIENTS: dict[str, tuple[Callable[[World, Path], Json], str | None]] = {
    "python-2": (by_script(PYTHON, SDK2, last=("auto",)), "2026-07-28"),
    "python-2-legacy": (by_script(PYTHON, SDK2, last=("legacy",)), "2025-11-25"),
    "python-1": (by_script(SDK1_PYTHON, PEERS / "clients" / "sdk1.py"), "2025-11-25"),
    "typescript-sdk": (by_script(node(), TYPESCRIPT, last=("sdk",)), "2025-11-25"),
    "typescript-client": (by_script(node(), TYPESCRIPT, last=("client",)), "2025-11-25"),
    "typescript-client-auto": (by_script(node(), TYPESCRIPT, last=("client-auto",)), "2026-07-28"),
    "inspector": (by_inspector, None),
}


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(client: str, world: World, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What this client came back with."""
    return CLIENTS[client][0](world, tmp_path_factory.mktemp(client))


def test_every_tool_of_every_server_is_listed_under_its_prefix(found: Json) -> None:
    assert Counter(name.partition("_")[0] for name in found["tools"]) == TOOLS
    assert len(set(found["tools"])) == len(found["tools"])


def test_prompts_resources_and_templates_are_listed(found: Json) -> None:
    assert set(found["prompts"]) >= PROMPTS
    assert {"old://motd", "old-http://motd", "new://motd", "new-http://motd", "note:///welcome"} <= set(
        found["resources"]
    )
    assert {"new://square/{number}", "note:///{title}"} <= set(found["templates"])


def test_a_uri_that_two_servers_offer_is_listed_once(found: Json) -> None:
    assert found["resources"].count(STATIC) == 1


def test_every_server_answers(found: Json, world: World) -> None:
    answered = found["calls"] | found["gets"] | found["reads"]
    assert answered.keys() == world.answers.keys()
    wrong = {name: answered[name] for name, piece in world.answers.items() if piece not in json.dumps(answered[name])}
    assert not wrong


def test_client_and_gateway_agree_on_the_revision_the_client_prefers(client: str, found: Json) -> None:
    expected = CLIENTS[client][1]
    assert found.get("revision") == expected


def test_the_gateway_gives_its_own_name(client: str, found: Json) -> None:
    assert client == "inspector" or found["server"] == "world"
