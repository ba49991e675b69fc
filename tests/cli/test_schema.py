"""``vmcp schema`` prints the published schema, byte for byte."""

import json
from pathlib import Path

from click.testing import CliRunner

from vmcp.cli.schema import command

PUBLISHED = Path(__file__).parents[2] / "schemas" / "vmcp.schema.json"


def test_it_is_the_published_file() -> None:
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    assert result.stdout == PUBLISHED.read_text("utf-8")
    assert json.loads(result.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
