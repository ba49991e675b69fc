"""Personas in the file: what they become, and what is told of one that nobody could ever get."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.personas import Persona

KEYS = "incomingAuth: {type: local}\n"


def test_personas_become_values() -> None:
    text = """\
personas:
  analyst:
    description: Reads
    match: {claims: {groups: analysts, site: [oslo, bergen]}}
    groups: [code]
    include: ["read_*"]
    exclude: [read_secret]
  anybody: {}
"""
    found = config(SMALL + text).personas
    claims = {"groups": frozenset({"analysts"}), "site": frozenset({"oslo", "bergen"})}
    assert list(found) == ["analyst", "anybody"], "in the order of the file"
    assert found["analyst"] == Persona("analyst", "Reads", ("code",), ("read_*",), ("read_secret",), claims)
    assert found["anybody"] == Persona("anybody")
    assert config(SMALL).personas == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("personas: {a: {groups: [cod]}}", ["6:25 unknown-reference personas.a.groups[0]"]),
        ("personas: {a: {match: {}}}", ["6:16 missing-key personas.a.match"]),
        ("personas: {a: {match: {claims: {}}}}", ["6:16 missing-key personas.a.match"]),
        (
            "personas: {a: {match: {claims: {groups: []}}}}",
            ["6:16 contradiction personas.a.match", "6:33 bad-value personas.a.match.claims.groups"],
        ),
        ("personas: {a: {match: {claims: {groups: 5}}}}", ["6:41 bad-type personas.a.match.claims.groups"]),
        ("personas: {a: {match: {claims: {groups: x}}}}", ["6:16 contradiction personas.a.match"]),
        ("personas: {a/b: {}}", ['6:12 bad-name personas["a/b"]']),
        ("personas: {a: {discovery: search}}", ["6:27 not-built personas.a.discovery"]),
        ("personas: {a: {overrides: {t: {description: x}}}}", []),
        ("personas: {a: {overrides: {t: {}}}}", ["6:31 bad-value personas.a.overrides.t"]),
        (
            "personas: {a: {overrides: {t: {name: x}, u: {name: x}}}}",
            ["6:52 duplicate-name personas.a.overrides.u.name"],
        ),
        (
            "personas: {a: {overrides: {t: {arguments: {b: {fixed: 1, default: 2}}}}}}",
            ["6:58 contradiction personas.a.overrides.t.arguments.b.default"],
        ),
        ("personas: {a: {discovery: full, overrides: {}, include: []}}", []),
        (
            "personas: {a: {groups: [cod], match: {claims: {x: 5}}}, b: {groups: [5]}}",
            [
                "6:25 unknown-reference personas.a.groups[0]",
                "6:51 bad-type personas.a.match.claims.x",
                "6:70 bad-type personas.b.groups[0]",
            ],
        ),
        ("personas: {a: 5, b: [c]}", ["6:15 bad-type personas.a", "6:21 bad-type personas.b"]),
        ("personas: {a: }", ["6:12 bad-type personas.a"]),
    ],
)
def test_what_nobody_could_get_is_told(text: str, expected: list[str]) -> None:
    assert told(problems(SMALL + text)) == expected


def test_a_group_that_could_not_be_read_is_not_missed() -> None:
    text = SMALL + "  data: 5\npersonas: {a: {groups: [data]}}"
    assert told(problems(text)) == ["6:9 bad-type groups.data"]
    assert told(problems(text.replace("data: 5", "data: {backends: {d: {url: https://d.example.com/mcp}}}"))) == [
        "2:1 nothing-served groups"
    ]
