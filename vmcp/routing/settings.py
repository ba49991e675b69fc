"""How two configurations differ, apart from what clients see: backends that start anew, who may come in, everything else.

The rule: names and kinds, never values, for a value may be a secret; and nothing of a configuration is left out, so that two
between which nothing is told are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from vmcp.config.incoming import Incoming
from vmcp.config.model import BackendSpec, Config, ServerSpec
from vmcp.config.personas import Persona
from vmcp.config.restart import kept
from vmcp.config.schema import camel
from vmcp.config.tree import Path, label

_DOORS: Final = ("allow_anonymous_network", "allowed_hosts", "allowed_origins", "public_url", "trusted_proxies")
"""Of the listener: what decides about who may come in."""
_APART: Final = frozenset({"digest", "groups", "incoming", "authz", "personas", "server", "lock"})
_WORDS: Final[Mapping[str, str]] = {"rate_limits": "rateLimiting", "incoming": "incomingAuth", "auth": "outgoingAuth"}


@dataclass(frozen=True, slots=True)
class BackendChange:
    """A backend that comes, goes, or starts anew, and because of what."""

    name: str
    change: Literal["added", "removed", "restarts"]
    because: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs. ``restart``: of it, what takes effect only when vmcp itself is started anew."""

    backends: tuple[BackendChange, ...] = ()
    auth: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def settings(old: Config, new: Config) -> Settings:
    """What differs between two configurations."""
    restart: tuple[Path, ...] = kept(old, new)[1]
    return Settings(
        backends=tuple(_backends(old, new)),
        auth=(*_incoming(old.incoming, new.incoming), *_policies(old, new), *_doors(old, new)),
        others=tuple(_others(old, new)),
        restart=tuple(map(label, restart)),
    )


def _word(name: str) -> str:
    return _WORDS.get(name, camel(name))


def _different(old: object, new: object, names: Any) -> Iterator[str]:
    return (name for name in names if getattr(old, name) != getattr(new, name))


def _backends(old: Config, new: Config) -> Iterator[BackendChange]:
    was, now = ({spec.name: spec for spec in config.backends} for config in (old, new))
    for name in dict.fromkeys((*was, *now)):
        if name not in now:
            yield BackendChange(name, "removed")
        elif name not in was:
            yield BackendChange(name, "added")
        elif was[name] != now[name]:
            yield BackendChange(name, "restarts", tuple(_because(was[name], now[name])))


def _because(old: BackendSpec, new: BackendSpec) -> Iterator[str]:
    for name in _different(old, new, [each.name for each in fields(BackendSpec)]):
        was, now = getattr(old, name), getattr(new, name)
        if name in ("env", "headers"):
            yield from (f"{name}.{key}" for key in sorted({*was, *now}) if was.get(key) != now.get(key))
        else:
            yield _word(name)


def _incoming(old: Incoming, new: Incoming) -> Iterator[str]:
    found = tuple(_entrance(old, new))
    return iter(found if found or old == new else ("incomingAuth: the order of issuers or keys",))


def _entrance(old: Incoming, new: Incoming) -> Iterator[str]:
    if old.type != new.type:
        yield f"incomingAuth.type: {old.type} -> {new.type}"
    yield from _listed(
        "issuer", {each.issuer: each for each in old.issuers}, {each.issuer: each for each in new.issuers}
    )
    was, now = ([(each.subject, each) for each in side.keys] for side in (old, new))
    yield from _listed("keys of", _grouped(was), _grouped(now))
    if old.os_user is not new.os_user:
        yield f"whoever runs vmcp comes in without a key: {_yes(old.os_user)} -> {_yes(new.os_user)}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _grouped(pairs: list[tuple[str, Any]]) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _listed(word: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield f"{word} '{name}' {'removed' if name not in new else 'added' if name not in old else 'changed'}"


def _policies(old: Config, new: Config) -> Iterator[str]:
    was, now = old.authz, new.authz
    if was is None or now is None:
        if was is not now:
            both = ("everybody may do everything", "Cedar")
            yield f"policies: {' -> '.join(both if was is None else reversed(both))}"
    elif was != now:
        more, fewer = set(now.policies) - set(was.policies), set(was.policies) - set(now.policies)
        rest = [_word(each) for each in _different(was, now, ("entities", "group_claim", "role_claim", "group_type"))]
        yield f"policies: {len(more)} added, {len(fewer)} removed" + (f"; {', '.join(rest)} changed" if rest else "")
    yield from (f"persona '{name}': {what}" for name, what in _personas(old.personas, new.personas))


def _personas(old: Mapping[str, Persona], new: Mapping[str, Persona]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            yield name, "added" if was is None else "removed"
        elif was != now:
            changed = _different(was, now, [each.name for each in fields(Persona)])
            yield name, ", ".join("match" if each == "claims" else each for each in changed) + " changed"
    if list(old) != list(new) and set(old) == set(new):
        yield next(iter(new)), "is the first now, and the first that fits counts"


def _doors(old: Config, new: Config) -> Iterator[str]:
    return (f"server.{camel(name)} changed" for name in _different(old.server, new.server, _DOORS))


def _named(path: str) -> str:
    return path.rpartition("/")[2]


def _others(old: Config, new: Config) -> Iterator[str]:
    yield from map(_word, _different(old, new, [each.name for each in fields(Config) if each.name not in _APART]))
    rest = [each.name for each in fields(ServerSpec) if each.name not in _DOORS]
    yield from (f"server.{camel(name)}" for name in _different(old.server, new.server, rest))
    # Only how its file is called: it stands beside the configuration, and so elsewhere in each of two checkouts.
    if _named(old.lock.file) != _named(new.lock.file):
        yield "lock.file"
    if old.lock.policy != new.lock.policy:
        yield "lock.policy"
    if old.lock.pins.digest != new.lock.pins.digest:
        yield "the content of the lock file"
    for name in dict.fromkeys((*old.groups, *new.groups)):
        was, now = old.groups.get(name), new.groups.get(name)
        if was is None or now is None:
            yield f"groups.{name} {'added' if was is None else 'removed'}"
        elif was.description != now.description:
            yield f"groups.{name}.description"
        elif tuple(was.backends) != tuple(now.backends):
            yield f"groups.{name}: its backends or their order"
