"""The table of clients. Rule: it is data; each line of it says where, what and how on every system."""

import pytest

from tests.clients.shapes import SHAPES
from vmcp.clients import edit
from vmcp.clients.entry import draft
from vmcp.clients.secrets import Around, Lift, Vault
from vmcp.clients.table import BY_NAME, CLIENTS, Client, entry, official, places

URL = "http://127.0.0.1:4483/mcp"
HOME = "/home/me"


def test_every_client_has_a_shape_that_is_imported() -> None:
    assert set(BY_NAME) == {shape.client for shape in SHAPES if shape.client}


@pytest.mark.parametrize(
    ("name", "platform", "environ", "found"),
    [
        ("claude-code", "linux", {}, ["/home/me/.claude.json"]),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, ["/c/.claude.json"]),
        ("claude-desktop", "darwin", {}, ["/home/me/Library/Application Support/Claude/claude_desktop_config.json"]),
        ("claude-desktop", "win32", {"APPDATA": "R"}, ["R/Claude/claude_desktop_config.json"]),
        ("codex", "linux", {"CODEX_HOME": "/x"}, ["/x/config.toml"]),
        ("codex", "win32", {}, ["/home/me/.codex/config.toml"]),
        ("zed", "linux", {"XDG_CONFIG_HOME": "/xdg"}, ["/xdg/zed/settings.json"]),
        ("goose", "win32", {"APPDATA": "R"}, ["R/Block/goose/config/config.yaml"]),
        ("vscode", "darwin", {}, ["/home/me/Library/Application Support/Code/User/mcp.json"]),
        ("vscode", "freebsd", {}, ["/home/me/.config/Code/User/mcp.json"]),
    ],
)
def test_a_file_is_where_the_client_looks(name: str, platform: str, environ: dict[str, str], found: list[str]) -> None:
    assert places(BY_NAME[name], platform, environ, HOME) == found


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_an_entry_comes_out_of_the_client_as_what_went_in(client: Client) -> None:
    """What we write is understood as the importer understands this client."""
    lift = Lift(Vault(), "VMCP", Around(HOME, "/proj"), bare=True)
    if client.remote is not None:
        token = "T" if client.token else None
        made = draft("vmcp", entry(client, URL, token, None), "", lift, client.name)
        assert made.settings["url"] == URL
        assert made.settings.get("transport") is None
        assert made.settings.get("auth") == ({"type": "bearer", "bearer": {"token": {"env": "T"}}} if token else None)
    start = entry(client, "", None, ("/bin/server", "stdio", "--url", URL))
    assert draft("vmcp", start, "", lift, client.name).settings["command"] == ["/bin/server", "stdio", "--url", URL]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_an_entry_can_be_written_in_the_format_of_the_client(client: Client) -> None:
    path = (*client.root, "vmcp")
    made = entry(client, URL, None, None if client.remote else ("/bin/vmcp", "stdio"))
    assert edit.at(edit.read("", edit.put("", client.form, path, made), client.form), path) == made


def test_nothing_is_left_to_be_put_in() -> None:
    for client in CLIENTS:
        start = ("p", "a") if client.remote is None else None
        told = f"{entry(client, URL, 'T', start)} {official(client, URL, 'T')}"
        assert "{url}" not in told
        assert "{token}" not in told
        assert "{program}" not in told


def test_the_official_command_is_the_one_that_works() -> None:
    """Name and URL before the options, which take all that follows."""
    assert official(BY_NAME["claude-code"], URL, "VMCP_TOKEN") == [
        "claude", "mcp", "add", "--transport", "http", "vmcp", URL, "--scope", "user", "--header",
        "Authorization: Bearer ${VMCP_TOKEN}",
    ]  # fmt: skip
    assert official(BY_NAME["cursor"], URL, None) == []
