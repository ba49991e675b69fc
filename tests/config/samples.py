"""What the tests of this folder share: a smallest configuration, and loading a text into problems or a configuration.

The rule: nothing here hides an error; a text that ought to load and does not fails the test.
"""

from collections.abc import Mapping, Sequence

from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.errors import ConfigError, Problem

SMALL = """\
name: acme
groups:
  code:
    backends:
      github: {url: https://mcp.example.com/mcp}
"""


def config(text: str, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a text that has no error."""
    return load([("vmcp.yaml", text)], environ or {}, directory=lambda _: "/etc/vmcp")[0]


def problems(text: str, environ: Mapping[str, str] | None = None) -> Sequence[Problem]:
    """Everything that is wrong with a text, warnings too."""
    return problems_of([("vmcp.yaml", text)], environ)


def problems_of(files: Sequence[tuple[str, str]], environ: Mapping[str, str] | None = None) -> Sequence[Problem]:
    """Everything that is wrong with several files."""
    try:
        return load(files, environ or {})[1]
    except ConfigError as error:
        return error.problems


def told(found: Sequence[Problem]) -> list[str]:
    """Problems as ``line:column rule path``, which is what most tests look at."""
    return [f"{each.position.line}:{each.position.column} {each.rule} {each.path}".rstrip() for each in found]
