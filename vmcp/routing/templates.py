"""Does this URI come from that template? (RFC 6570, levels 1 to 3 and explode)

The rule: nothing backtracks, so no template and no URI can make a match slow. Where every variable ends at a slash the URI is
walked from slash to slash; any other template becomes an automaton whose places are the bits of one integer, moved together
character by character (shift-and).

Matching is for routing, so it is never narrower than the matchers of the SDKs behind us: values are not decoded, names in a
query are not compared, ``{var}`` takes everything but ``/`` and ``{var*}`` that as well. A URI is never normalised.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

LONGEST = 8192
_PART = re.compile(r"\{([^{}]*)\}|[^{}]+")
_NAME = r"[\w%][\w%.-]*(?:\*|:[0-9]{1,4})?"
_EXPRESSION = re.compile(rf"([+#./;?&]?)({_NAME}(?:,{_NAME})*)")


@dataclass(frozen=True, slots=True)
class Expression:
    """One ``{…}``: the character that must open it ("" for none), whether it takes slashes, how often it may be repeated."""

    opener: str
    slashes: bool
    times: int


Part = str | Expression


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: the literal texts at its ends and the parts between them."""

    prefix: str
    middle: tuple[Part, ...]
    suffix: str
    walkable: bool

    def match(self, uri: str) -> bool:
        """Whether ``uri`` may be an expansion of the template. One longer than 8 KiB is not."""
        end = len(uri) - len(self.suffix)
        if end < len(self.prefix) or end > LONGEST or not (uri.startswith(self.prefix) and uri.endswith(self.suffix)):
            return False
        text = uri[len(self.prefix) : end]
        return _walk(self.middle, text) if self.walkable else _Automaton(self.middle).accepts(text)


def compiled(template: str) -> Template | None:
    """Compile ``template``; None when it is none, or is longer than 8 KiB."""
    parts = _parts(template) if len(template) <= LONGEST else None
    if parts is None:
        return None
    prefix = parts.pop(0) if parts and isinstance(parts[0], str) else ""
    suffix = parts.pop() if parts and isinstance(parts[-1], str) else ""
    return Template(str(prefix), tuple(parts), str(suffix), _is_walkable(parts))


def match(template: str, uri: str) -> bool:
    """Whether ``uri`` may be an expansion of ``template``; a text that is no template matches nothing."""
    found = compiled(template)
    return found is not None and found.match(uri)


def _parts(template: str) -> list[Part] | None:
    parts: list[Part] = []
    end = 0
    for found in _PART.finditer(template):
        part = found[0] if found[1] is None else _expression(found[1])
        if found.start() != end or part is None:
            return None
        parts.append(part)
        end = found.end()
    return parts if end == len(template) else None


def _expression(text: str) -> Expression | None:
    found = _EXPRESSION.fullmatch(text)
    if found is None:
        return None
    operator, explode = found[1], "*" in text
    return Expression(
        opener="" if operator == "+" else operator,
        slashes=explode or operator in ("+", "#", "?", "&"),
        times=found[2].count(",") + 1 if operator == "/" and not explode else 1,
    )


def _is_walkable(parts: Sequence[Part]) -> bool:
    """Whether each variable ends at the next slash, or takes all that is left."""
    for part, after in zip_longest(parts, parts[1:]):
        if isinstance(part, Expression):
            ends = after is None or (isinstance(after, str) and after[0] == "/" and not part.slashes)
            if part.opener or not ends:
                return False
    return True


def _walk(parts: Sequence[Part], text: str) -> bool:
    at = 0
    for part in parts:
        if isinstance(part, str):
            if not text.startswith(part, at):
                return False
            at += len(part)
        else:
            slash = -1 if part.slashes else text.find("/", at)
            at = len(text) if slash < 0 else slash
    return at == len(text)


class _Automaton:
    """Bit *i* of a mask is the place before element *i*. Made for one match and then dropped: masks are larger than templates.

    ``step``: elements that a character passes. ``open``: optional groups that it opens. ``skip``: elements that need no
    character. ``outer`` and ``inner``: places that swallow a character, by whether it is a slash; ``inner`` is within a group.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.size = 0
        self.step: dict[str, int] = {}
        self.open: dict[str, int] = {}
        self.skip = 0
        self.outer = {True: 0, False: 0}
        self.inner = {True: 0, False: 0}
        for part in parts:
            if isinstance(part, str):
                self._literal(part)
            else:
                self._expression(part)

    def accepts(self, text: str) -> bool:
        here, inside = self._closed(1), 0
        for character in text:
            slash = character == "/"
            inside = (here & self.open.get(character, 0)) << 1 | inside & self.inner[slash]
            here = (here & self.step.get(character, 0)) << 1 | here & self.outer[slash]
            here = self._closed(here | inside)
            if not here:
                return False
        return bool(here >> self.size)

    def _closed(self, places: int) -> int:
        """``places`` and all that skipping leads to. A one added within a run of ones carries to the end of the run."""
        return places | ((places & self.skip) + self.skip ^ self.skip)

    def _literal(self, text: str) -> None:
        for character in text:
            self.step[character] = self.step.get(character, 0) | 1 << self.size
            self.size += 1

    def _expression(self, part: Expression) -> None:
        for _ in range(part.times):
            swallows = self.inner if part.opener else self.outer
            if part.opener:
                self.open[part.opener] = self.open.get(part.opener, 0) | 1 << self.size
            self.skip |= 1 << self.size
            self.size += 1
            swallows[False] |= 1 << self.size
            if part.slashes:
                swallows[True] |= 1 << self.size
