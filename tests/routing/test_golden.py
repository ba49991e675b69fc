"""Every example, with made-up catalogs for its backends, gives exactly the table that is written down.

The rule: a golden file changes only on purpose: ``REGOLD=1`` in the environment writes them anew, and the diff is reviewed.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.routing.catalogs import synthetic
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.routing.build import build
from vmcp.routing.catalog import Kind
from vmcp.routing.explain import to_json

TESTS = Path(__file__).resolve().parent.parent
GOLDEN = TESTS / "golden"
EXAMPLES = sorted((TESTS.parent / "examples").glob("*.yaml"))


def loaded(example: Path) -> Config:
    config, _ = load([(example.name, example.read_text("utf-8"))], {})
    return config


def table(example: Path) -> dict[str, Any]:
    config = loaded(example)
    return to_json(build(1, config, synthetic(config)))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_gives_the_table_that_is_written_down(example: Path) -> None:
    golden = GOLDEN / f"{example.stem}.table.json"
    made = table(example)
    if os.environ.get("REGOLD") == "1":
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert made == json.loads(golden.read_text("utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_every_entry_of_an_example_is_in_its_table_once(example: Path) -> None:
    config = loaded(example)
    catalogs = synthetic(config)
    faces = to_json(build(1, config, catalogs))
    for group in config.groups.values():
        face = faces[f"/{group.name}/mcp"]
        there = [(str(kind), one["backend"], one["original"]) for kind in Kind for one in face[str(kind)]]
        there += [(one["kind"], one["backend"], one["original"]) for one in face["quarantined"]]
        offered = [
            (str(kind), backend, entry.name)
            for backend in group.backends
            for kind in Kind
            for entry in catalogs[backend].entries[kind]
        ]
        assert sorted(there) == sorted(offered)


def test_there_are_examples_and_no_golden_file_without_one() -> None:
    assert EXAMPLES
    assert {path.name for path in GOLDEN.glob("*.table.json")} == {f"{example.stem}.table.json" for example in EXAMPLES}
