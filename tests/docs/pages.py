"""The pages that people read, in pieces. Rule: what a fence says is what a test does with its block.

A fence is a language and perhaps a word: ``yaml`` is a whole configuration, ``yaml wrong`` one that gives what the page is about,
``yaml part`` a piece of one, ``sh`` commands whose words are checked, ``sh run`` commands that are run one after the other, and
``http`` a request whose answer follows as ``json``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import vmcp

ROOT = Path(vmcp.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "bench" / "README.md", *DOCS.rglob("*.md")])
_FENCE = re.compile(r"^( *)```([a-z]*)(?: ([a-z-]+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str = "") -> Iterator[Block]:
    """The fenced blocks of a page, in their order; of one language, if that is given."""
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        indent, kind, word, body = found.groups(default="")
        if language in ("", kind):
            lines = (line.removeprefix(indent) for line in body.splitlines(keepends=True))
            yield Block(page, text.count("\n", 0, found.start()) + 1, kind, word, "".join(lines))


def every(language: str, *words: str) -> list[Block]:
    """The blocks of a language in all pages, with one of the words."""
    return [block for page in PAGES for block in blocks(page, language) if block.word in words]
