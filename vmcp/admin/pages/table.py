"""Every web page, in the order of the navigation.

The rule: this table is all there is, and the browser tests walk through all of it.

How to add a page. Make a file beside this one (``traffic.py``) with ``PAGES: Final = (Page(...), ...)`` and the functions
``(desk, asked) -> context`` of its pages; put its template into ``templates/``; add ``*traffic.PAGES`` below where it belongs.

What a function returns: a map for the template (it may be async); None is "not found"; ``See(path, notice)`` is 303 to another
page, which every POST answers that does something. ``Wrong("why")`` is shown as 400. ``asked`` has ``name`` (the ``*``),
``query``, ``body`` (the fields of the form; ``x[]`` is a list), ``now`` (the loop's clock) and ``who``. Facts come from
functions that a JSON route uses as well (``vmcp/admin/routes.py``: a ``Way`` for each page), in a file of ``vmcp/admin/`` and
not in here. ``desk.house`` is the running house. Rendering is done in a thread, so context is plain data that nobody changes.

Templates are Jinja, autoescaped, with StrictUndefined; nobody writes ``|safe``. Begin with ``{% extends "frame.html" %}`` and
``{% import "parts.html" as parts with context %}`` and fill ``{% block main %}``, which begins with an ``<h1>``. The frame
gives each template ``page`` (the ``Page``), ``csrf``, ``may.tryIt``, ``may.operate``, ``path`` (of this page, below /ui/),
``query`` (of this request), ``server`` (its name), ``version``. Links are ``{{ link("backends", name) }}`` (steps, each quoted;
keywords become the query), never by hand; ``twin(…)`` is the JSON. What acts is ``<form method="post" action="{{ link(...)
}}">{{ parts.csrf(csrf) }}<button>…``; without that token it is 403.

``parts.html`` has ``badge(state, text)`` (coloured, with a sign and the word; it knows up, healthy, closed, starting, degraded,
half_open, down, open, listed, hidden, quarantined, ok, success, failure, error …; other words are neutral), ``spark(points,
label, unit)`` (an SVG line of numbers, None is a gap), ``search(table_id, label)``, ``copy(text)``, ``empty(text)``,
``fact(label, value)``, ``tile(label, value, hint)``, ``ago(seconds)``. Filters: ``number ms bytes duration clock`` (UNIX time)
``pretty`` (JSON).

The CSP allows neither inline script nor inline style: no ``style=``, no ``on…=``; SVG is sized by attributes and coloured by
classes (``style.css`` has ``--good --warn --bad --ink --dim --line --accent`` and more; rules of a page go to its end, few of
them). Give what tests look for a ``data-testid``. Classes: panel, panel bare (for a table), scroll (around a table), tiles,
halves, facts, row, chip, num, dim, lines (a log), field (a label with an input), lead, tabs, button, main, danger, quiet.

``assets/page.js`` does, for every page: ``<section id="rows" data-live>`` is fetched anew (this page's own URL, ETag/304, every
1.5 s while the tab is visible) and replaced when it differs; ``data-live="/ui/…"`` takes the element of the same id from
another page. Many elements of one address cost one request. ``data-pause="#checkbox"`` beside it stands still while that box is
checked. ``data-filter`` (see ``parts.search``) hides rows of ``<table id=…>`` whose text (or ``data-text``) lacks a word;
``word:text`` looks into the cell with ``data-key="word"``. It is kept over a live refresh and in the hash of the URL.
``data-copy="text"`` or ``data-copy-from="#id"`` on a button copies; ``<form data-confirm="Really?">`` asks first; ``<details
id=…>`` stays open over a refresh; what has ``data-needs-script hidden`` is shown once there is a script. A page may have a
script of its own: ``{% block script %}<script src="{{ asset("try.js") }}" defer></script>{% endblock %}``. Pages are readable
without any of it.
"""

from typing import Final

from vmcp.admin.pages import (
    about,
    attempt,
    audit,
    backends,
    config,
    connect,
    discovery,
    endpoints,
    overview,
    sessions,
    statistics,
    tools,
    traffic,
)
from vmcp.admin.pages.page import Page

SECTIONS: Final[tuple[tuple[str, tuple[Page, ...]], ...]] = (
    ("", (*overview.PAGES, *backends.PAGES, *endpoints.PAGES, *sessions.PAGES)),
    ("Use", (*tools.PAGES, *attempt.PAGES, *connect.PAGES, *discovery.PAGES)),
    ("Watch", (*traffic.PAGES, *statistics.PAGES, *audit.PAGES)),
    ("Know", (*config.PAGES, *about.PAGES)),
)
"""What stands together in the navigation, and under which word."""
PAGES: Final = tuple(page for _, pages in SECTIONS for page in pages)


def found(path: str) -> tuple[list[Page], str]:
    """The pages at a path below ``/ui/``, one for each method, and the (quoted) name in it."""
    steps = path.split("/")
    for page in PAGES:
        pattern = page.path.split("/")
        if len(pattern) == len(steps) and all(
            one == other or (one == "*" and other) for one, other in zip(pattern, steps, strict=True)
        ):
            name = "".join(step for each, step in zip(pattern, steps, strict=True) if each == "*")
            return [each for each in PAGES if each.path == page.path], name
    return [], ""
