"""Texts of clients as ours: variables in our one form, and what looks like a secret replaced by the name of a variable.

The rule: in doubt it is a secret. A value that was taken out is kept in ``Vault`` alone, whose ``repr`` does not show it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MOST, LONGEST = 100, 1 << 14
_TELLING = re.compile(
    r"(?i)token|secret|passw|passphrase|key|auth|credential|cookie|session|bearer|jwt|dsn|webhook|private|signature|salt"
    r"|connection|(?:^|[^a-z])(?:pat|pwd|pw|sid|pin|pass|sig)(?:$|[^a-z])"
)
_KNOWN = re.compile(
    r"gh[pousr]_\w{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}|sk-[\w-]{8,}|[sr]k_(?:live|test)_\w{8,}|xox[abeprs]-[\w-]{8,}"
    r"|AKIA[0-9A-Z]{12,}|AIza[\w-]{20,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|npm_\w{16,}|hf_\w{16,}|lin_api_\w{8,}|ntn_\w{16,}"
    r"|pplx-\w{16,}|ATATT\w{16,}|tvly-[\w-]{8,}|fc-[0-9a-f]{16,}|ya29\.[\w-]{16,}|(?<![\w-])SG\.[\w-]{16,}\.[\w-]{16,}"
)
_USER_INFO = re.compile(r"://[^/?#@\s]+@")
_QUERY = re.compile(r"([?&;])([^=&;#?\s]+)=([^&;#\s]*)")
_INSIDE = re.compile(
    r"(?i)(?:token|secret|passw\w{0,12}|pwd|api[-_]?key|authorization|credentials?)[\"']?\s*[:=]\s*[\"']?"
    r"(?!(?:bearer|basic|token)?\s*$)[^\s\"'$]|\b(?:bearer|basic)\s+[^\s\"'$]"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"@(?:sha256:)?[0-9a-f]{40,64}\b")
_WORD = re.compile(r"[A-Za-z0-9]+")
_REFERENCE = re.compile(
    r"\$\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]{0,500}))?\}|\$\{input:(?P<input>[^}]+)\}"
    r"|\$\{file:(?P<file>[^}]+)\}|(?P<other>\$\{)"
)
_BARE = re.compile(r"\$(?P<name>[A-Za-z_][A-Za-z0-9_]*)|%(?P<percent>[A-Za-z_][A-Za-z0-9_]*)%")


class Unclear(Exception):
    """A text that cannot be written in our form; why."""


@dataclass(frozen=True, slots=True)
class Around:
    """Where a file was found: the user's home, and the folder that relative paths and ``${workspaceFolder}`` mean."""

    home: str
    folder: str


_PLACES: Mapping[str, Callable[[Around], str]] = {
    "${userHome}": lambda around: around.home,
    "${workspaceFolder}": lambda around: around.folder,
    "${workspaceFolderBasename}": lambda around: re.split(r"[/\\]", around.folder)[-1],
    "${__dirname}": lambda around: around.folder,
    "${pathSeparator}": lambda _: "/",
}
"""What editors put in, which is no variable of the environment."""


@dataclass(frozen=True, slots=True)
class Variable:
    """``${NAME}`` or ``${NAME:-default}`` in a text; ``file`` is a path whose content is meant."""

    name: str
    default: str | None = None
    file: bool = False


@dataclass(slots=True)
class Need:
    """A variable that has to be set: for what, and its value where the file had it. ``early``: to load the file at all."""

    name: str
    places: list[str] = field(default_factory=list)
    value: str | None = field(default=None, repr=False)
    early: bool = False


class Vault:
    """The variables that a configuration will need. Mutable; each value is kept once."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.needs: dict[str, Need] = {}
        self._reserved = frozenset(reserved)

    def keep(self, wanted: str, server: str, value: str, place: str, *, early: bool = False) -> str:
        """The name under which a value is found from now on: the wanted one, unless that is another value's."""
        same = [need.name for need in self.needs.values() if need.value == value and len(value) >= 8]
        for name in [*same, *islice(_names(variable(wanted), variable(server)), MOST)]:
            need = self.needs.get(name)
            if name not in self._reserved and (need is None or need.value == value):
                return self._note(name, place, value, early=early)
        raise Unclear("there are too many variables of one name")

    def refer(self, name: str, place: str, *, early: bool = False) -> str:
        """A variable that the file itself names."""
        return self._note(name, place, None, early=early)

    def _note(self, name: str, place: str, value: str | None, *, early: bool) -> str:
        need = self.needs.setdefault(name, Need(name, [], value))
        need.early = need.early or early
        if place not in need.places:
            need.places.append(place)
        return name


def _names(wanted: str, server: str) -> Iterator[str]:
    yield wanted
    if not wanted.startswith(server):
        yield f"{server}_{wanted}"
    number = 2
    while True:
        yield f"{server}_{wanted}_{number}"
        number += 1


def variable(text: str) -> str:
    """A text as the name of an environment variable."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").upper()
    return name if name and not name[0].isdigit() else f"X_{name}".rstrip("_")


def references(data: Any) -> Iterator[str]:
    """The names of all variables in texts of plain data."""
    if isinstance(data, str):
        yield from (found["name"] for found in _REFERENCE.finditer(data[:LONGEST]) if found["name"])
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from references(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from references(value)


def parts(text: str, around: Around, *, bare: bool = False) -> list[str | Variable]:
    """A text as pieces: literal ones and variables. ``bare``: ``$NAME`` and ``%NAME%`` are variables too."""
    if len(text) > LONGEST:
        raise Unclear("a text in it is too long")
    found: list[str | Variable] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        found += _literal(text[end : match.start()], bare=bare)
        end = match.end()
        if match["other"]:
            raise Unclear("it has a ${…} that vmcp cannot know")
        if match[0] in _PLACES:
            found.append(_PLACES[match[0]](around))
        elif match["file"]:
            found.append(Variable(match["file"], file=True))
        else:
            found.append(Variable(match["name"] or variable(match["input"]), match["default"]))
    return [each for each in [*found, *_literal(text[end:], bare=bare)] if each != ""]


def _literal(text: str, *, bare: bool) -> Iterator[str | Variable]:
    end = 0
    for match in _BARE.finditer(text) if bare else ():
        yield text[end : match.start()]
        yield Variable(match["name"] or match["percent"])
        end = match.end()
    yield text[end:]


def harmless(name: str, text: str, least: int = 6) -> bool:
    """Whether a value under this name may be read by everybody."""
    if _TELLING.search(name) and text.lower() not in ("", "true", "false", "none"):
        return False
    return not suspicious(text, least)


def suspicious(text: str, least: int = 20) -> bool:
    """Whether a text has something in it that looks like a secret: a word of ``least`` letters mixed with digits, say."""
    if any(form.search(text) for form in (_KNOWN, _USER_INFO, _UUID, _INSIDE)):
        return True
    if any(_TELLING.search(name) and value for _, name, value in _QUERY.findall(text)):
        return True
    return any(_mixed(word, least) for word in _WORD.findall(_DIGEST.sub("", text)))


def telltale(text: str) -> bool:
    """Whether a text has a secret in it by the form that its maker gives all of his."""
    return bool(_KNOWN.search(text) or _USER_INFO.search(text))


def _mixed(word: str, least: int) -> bool:
    if word.isdigit() or word.isalpha():
        return len(word) >= max(least, 9 if word.isdigit() else 28)
    return len(word) >= least


@dataclass(frozen=True, slots=True)
class Lift:
    """Lifts secrets out of the texts of one server. ``bare``: see ``parts``."""

    vault: Vault
    server: str
    around: Around
    bare: bool = False

    def secret(self, name: str, text: str, wanted: str, place: str, least: int = 6) -> Any:
        """A text where ours may be ``{env: NAME}``: a header, a variable of a child."""
        pieces = parts(text, self.around, bare=self.bare)
        if not any(isinstance(piece, Variable) for piece in pieces):
            literal = "".join(map(str, pieces))
            if harmless(name, literal, least):
                return literal.replace("${", "$${")
            return {"env": self.vault.keep(wanted, self.server, literal, place)}
        if len(pieces) == 1 and isinstance(pieces[0], Variable):
            return self.alone(name, pieces[0], place)
        if any(isinstance(piece, str) and suspicious(piece, least) for piece in pieces):
            raise Unclear("a secret and a variable stand in one text")
        return self.written(pieces, place)

    def alone(self, name: str, piece: Variable, place: str) -> Any:
        """A value that is one variable."""
        if piece.file:
            return {"file": piece.name}
        if piece.default is not None and harmless(name, piece.default):
            return f"${{{piece.name}:-{piece.default}}}"
        return {"env": self.vault.refer(piece.name, place)}

    def plain(self, text: str, place: str) -> str:
        """A text where ours is only text: variables are put in when the file is loaded."""
        return self.written(parts(text, self.around, bare=self.bare), place)

    def written(self, pieces: list[str | Variable], place: str) -> str:
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece.replace("${", "$${")
                continue
            if piece.file or text.endswith("$"):
                raise Unclear("a variable stands where vmcp cannot put it in")
            if piece.default is None or suspicious(piece.default, 8):
                text += f"${{{self.vault.refer(piece.name, place, early=True)}}}"
            else:
                text += f"${{{piece.name}:-{piece.default}}}"
        return text

    def taken(self, value: str, wanted: str, place: str) -> str:
        """A secret inside a text, as the variable that takes its place."""
        return f"${{{self.vault.keep(wanted, self.server, value, place, early=True)}}}"

    def arguments(self, arguments: list[str], place: str) -> list[str]:
        """The command line with its secrets lifted: by the names of flags, by how they look, out of headers and URLs."""
        done: list[str] = []
        flag = ""
        for argument in arguments:
            text = self.plain(argument, place)
            done.append(text if "${" in text.replace("$${", "") else self.argument(flag, text, place))
            flag = argument if argument.startswith("-") and "=" not in argument else ""
        return done

    def argument(self, flag: str, text: str, place: str) -> str:
        name, equals, value = text.partition("=")
        if flag in ("-H", "--header", "--headers"):
            head, colon, rest = text.partition(":")
            if colon and not harmless(head, rest.strip(), 4):
                return f"{head}: {self.taken(rest.strip(), f'{self.server}_{head}', place)}"
        if _telling(flag) and not text.startswith("-") and text:
            return self.taken(text, f"{self.server}_{flag}", place)
        if equals and value and "://" not in name and _telling(name):
            return f"{name}={self.taken(value, name if name.isidentifier() else f'{self.server}_{name}', place)}"
        return self.taken(text, f"{self.server}_ARGUMENT", place) if suspicious(text, 24) else text

    def url(self, url: str, place: str) -> str:
        """A URL with the secrets of its path and query lifted; the fragment is never sent and is cut."""
        text = self.plain(url, place).partition("#")[0]
        before, mark, query = text.partition("?")
        scheme, slashes, rest = before.partition("://")
        host, *steps = rest.split("/")
        wanted = f"{self.server}_URL_PART"
        steps = [self.taken(s, wanted, place) if "${" not in s and suspicious(s, 16) else s for s in steps]

        def lifted(match: re.Match[str]) -> str:
            start, name, value = match.groups()
            if "${" in value or not value or harmless(name, value, 12):
                return match[0]
            return f"{start}{name}={self.taken(value, f'{self.server}_{name}', place)}"

        return scheme + slashes + "/".join([host, *steps]) + _QUERY.sub(lifted, mark + query)


def _telling(name: str) -> bool:
    """Whether a flag of this name takes a secret itself, not a file or a place of one."""
    low = name.lower()
    return bool(_TELLING.search(low)) and not low.endswith(("file", "path", "dir", "url", "type", "mode", "method"))
