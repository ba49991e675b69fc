"""What is kept of streams, for how long, and which ids lead back to it.

Rule: what is missing is known to be missing.
"""

import pytest

from vmcp.protocol import sse
from vmcp.server import journal
from vmcp.server.journal import Journal, Shelf, Track


def said(track: Track, place: int = 0) -> list[bytes] | None:
    """The messages that followed a place."""
    events = track.after(place)
    if events is None:
        return None
    return [event.data for _, text in events for event in sse.Parser().feed(text)]


def ids(track: Track) -> list[str]:
    return [event.id.decode() for _, text in track.events for event in sse.Parser().feed(text)]


def filled(shelf: Shelf, *messages: bytes) -> tuple[Journal, Track]:
    found = Journal(shelf)
    track = found.open()
    for message in messages:
        found.add(track, message)
    return found, track


def test_an_id_leads_to_its_place_on_its_stream() -> None:
    found, one = filled(Shelf(), b"1", b"2")
    other = found.open()
    found.add(other, b"3")
    found.add(one, b"4")
    assert said(one) == [b"1", b"2", b"4"]
    for place, id_ in enumerate(ids(one), 1):
        assert found.find(id_) == (one, place)
    assert found.find(ids(other)[0]) == (other, 1)
    assert said(one, 2) == [b"4"]
    assert len({*ids(one), *ids(other)}) == 4


def test_the_first_event_says_only_where_the_stream_begins() -> None:
    found, track = filled(Shelf())
    (event,) = sse.Parser().feed(track.prime())
    assert event.data == b""
    assert found.find(event.id.decode()) == (track, 0)
    assert b"retry: 1000" in track.prime()


def test_an_id_that_is_no_place_leads_nowhere() -> None:
    found, track = filled(Shelf(), b"1")
    name, _, place = ids(track)[0].rpartition("-")
    assert place == "1"
    wrong = ["", "-", "x", name, f"{name}-2", f"{name}--1", f"{name}-01", f"{name}-+1", f"{name}- 1", f"{name}-x"]
    wrong += [f"x{name}-1", f"{name[:-1]}2-1", f"{name}-0x1", f"{name}-1_0", "\xff-1"]
    assert [id_ for id_ in wrong if found.find(id_) is not None] == []
    other, _ = filled(Shelf(), b"1")
    assert other.find(ids(track)[0]) is None, "an id of another session"


def test_the_oldest_events_of_all_streams_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EVENTS", 3)
    found, one = filled(Shelf(), b"1")
    other = found.open()
    for message in (b"2", b"3"):
        found.add(other, message)
    first = ids(one)[0]
    found.add(one, b"4")
    assert said(one) is None
    assert said(one, 1) == [b"4"]
    assert found.find(first) == (one, 1), "who has read it can go on behind it"
    assert found.find(one.id(0).decode()) is None, "who has not, cannot"
    found.add(one, b"5")
    assert said(other) is None
    assert said(other, 1) == [b"3"]


def test_bytes_are_bounded_but_for_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BYTES", 200)
    shelf = Shelf()
    found, track = filled(shelf, b"1", b"x" * 80, b"y" * 80)
    assert said(track) is None
    found.add(track, b"z" * 1000)
    assert said(track, 3) == [b"z" * 1000]
    assert len(track.events) == 1
    found.add(track, b"1")
    assert said(track, 4) == [b"1"]
    assert shelf.size == len(track.events[0][1])


def test_all_together_are_bounded_and_the_longest_untouched_goes_first() -> None:
    shelf = Shelf(400)
    old, old_track = filled(shelf, b"o" * 100)
    _, track = filled(shelf, b"x" * 100)
    old.add(old_track, b"p")
    _, newest = filled(shelf, b"y" * 100)
    assert said(track) is None
    assert said(old_track) == [b"o" * 100, b"p"]
    assert said(newest) == [b"y" * 100]
    assert shelf.size <= 400


def test_what_is_over_is_forgotten_and_its_bytes_are_free() -> None:
    shelf = Shelf()
    found, track = filled(shelf, b"1")
    other = found.open()
    found.add(other, b"2")
    id_ = ids(track)[0]
    found.forget(track)
    assert track.done
    assert found.find(id_) is None
    assert said(other) == [b"2"]
    found.close()
    assert other.done
    assert shelf.size == 0
    assert not shelf._journals
    assert sse.Parser().feed(found.add(other, b"3"))[0].data == b"3", "it can still be said"
    assert said(other) is None
    assert shelf.size == 0


def test_only_so_many_streams_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "TRACKS", 2)
    found, running = filled(Shelf(), b"1")
    ended, standing = found.open(), found.open(standing=True)
    found.finish(ended)
    more = [found.open() for _ in range(2)]
    assert found.find(ended.id(0).decode()) is None
    assert found.find(standing.id(0).decode()) is None
    assert all(found.find(track.id(0).decode()) for track in (running, *more)), "those are still being written"


class Reader:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_a_reader_hears_of_news_and_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "TRACKS", 1)
    found, track = filled(Shelf())
    track.reader = reader = Reader()
    found.add(track, b"1")
    found.finish(track)
    assert reader.woken == 2
    found.open()
    assert found.find(track.id(1).decode()) == (track, 1), "what is being read is not forgotten"
