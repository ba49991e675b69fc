"""How two configurations differ apart from lists. Rule: names, never values; and no difference stays untold."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from tests.config.samples import config as loaded
from vmcp.config.audit import AuditSpec
from vmcp.config.authz import Authz
from vmcp.config.incoming import Incoming, Issuer, LocalKey
from vmcp.config.lock import LockSpec, Pins
from vmcp.config.model import BackendSpec, Concealed, Config, Group, Limits, ServerSpec
from vmcp.config.personas import Persona
from vmcp.config.telemetry import TelemetrySpec
from vmcp.routing.settings import BackendChange, Settings, settings

SECRET = "s3cret-value"


def spec(name: str, **more: Any) -> BackendSpec:
    return BackendSpec(name, "g", "stdio", **more)


def config(*specs: BackendSpec, **more: Any) -> Config:
    backends = {each.name: each for each in specs or (spec("a"),)}
    base = loaded("name: acme\ngroups: {g: {backends: {a: {command: [x]}}}}\n")
    return replace(base, groups={"g": Group("g", backends, more.pop("description", ""))}, **more)


def test_the_same_is_told_as_nothing() -> None:
    assert settings(config(), config(digest="other")) == Settings()


def test_backends_come_go_and_start_anew() -> None:
    old = config(spec("a"), spec("b", command=("x",)), spec("c"))
    new = config(spec("d"), spec("b", command=("y",), required=True), spec("c"))
    assert settings(old, new).backends == (
        BackendChange("a", "removed"),
        BackendChange("b", "restarts", ("command", "required")),
        BackendChange("d", "added"),
    )


def test_of_secrets_only_the_names_are_told() -> None:
    old = config(spec("a", env={"T": Concealed(SECRET), "U": "u"}, headers={"X": Concealed(SECRET)}))
    new = config(spec("a", env={"T": Concealed("other"), "U": "u", "V": "v"}, headers={}))
    found = settings(old, new)
    assert found.backends == (BackendChange("a", "restarts", ("env.T", "env.V", "headers.X")),)
    assert SECRET not in repr(found)
    keys = (
        LocalKey("alice", Concealed(SECRET)),
        LocalKey("alice", Concealed("b")),
        LocalKey("bob", Concealed("c")),
        LocalKey("dave", Concealed("e")),
    )
    one = config(incoming=Incoming("local", keys=keys))
    two = config(incoming=Incoming("local", keys=(keys[0], keys[3], LocalKey("carol", Concealed("d")))))
    told = settings(one, two)
    assert told.auth == ("keys of 'alice' changed", "keys of 'bob' removed", "keys of 'carol' added")
    assert SECRET not in repr(told)


ISSUER, OTHER = Issuer("https://i", "aud"), Issuer("https://j", "aud")
CEDAR = Authz(("permit(principal, action, resource);",))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"incoming": Incoming("local")}, ("incomingAuth.type: anonymous -> local",)),
        (
            {"incoming": Incoming("local")},
            {"incoming": Incoming("local", os_user=True)},
            ("whoever runs vmcp comes in without a key: no -> yes",),
        ),
        (
            {"incoming": Incoming("oidc", issuers=(ISSUER,))},
            {"incoming": Incoming("oidc", issuers=(replace(ISSUER, audience="other"),))},
            ("issuer 'https://i' changed",),
        ),
        (
            {"incoming": Incoming("oidc", issuers=(ISSUER, OTHER))},
            {"incoming": Incoming("oidc", issuers=(OTHER, ISSUER))},
            ("incomingAuth: the order of issuers or keys",),
        ),
        (
            {"personas": {"p": Persona("p"), "q": Persona("q")}},
            {"personas": {"q": Persona("q"), "p": Persona("p")}},
            ("persona 'q': is the first now, and the first that fits counts",),
        ),
        ({}, {"authz": CEDAR}, ("policies: everybody may do everything -> Cedar",)),
        ({"authz": CEDAR}, {}, ("policies: Cedar -> everybody may do everything",)),
        (
            {"authz": CEDAR},
            {"authz": Authz(("a", "b"), group_claim="groups")},
            ("policies: 2 added, 1 removed; groupClaim changed",),
        ),
        ({"authz": CEDAR}, {"authz": Authz(("a",))}, ("policies: 1 added, 1 removed",)),
        ({}, {"personas": {"p": Persona("p")}}, ("persona 'p': added",)),
        ({"personas": {"p": Persona("p")}}, {}, ("persona 'p': removed",)),
        (
            {"personas": {"p": Persona("p")}},
            {"personas": {"p": Persona("p", groups=("g",), claims={"team": frozenset("a")})}},
            ("persona 'p': groups, match changed",),
        ),
        (
            {"personas": {"p": Persona("p")}, "authz": CEDAR},
            {"personas": {"p": Persona("p"), "q": Persona("q")}, "authz": CEDAR},
            ("persona 'q': added",),
        ),
        ({}, {"server": ServerSpec(allowed_origins=("https://a",))}, ("server.allowedOrigins changed",)),
    ],
)
def test_what_decides_who_may_do_what(old: dict[str, Any], new: dict[str, Any], expected: tuple[str, ...]) -> None:
    found = settings(config(**old), config(**new))
    assert found.auth == expected
    assert found.others == ()


@pytest.mark.parametrize(
    ("new", "others", "restart"),
    [
        ({"readiness": "any"}, ("readiness",), ()),
        ({"server": ServerSpec(port=1)}, ("server.port",), ("server.port",)),
        ({"server": ServerSpec(limits=Limits(body_bytes=1))}, ("server.limits",), ("server.limits.bodyBytes",)),
        ({"audit": AuditSpec("/log")}, ("audit",), ()),
        (
            {"lock": LockSpec(loaded("name: a\nbackends: [{name: a, command: [x]}]\n").lock.file, "warn")},
            ("lock.policy",),
            (),
        ),
        ({"lock": replace(config().lock, file="/elsewhere/vmcp.lock")}, (), ()),
        ({"lock": replace(config().lock, file="/elsewhere/other.lock")}, ("lock.file",), ()),
        ({"description": "Other."}, ("groups.g.description",), ()),
    ],
)
def test_everything_else(new: dict[str, Any], others: tuple[str, ...], restart: tuple[str, ...]) -> None:
    found = settings(config(), config(**new))
    assert (found.others, found.restart) == (others, restart)


def test_the_content_of_the_lock_file_and_groups_are_told() -> None:
    one = config()
    assert settings(one, replace(one, lock=replace(one.lock, pins=Pins({}, "other")))).others == (
        "the content of the lock file",
    )
    two = replace(one, groups={"h": Group("h", one.groups["g"].backends)})
    assert settings(one, two).others == ("groups.g removed", "groups.h added")
    order = config(spec("a"), spec("b")), config(spec("b"), spec("a"))
    assert settings(*order) == Settings(others=("groups.g: its backends or their order",))


def test_no_field_of_a_configuration_is_left_out() -> None:
    """A configuration that differs in one field alone is told as different, whatever the field."""
    one = config(incoming=Incoming("local"))
    for field in fields(Config):
        if field.name == "digest":
            continue
        other = _another(field.name, getattr(one, field.name))
        assert settings(one, replace(one, **{field.name: other})) != Settings(), field.name


GIVEN = {"audit": AuditSpec("/log"), "authz": CEDAR, "telemetry": TelemetrySpec(), "incoming": Incoming("anonymous")}


def _another(name: str, value: Any) -> Any:
    if name in GIVEN:
        return GIVEN[name]
    if is_dataclass(value) and not isinstance(value, type):
        first = next(each.name for each in fields(value) if isinstance(getattr(value, each.name), str | bool | None))
        return replace(value, **{first: "another"})
    if hasattr(value, "items"):
        return {**value, "more": Persona("more") if not value else Group("more", {})}
    return object()
