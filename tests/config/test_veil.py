"""What of a line may be seen: keys and harmless values; never a secret, also not in a file that cannot be read."""

import pytest

from vmcp.config.veil import Veil

FILE = """\
name: acme # hush
groups:
  code:
    backends:
      a:
        url: https://me:hush@a.example.com/mcp?key=hush&x=1
        headers: {X-A: hush, "X-B": 'hush', X-C: {env: NAME}}
        protocol: "2025-11-25"
      b:
        command: [run, hush]
        env:
          KEY: |
            hush: hush
            hush
          OTHER: ${VAR:-hush}
      c: hush
nonsense: {hush: hush}
metadata: {note: "Bearer hush-hush", key: ghp_hush00000000, more: [hush]}
server: {host: "127.0.0.1",
  port: 4483}
"""


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (1, "name: acme # ****"),
        (3, "  code:"),
        (6, "        url: https://*******@a.example.com/mcp?********&x=1".replace("x=1", "***")),
        (7, "        headers: {X-A: ****, \"X-B\": '****', X-C: {env: NAME}}"),
        (8, '        protocol: "2025-11-25"'),
        (10, "        command: [***, ****]"),
        (12, "          KEY: |"),
        (14, "            ****"),
        (15, "          OTHER: ${VAR:-****}"),
        (16, "      c: ****"),
        (17, "nonsense: {****: ****}"),
        (18, 'metadata: {note: "Bearer *********", key: ****************, more: [****]}'),
        (19, 'server: {host: "127.0.0.1",'),
        (20, "  port: 4483}"),
        (99, ""),
        (0, ""),
    ],
)
def test_a_line_of_a_readable_file(number: int, shown: str) -> None:
    assert Veil("f", FILE).line(number) == shown


def test_a_file_that_cannot_be_read_shows_keys_alone() -> None:
    veil = Veil("f", "name: acme\nheaders: {X-A: hush}\n- \"a b\": hush\n'c': hush\nhush hush\nx: [\n")
    lines = [veil.line(number) for number in range(1, 7)]
    assert lines == ["name: ****", "headers: {*-*: ****}", '- "* *": ****', "'c': ****", "**** ****", "x: ["]


def test_an_endless_line_is_not_shown() -> None:
    assert Veil("f", "# " + "x" * 1998).line(1) != ""
    assert Veil("f", "# " + "x" * 1999).line(1) == ""


def test_columns_stay_where_they_are() -> None:
    veil = Veil("f", FILE)
    lines = FILE.split("\n")
    assert all(len(veil.line(number)) == len(line) for number, line in enumerate(lines, 1))


def test_control_characters_are_not_printed() -> None:
    veil = Veil("f", "\ufeffname: 'a\u202eb\u200bc'\r\ngroupRef: 'x\ty'\r")
    assert veil.line(1) == "name: 'a?b?c'"
    assert veil.line(2) == "groupRef: 'x\ty'"


def test_values_in_several_lines_are_shown_where_they_are_harmless() -> None:
    veil = Veil("f", "groups:\n  a:\n    backends: {}\n    description: |\n      one\n      two\nname: x\n")
    assert [veil.line(number) for number in (5, 6)] == ["      one", "      two"]
