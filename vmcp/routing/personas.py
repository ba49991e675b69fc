"""Which persona a caller gets, and what of a face it lets through.

The rule: pure. Whoever's claims match personas has one of those and no other, so that choosing is no way out; the first of
the file unless he asks for another of his. Whoever matches none may choose among those without ``match``, or have none. A
persona that is not for the caller is as unknown as one that is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config.globs import Globs, globs
from vmcp.config.model import Config, Group
from vmcp.config.personas import Persona
from vmcp.errors import Code, McpError
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face, Route

PREFIX = "persona/"


@dataclass(frozen=True, slots=True)
class View:
    """A persona, compiled."""

    persona: Persona
    backends: frozenset[str]
    include: Globs | None
    exclude: Globs

    def admits(self, route: Route) -> bool:
        """Whether it shows ``route``. Names are the advertised ones, and what comes through a template has two: its URI and
        the template's own. Either can leave it out or take it in."""
        names = {route.name, route.original} if route.kind is Kind.TEMPLATE else {route.name}
        return (
            route.backend in self.backends
            and not any(self.exclude.match(name) for name in names)
            and (self.include is None or any(self.include.match(name) for name in names))
        )

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether a caller with ``claims`` gets it by them: every claim that it names has one of its values."""
        wanted = self.persona.claims
        return bool(wanted) and all(values & _strings(claims.get(name)) for name, values in wanted.items())


def _strings(value: Any) -> frozenset[str]:
    """The values of a claim that can match: itself, or its elements. Nothing is taken for text that is none."""
    if isinstance(value, str):
        return frozenset([value])
    return (
        frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else frozenset()
    )


class Personas:
    """All personas of a config."""

    def __init__(self, config: Config) -> None:
        self._views = {name: view(persona, config) for name, persona in config.personas.items()}

    def choose(self, face: Face, asked: str | None, claims: Mapping[str, Any]) -> View | None:
        """The view of a caller with ``claims`` who comes to ``face`` and asks for the persona ``asked`` (None: for none).

        Raises ``McpError``: 3001 where there is none such for him, 3002 where it does not reach ``face``.
        """
        named = face.group.removeprefix(PREFIX) if face.group.startswith(PREFIX) else None
        if named is not None and asked not in (None, named):
            raise _unknown(asked)
        view = self._chosen(named or asked, claims)
        if view is not None and named is None and view.persona.groups and face.group not in view.persona.groups:
            text = f"Server not allowed: persona '{view.persona.name}' does not see '{face.group}'"
            raise McpError(Code.SERVER_NOT_ALLOWED, text, vmcp_code=Code.SERVER_NOT_ALLOWED)
        return view

    def _chosen(self, name: str | None, claims: Mapping[str, Any]) -> View | None:
        own = [view for view in self._views.values() if view.fits(claims)]
        if name is None:
            return own[0] if own else None
        view = self._views.get(name)
        if view is None or ((own or view.persona.claims) and view not in own):
            raise _unknown(name)
        return view


def _unknown(name: str | None) -> McpError:
    text = f"Persona not found: {(name or '')[:80]}"
    return McpError(Code.PERSONA_NOT_FOUND, text, vmcp_code=Code.PERSONA_NOT_FOUND)


def dressing(config: Config) -> tuple[View, ...]:
    """The views of the personas that show tools in their own way."""
    return tuple(view(persona, config) for persona in config.personas.values() if persona.overrides)


def view(persona: Persona, config: Config) -> View:
    """What ``persona`` lets through."""
    include = None if persona.include is None else globs(persona.include)
    return View(persona, frozenset(group(persona, config).backends), include, globs(persona.exclude))


def group(persona: Persona, config: Config) -> Group:
    """What a persona's own path serves: the backends of all its groups, as one group."""
    seen = persona.groups or tuple(config.groups)
    backends = {name: spec for each in seen for name, spec in config.groups[each].backends.items()}
    return Group(f"{PREFIX}{persona.name}", backends, persona.description)
