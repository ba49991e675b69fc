"""What a running house cannot take from a new configuration. Rule: pure; every branch has a row."""

from dataclasses import replace
from typing import Any

import pytest

from tests.server.peers import config
from vmcp.config.administration import AdminSpec, Ui
from vmcp.config.audit import AuditSpec
from vmcp.config.model import BackendSpec, Config, Group, Limits, Paths, ServerSpec
from vmcp.config.oauth import StateSpec, UserOAuth
from vmcp.config.restart import kept
from vmcp.config.telemetry import TelemetrySpec

LOG = AuditSpec("/log")


def given(**more: Any) -> Config:
    return config({}, **more)


def test_what_can_be_changed_is_taken_as_it_is() -> None:
    wanted = given(server=ServerSpec(public_url="https://gw", allowed_hosts=("gw",)), audit=LOG)
    assert kept(given(), wanted) == (wanted, ())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"host": "127.0.0.2"}, ("server", "host")),
        ({"port": 1}, ("server", "port")),
        ({"workers": 2}, ("server", "workers")),
        ({"paths": Paths(ws="/socket")}, ("server", "paths", "ws")),
        ({"limits": Limits(body_bytes=7)}, ("server", "limits", "bodyBytes")),
    ],
)
def test_the_listener_stays_as_it_was_made(change: dict[str, Any], path: tuple[str, ...]) -> None:
    running = given()
    wanted = given(server=replace(ServerSpec(public_url="https://gw"), **change))
    config, restart = kept(running, wanted)
    assert restart == (path,)
    assert config.server == replace(running.server, public_url="https://gw"), "and the rest takes effect"


def test_who_watches_is_connected_once_and_what_is_served_to_them_may_change() -> None:
    sent = TelemetrySpec(tracing=True)
    config, restart = kept(given(), given(telemetry=sent))
    assert (config.telemetry, restart) == (None, (("telemetry",),))
    both = replace(sent, scrape=True)
    assert kept(given(telemetry=sent), given(telemetry=both)) == (given(telemetry=both), ())
    config, restart = kept(given(telemetry=sent), given(telemetry=TelemetrySpec(scrape=True)))
    assert (config.telemetry, restart) == (both, (("telemetry",),))
    assert kept(given(telemetry=TelemetrySpec(scrape=True)), given()) == (given(), ())


def test_what_pages_may_do_is_as_it_is_said_now_and_where_they_are_stays() -> None:
    was = AdminSpec("/a", ("127.0.0.1", 1), ui=Ui(enabled=True, try_it=True, operate=True))
    less = replace(was, ui=Ui(enabled=True))
    assert kept(given(admin=was), given(admin=less)) == (given(admin=less), ())
    config, restart = kept(given(admin=was), given(admin=AdminSpec("/b", ui=Ui(operate=True))))
    assert restart == (("admin",),)
    assert config.admin == replace(was, ui=Ui(enabled=True, operate=True))


def test_where_tokens_are_kept_stays() -> None:
    config, restart = kept(given(), given(state=StateSpec("/somewhere")))
    assert (config.state, restart) == (StateSpec(), (("state",),))


@pytest.mark.parametrize(
    ("redirect", "stays"),
    [
        ("http://127.0.0.1:5000/oauth/callback", "http://127.0.0.1:4483/oauth/callback"),
        ("https://gw.example.com/oauth/callback", "https://gw.example.com/oauth/callback"),
    ],
)
def test_a_client_of_an_authorization_server_has_its_pages_where_the_listener_still_is(
    redirect: str, stays: str
) -> None:
    auth = UserOAuth(base="http://127.0.0.1:5000", redirect=redirect, state=StateSpec("/elsewhere"))
    plain = BackendSpec("plain", "g", "streamable-http", "https://x")
    group = Group("g", {"a": replace(plain, name="a", auth=auth), "plain": plain})
    wanted = replace(given(server=ServerSpec(port=5000), state=StateSpec("/elsewhere")), groups={"g": group})
    config, restart = kept(given(), wanted)
    assert restart == (("server", "port"), ("state",))
    found = config.groups["g"].backends
    assert found["plain"] is plain
    assert found["a"].auth == UserOAuth(base="http://127.0.0.1:4483", redirect=stays)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"durability": "fsync"}, ("audit", "durability")),
        ({"rotate_bytes": 1}, ("audit", "rotation", "maxBytes")),
        ({"keep": 1}, ("audit", "rotation", "keep")),
        ({"key": "k" * 16}, ("audit", "key")),
    ],
)
def test_a_log_goes_on_as_it_was_opened(change: dict[str, Any], path: tuple[str, ...]) -> None:
    config, restart = kept(given(audit=LOG), given(audit=replace(LOG, component="other", **change)))
    assert restart == (path,)
    assert config.audit == replace(LOG, component="other")


@pytest.mark.parametrize(("was", "now"), [(None, LOG), (LOG, None), (LOG, AuditSpec("/other", keep=1))])
def test_another_log_is_opened_anew(was: AuditSpec | None, now: AuditSpec | None) -> None:
    config, restart = kept(given(audit=was), given(audit=now, server=ServerSpec(port=1)))
    assert restart == (("server", "port"),)
    assert config.audit == now
