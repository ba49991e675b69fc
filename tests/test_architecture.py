"""The house rules as tests: arrows, purity, cycles, hidden imports, sizes, catch-alls, tasks without an owner.

The rule: a violation is one line that names the file, the place and what to do instead; and each check is itself checked
against a planted violation.
"""

import ast
import statistics
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = {"protocol", "config", "routing", "call", "tasks", "state"}
ALL = CORE | {"egress", "upstream", "aggregator", "middleware"}
ARROWS: Mapping[str, set[str]] = {
    "errors": set(),
    "protocol": set(),
    "config": {"protocol"},
    "routing": {"protocol", "config"},
    "call": {"protocol", "routing"},
    "tasks": set(),
    "nursery": set(),
    # what is done before anything else, and what this vmcp is made of
    "outset": set(),
    "about": {"protocol"},
    "state": {"tasks", "protocol"},
    "egress": {"protocol", "config", "tasks"},
    # the configuration files of other programs, as texts: what is read there is tried with the loader
    "clients": {"protocol", "config"},
    "upstream": CORE | {"egress", "nursery", "outset"},
    "aggregator": CORE | {"upstream"},
    "middleware": CORE | {"egress"},
    "server": ALL | {"about"},
    # beside the listener for clients, which knows nothing of it: it looks into the house and acts upon it
    "admin": ALL | {"server", "clients", "about"},
    "cli": {"protocol", "config", "routing", "state", "egress", "server", "admin", "clients", "outset", "about"},
    "__main__": {"cli", "nursery", "outset"},
}
EVERYBODY = {"errors", "vmcp"}  # "vmcp" is the package itself: the glossary and the version
PURE = {"errors", "protocol", "config", "routing", "call", "clients"}
LOOPS = {
    "anyio",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "selectors",
    "signal",
    "subprocess",
    "threading",
    "uvloop",
}
WIRES = {"http", "httptools", "httpx", "redis", "socket", "ssl", "starlette", "urllib.request", "uvicorn", "websockets"}
ACTING = LOOPS | WIRES | {"logging", "opentelemetry", "random", "time"}
CATCH_ALLS, LONGEST_FILE, MEDIAN, P90 = 3, 400, 10, 35
UNOWNED = {"create_task", "ensure_future", "gather"}

Modules = Mapping[str, ast.Module]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(root: Path) -> Modules:
    """Every module under a package folder, by dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def part(module: str) -> str:
    """The part of the house: vmcp.routing.table is routing; the package itself is vmcp."""
    return module.split(".")[1] if "." in module else module


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; ``from a import b`` is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def inside(found: Modules, name: str) -> str | None:
    """The module of ours that an import reaches: vmcp.errors.McpError is vmcp.errors."""
    while name and name not in found:
        name = name.rpartition(".")[0]
    return name or None


def arrows(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        here = part(module)
        allowed = ARROWS.get(here, set()) | EVERYBODY | {here}
        for line, name in imports(tree):
            target = inside(found, name)
            if target and part(target) not in allowed and here != "vmcp":
                yield f"{module}:{line}: {here} may not import {part(target)} ({name}); allowed: {sorted(allowed - {here})}"
            elif target and here == "vmcp":
                yield f"{module}:{line}: the package itself imports nothing of its own ({name})"


def unknown_parts(found: Modules) -> Iterator[str]:
    for module in found:
        if part(module) not in {*ARROWS, "vmcp"}:
            yield f"{module}: no such part of the house; give it its arrows in design and here"


def purity(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        for line, name in imports(tree) if part(module) in PURE else ():
            if any(name == bad or name.startswith(bad + ".") for bad in ACTING):
                yield f"{module}:{line}: a pure part may not import {name}; take what it gives as an argument"


def cycles(found: Modules) -> Iterator[str]:
    graph = {
        module: {t for _, n in imports(tree) if (t := inside(found, n))} - {module} for module, tree in found.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"modules import each other: {' -> '.join(error.args[1])}"


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def hidden_imports(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        for function in functions(tree) if part(module) != "cli" else ():
            for line, name in imports(function):
                yield f"{module}:{line}: import of {name} inside {function.name}; only vmcp/cli may delay imports"


def relative_imports(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{module}:{node.lineno}: relative import; write it from vmcp on"


def long_files(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        lines = max((node.end_lineno or 0 for node in tree.body), default=0)
        if lines > LONGEST_FILE:
            yield f"{module}: {lines} lines, at most {LONGEST_FILE}; it has more than one subject"


def silent_files(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        if not ast.get_docstring(tree):
            yield f"{module}: does not open with what it is for and the rule it keeps"


def catch_alls(found: Modules) -> Iterator[str]:
    places = []
    for module, tree in found.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                names = (
                    {"bare"} if node.type is None else {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                )
                if names & {"bare", "Exception", "BaseException"}:
                    places.append(f"{module}:{node.lineno}")
    if len(places) > CATCH_ALLS:
        yield f"{len(places)} catch-alls, at most {CATCH_ALLS} (exchange, Nest, reload): {', '.join(places)}"


def unowned_tasks(found: Modules) -> Iterator[str]:
    for module, tree in found.items():
        for line, name in imports(tree):
            if name in {f"asyncio.{bad}" for bad in UNOWNED}:
                yield f"{module}:{line}: {name} makes a task without an owner; use a TaskGroup or vmcp.tasks.Nest"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in UNOWNED and getattr(node.value, "id", "") == "asyncio":
                yield f"{module}:{node.lineno}: asyncio.{node.attr} makes a task without an owner; use a TaskGroup or Nest"


def function_sizes(found: Modules) -> Iterator[str]:
    sizes = sorted((f.end_lineno or 0) - f.lineno + 1 for tree in found.values() for f in functions(tree))
    if sizes and statistics.median(sizes) >= MEDIAN:
        yield f"the median function has {statistics.median(sizes)} lines, it must stay under {MEDIAN}"
    if sizes and sizes[int(len(sizes) * 0.9)] > P90:
        yield f"nine of ten functions should have at most {P90} lines; it is {sizes[int(len(sizes) * 0.9)]}"


CHECKS = (arrows, unknown_parts, purity, cycles, hidden_imports, relative_imports, long_files, silent_files)
CHECKS += (catch_alls, unowned_tasks, function_sizes)
Check = Callable[[Modules], Iterator[str]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_keeps(check: Check) -> None:
    found = modules(ROOT / "vmcp")
    assert len(found) > 5
    broken = list(check(found))
    assert not broken, "\n" + "\n".join(broken)


LONG_BODY = "def f():\n" + "    x = 1\n" * 40
PLANTED: list[tuple[Check, dict[str, str], str]] = [
    (arrows, {"routing/a.py": "from vmcp.upstream import b", "upstream/b.py": ""}, "routing may not import upstream"),
    (
        arrows,
        {"aggregator/a.py": "import vmcp.middleware.b", "middleware/b.py": ""},
        "aggregator may not import middleware",
    ),
    (arrows, {"cli/a.py": "from vmcp.upstream.b import c", "upstream/b.py": ""}, "cli may not import upstream"),
    (arrows, {"__init__.py": "from vmcp.errors import E", "errors.py": ""}, "imports nothing of its own"),
    (
        arrows,
        {"config/a.py": "def f():\n    import vmcp.server", "server/__init__.py": ""},
        "config may not import server",
    ),
    (unknown_parts, {"utils/a.py": ""}, "vmcp.utils.a: no such part"),
    (purity, {"routing/a.py": "import time"}, "may not import time"),
    (purity, {"call.py": "from asyncio.queues import Queue"}, "may not import asyncio.queues.Queue"),
    (purity, {"config/a.py": "from urllib import request"}, "may not import urllib.request"),
    (
        cycles,
        {"server/a.py": "import vmcp.server.b", "server/b.py": "from vmcp.server.a import x"},
        "import each other",
    ),
    (hidden_imports, {"server/a.py": "async def f():\n    import json"}, "import of json inside f"),
    (relative_imports, {"server/a.py": "from .b import c", "server/b.py": ""}, "relative import"),
    (long_files, {"server/a.py": "\n" * 400 + "x = 1"}, "401 lines"),
    (silent_files, {"server/a.py": "x = 1"}, "does not open with"),
    (catch_alls, {"tasks.py": "try: pass\nexcept (OSError, Exception): pass\n" * 4}, "4 catch-alls"),
    (
        catch_alls,
        {"tasks.py": "try: pass\nexcept BaseException: pass\n" * 2 + "try: pass\nexcept: pass\n" * 2},
        "4 catch-alls",
    ),
    (unowned_tasks, {"server/a.py": "import asyncio\nasyncio.create_task(x())"}, "asyncio.create_task makes"),
    (unowned_tasks, {"server/a.py": "from asyncio import gather"}, "asyncio.gather makes"),
    (function_sizes, {"server/a.py": LONG_BODY}, "the median function has 41"),
    (function_sizes, {"server/a.py": "def f(): pass\n" * 8 + LONG_BODY * 2}, "nine of ten"),
]
ALLOWED: list[tuple[Check, dict[str, str]]] = [
    (arrows, {"routing/a.py": "from vmcp.config import b\nimport vmcp.errors", "config/b.py": "", "errors.py": ""}),
    (arrows, {"server/a.py": "from vmcp import __version__", "__init__.py": ""}),
    (purity, {"routing/a.py": "import timeit, urllib.parse", "upstream/b.py": "import time"}),
    (hidden_imports, {"cli/a.py": "def f():\n    import json"}),
    (catch_alls, {"tasks.py": "try: pass\nexcept Exception: pass\n" * 3 + "try: pass\nexcept OSError: pass\n"}),
    (unowned_tasks, {"server/a.py": "group.create_task(x())"}),
]


def plant(root: Path, files: Mapping[str, str]) -> Modules:
    """A small vmcp package with these files."""
    for name, source in files.items():
        path = root / "vmcp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    return modules(root / "vmcp")


@pytest.mark.parametrize(("check", "files", "message"), PLANTED)
def test_a_planted_violation_is_found(check: Check, files: dict[str, str], message: str, tmp_path: Path) -> None:
    assert any(message in line for line in check(plant(tmp_path, files)))


@pytest.mark.parametrize(("check", "files"), ALLOWED)
def test_what_is_allowed_is_not_reported(check: Check, files: dict[str, str], tmp_path: Path) -> None:
    assert not list(check(plant(tmp_path, files)))
