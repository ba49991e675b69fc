"""Who holds which subscription, when other backends take the place of those where they were made.

Rule: what is wanted of a backend is looked at in its own watch.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from vmcp.aggregator.ledger import Ledger, Source
from vmcp.errors import Unavailable
from vmcp.tasks import Nest
from vmcp.upstream.links import Key
from vmcp.upstream.watch import TASKS, UPDATED, URIS, Topic, Watch

ONE: Topic = (URIS, "r://one")
TASK: Topic = (TASKS, "t-1")


class Server:
    """A backend with a watch for the link of all, and one for each private link."""

    def __init__(self, *private: Key) -> None:
        self.watches: dict[Key | None, Watch] = {key: self._watch() for key in (None, *private)}

    def _watch(self) -> Watch:
        return Watch("b", Nest("b"), lambda method, params: None)

    def wanted(self, source: Key | None = None) -> list[Topic]:
        return list(self.watches[source]._wanted)

    async def source(self, call: Any) -> Key | None:
        return None

    def watch_of(self, source: Key | None) -> Watch | None:
        return self.watches.get(source)


class Client:
    def __init__(self) -> None:
        self.told: list[tuple[Topic, str, str]] = []

    def updated(self, topic: Topic, method: str, params: Mapping[str, Any], name: str) -> None:
        assert params == {"uri": name}
        self.told.append((topic, method, name))


def holding(backend: Server, link: Key | None, *topics: Topic) -> tuple[Ledger, Client]:
    """A client whose subscriptions its backend has agreed to."""
    ledger, client = Ledger({"b": backend}), Client()
    for topic in topics:
        source = Source("b", link)
        ledger._holders[source, topic] = {client: topic}
        ledger._held.setdefault(client, {})[source, topic] = None
        backend.watches[link].inherit(topic[1], topic[0])
    return ledger, client


@pytest.mark.parametrize("link", [None, Key("session", "s")])
def test_what_was_wanted_of_one_is_wanted_of_who_comes_after_him(link: Key | None) -> None:
    ledger, client = holding(Server(Key("session", "s")), link, ONE)
    after = Server()
    ledger.adopt({"b": after}, ())
    assert after.wanted() == [ONE]
    assert client.told == [], "the watch tells when the backend has agreed"
    assert ledger.concerned(Source("b", None), [ONE]) == [(client, ONE)]
    ledger.forget(client)
    assert after.wanted() == []
    assert ledger.held(client) == []


def test_a_backend_that_stays_is_left_alone() -> None:
    same = Server()
    ledger, client = holding(same, None, ONE)
    ledger.adopt({"b": same, "c": Server()}, ())
    assert ledger.held(client) == [(Source("b", None), ONE)]
    assert client.told == []


@pytest.mark.parametrize(("backends", "private"), [({}, ()), ({"b": Server()}, ("b",))])
def test_what_nobody_will_tell_any_more_is_told_to_be_looked_at(
    backends: dict[str, Server], private: tuple[str, ...]
) -> None:
    ledger, client = holding(Server(), None, ONE)
    ledger.adopt(backends, private)
    assert client.told == [(ONE, UPDATED, "r://one")]
    assert ledger.held(client) == []
    assert all(not each.wanted() for each in backends.values()), "nobody subscribes there for others"


def test_a_task_is_unknown_to_another_backend() -> None:
    ledger, client = holding(Server(), None, TASK)
    after = Server()
    ledger.adopt({"b": after}, ())
    assert (after.wanted(), client.told, ledger.held(client)) == ([], [], [])


async def test_a_backend_that_is_gone_cannot_be_subscribed_at() -> None:
    ledger = Ledger({})
    with pytest.raises(Unavailable, match="not configured any more"):
        await ledger.source("b", None)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await ledger.add(Source("b", None), ONE, Client())
