"""T-CFG-04: every route of the admin listener, and who may use it. Rule: a route that is not in the golden list fails here."""

from pathlib import Path

from vmcp.admin.routes import BEFORE, READERS, WAYS, WHO, found

GOLDEN = Path(__file__).with_name("routes.txt")


def test_the_routes_are_those_of_the_golden_list() -> None:
    lines = [f"{way.method:6} {BEFORE}{way.path:24} {READERS if way.method == 'GET' else WHO}" for way in WAYS]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


def test_what_changes_something_is_no_get() -> None:
    for way in WAYS:
        acting = way.path.split("/")[-1] in ("login", "call", "reload", "drain", "reset", "clear", "level")
        assert (way.method == "GET") is not (acting or way.method == "DELETE"), way


def test_no_route_makes_a_backend_or_tests_a_connection() -> None:
    assert not [way for way in WAYS if way.method in ("PUT", "PATCH")]
    assert {way.path for way in WAYS if way.method == "POST"} == {
        "login",
        "call",
        "reload",
        "drain",
        "backends/*/reset",
        "cache/clear",
        "log/level",
    }


def test_a_name_is_one_step_of_a_path() -> None:
    ways, name = found("/admin/v1/backends/a%2Fb/reset")
    assert ([way.path for way in ways], name) == (["backends/*/reset"], "a%2Fb")
    assert found("/admin/v1/backends/a/b/reset") == ([], "")
    assert found("/v1/status") == ([], "")
