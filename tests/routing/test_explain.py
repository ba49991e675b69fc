"""The table in words and in its golden form."""

import json

from tests.routing.catalogs import catalog, config
from vmcp.config.model import Aggregation, Selection
from vmcp.routing.build import build
from vmcp.routing.explain import explain, to_json

CONFIG = config(["a", "b", "slow"], Aggregation("manual", tools={"b": Selection(exclude=("quiet",))}), group_ref=None)
TABLE = build(1, CONFIG, {"a": catalog("a", tools=["x"]), "b": catalog("b", tools=["quiet", "x", "y"])})


def test_what_an_operator_would_wonder_about_is_told() -> None:
    assert explain(TABLE.faces["/g/mcp"]) == (
        "backend 'slow' has not answered yet",
        "tool 'x' of 'b' is kept out: 'x' of 'b' has the same name as 'x' of 'a'",
        "tool 'quiet' of 'b' is hidden by the configuration",
    )


def test_the_golden_form_has_every_entry_once() -> None:
    face = {
        "tools": [
            {"name": "x", "backend": "a", "original": "x", "listed": True},
            {"name": "y", "backend": "b", "original": "y", "listed": True},
            {"name": "quiet", "backend": "b", "original": "quiet", "listed": False},
        ],
        "prompts": [],
        "resources": [],
        "resourceTemplates": [],
        "quarantined": [
            {
                "kind": "tools",
                "name": "x",
                "backend": "b",
                "original": "x",
                "why": "'x' of 'b' has the same name as 'x' of 'a'",
                "winner": "a",
            }
        ],
    }
    assert to_json(TABLE) == {"/g/mcp": face}
    assert json.loads(json.dumps(to_json(TABLE))) == to_json(TABLE)
