"""The condition language of routing rules and composite tools: a text becomes a program, once, when the file is loaded.

The rule: total and harmless. It compares what it is given, reaches nothing else and calls nothing; what is absent is null, and
values of different types are never equal, greater or smaller: a condition is true or false, whatever a client sends.

    expression = and {"||" and}          and = not {"&&" not}          not = ["!"] comparison | …
    comparison = operand [("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in" | "like") operand]
    operand    = "(" expression ")" | "[" [operand {"," operand}] "]" | "string" | 'string' | number | true | false | null | path
    path       = root {"." name | "[" ("string" | index) "]"}

``and``, ``or``, ``not`` are other words for ``&&``, ``||``, ``!``. ``like`` has a pattern on its right, with ``*`` and ``?``.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from vmcp.config.globs import globs

Values = Mapping[str, Any]
"""What a condition is about: each root and its value, a JSON value."""
Program = Callable[[Values], Any]

LONGEST: Final = 4096
DEEPEST: Final = 32
_TOKENS = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_WORDS: Final = {"and": "&&", "or": "||", "not": "!"}
_KEYWORDS: Final = frozenset({*_CONSTANTS, *_WORDS, "in", "like"})
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class BadCondition(Exception):
    """A text that is no condition. ``at`` is the number of characters before the mistake."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(f"{why} (at character {at + 1})")
        self.at = at


class Condition:
    """A compiled condition; equal when its text is."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str, program: Program) -> None:
        self.text = text
        self._program = program

    def holds(self, values: Values) -> bool:
        """Whether it is true of ``values``. Never raises; anything but ``true`` is false."""
        return self._program(values) is True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


def compiled(text: str, roots: Collection[str]) -> Condition:
    """The condition that ``text`` says about ``roots``. Raises ``BadCondition``."""
    if len(text) > LONGEST:
        raise BadCondition(f"it is longer than {LONGEST} characters", LONGEST)
    parser = _Parser(list(_scan(text)), len(text), roots)
    return Condition(text, parser.whole())


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _scan(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None:
            raise BadCondition(f"{text[at]!r} means nothing here", at)
        kind, said = str(found.lastgroup), found.group()
        if kind == "name" and said in _WORDS:
            kind, said = "sign", _WORDS[said]
        elif kind == "name" and said in _KEYWORDS:
            kind = "sign" if said in ("in", "like") else "constant"
        if kind != "space":
            yield _Token(kind, said, at)
        at = found.end()


class _Parser:
    """Recursive descent over the tokens; each method gives the program of what it read."""

    def __init__(self, tokens: list[_Token], end: int, roots: Collection[str]) -> None:
        self._tokens = tokens
        self._end = _Token("end", "the end", end)
        self._next = 0
        self._depth = 0
        self._roots = roots

    def whole(self) -> Program:
        program = self._either()
        if self._token.kind != "end":
            raise BadCondition(f"{self._token.text!r} is not expected here", self._token.at)
        return program

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else self._end

    def _take(self, *signs: str) -> str | None:
        """The next token if it is one of these signs."""
        token = self._token
        if token.kind != "sign" or token.text not in signs:
            return None
        self._next += 1
        return token.text

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise BadCondition(f"{sign!r} is expected, not {self._token.text!r}", self._token.at)

    def _either(self) -> Program:
        found = [self._all()]
        while self._take("||"):
            found.append(self._all())
        return found[0] if len(found) == 1 else lambda values: any(each(values) is True for each in found)

    def _all(self) -> Program:
        found = [self._not()]
        while self._take("&&"):
            found.append(self._not())
        return found[0] if len(found) == 1 else lambda values: all(each(values) is True for each in found)

    def _not(self) -> Program:
        denied = False
        while self._take("!"):
            denied = not denied
        program = self._comparison()
        return (lambda values: program(values) is not True) if denied else program

    def _comparison(self) -> Program:
        left = self._operand()
        if self._take("!"):
            self._expect("in")
            right = self._operand()
            return lambda values: not _within(left(values), right(values))
        sign = self._take("==", "!=", *_ORDERS, "in", "like")
        if sign is None:
            return left
        if sign == "like":
            return self._like(left)
        return _compared(sign, left, self._operand())

    def _like(self, left: Program) -> Program:
        token = self._token
        if token.kind != "string":
            raise BadCondition("a pattern in quotes is expected after 'like'", token.at)
        self._next += 1
        pattern = globs([_unquoted(token)])
        return lambda values: isinstance(text := left(values), str) and pattern.match(text)

    def _operand(self) -> Program:
        opened = self._take("(", "[")
        if opened is None:
            return self._simple()
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadCondition(f"it is nested deeper than {DEEPEST}", self._token.at)
        program = self._list() if opened == "[" else self._either()
        if opened == "(":
            self._expect(")")
        self._depth -= 1
        return program

    def _simple(self) -> Program:
        token = self._token
        if token.kind in ("sign", "end"):
            raise BadCondition(f"a value is expected, not {token.text!r}", token.at)
        self._next += 1
        if token.kind == "name":
            return self._path(token)
        value = _literal(token)
        return lambda _: value

    def _list(self) -> Program:
        found: list[Program] = []
        while not self._take("]"):
            if found:
                self._expect(",")
            found.append(self._operand())
        return lambda values: [each(values) for each in found]

    def _path(self, root: _Token) -> Program:
        if root.text not in self._roots:
            known = ", ".join(sorted(self._roots))
            raise BadCondition(f"{root.text!r} is nothing that can be asked about; there are {known}", root.at)
        name, steps = root.text, list(self._steps())
        if not steps:
            return lambda values: values.get(name)
        return lambda values: _reached(values.get(name), steps)

    def _steps(self) -> Iterator[str | int]:
        while sign := self._take(".", "["):
            token = self._token
            self._next += 1
            if sign == "." and (token.kind == "name" or token.text.isidentifier()):  # true, in and like are names here
                yield token.text
            elif sign == "[" and (token.kind == "string" or (token.kind == "number" and token.text.isdigit())):
                yield _unquoted(token) if token.kind == "string" else int(token.text)
                self._expect("]")
            else:
                what = "a name" if sign == "." else 'a number or a name in quotes (["…"])'
                raise BadCondition(f"{what} is expected after {sign!r}", token.at)


def _literal(token: _Token) -> Any:
    if token.kind == "constant":
        return _CONSTANTS[token.text]
    if token.kind == "string":
        return _unquoted(token)
    return int(token.text) if token.text.lstrip("-").isdigit() else float(token.text)


def _unquoted(token: _Token) -> str:
    def replaced(found: re.Match[str]) -> str:
        character = found.group(1)
        if character not in _ESCAPES:
            raise BadCondition(f"'\\{character}' means nothing in a string", token.at + found.start() + 1)
        return _ESCAPES[character]

    return re.sub(r"\\(.)", replaced, token.text[1:-1], flags=re.DOTALL)


def _reached(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, Mapping) else None
        elif isinstance(value, list | tuple) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _compared(sign: str, left: Program, right: Program) -> Program:
    if sign == "==":
        return lambda values: same(left(values), right(values))
    if sign == "!=":
        return lambda values: not same(left(values), right(values))
    if sign == "in":
        return lambda values: _within(left(values), right(values))
    order = _ORDERS[sign]
    return lambda values: _ordered(order, left(values), right(values))


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, and true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return _kind(one) is _kind(other) and bool(one == other)


def _within(one: Any, many: Any) -> bool:
    """Member of a list, key of an object, part of a string."""
    if isinstance(many, str):
        return isinstance(one, str) and one in many
    if isinstance(many, Mapping):
        return isinstance(one, str) and one in many
    return isinstance(many, list | tuple | frozenset) and any(same(one, each) for each in many)


def _ordered(order: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    kind = _kind(one)
    return kind is _kind(other) and kind in (float, str) and order(one, other)


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)
