"""``vmcp serve`` and its files: what is written there takes effect, and what the command line says stays.

Rule: a real process; one waits for what it says.
"""

import signal
from pathlib import Path

from tests.cli.processes import serving

CONFIG = (
    "name: house\n"
    "groups: {{{group}: {{backends: {{a: {{url: http://127.0.0.1:1/mcp}}}}}}}}\n"
    "operational: {{logLevel: {level}}}\n"
)


def test_a_file_that_is_saved_takes_effect(tmp_path: Path) -> None:
    path = tmp_path / "vmcp.yaml"
    path.write_text(CONFIG.format(group="one", level="info"))
    with serving("--config", str(path), "--log-format", "json") as process:
        process.until('"msg":"ready"')
        port = process.port()
        path.write_text(CONFIG.format(group="two", level="debug"))
        process.until('"msg":"configuration reloaded","cause":"file"')
        process.signal(signal.SIGHUP)
        process.until('"level":"debug","logger":"vmcp.reload","msg":"configuration unchanged","cause":"signal"')
        path.unlink()
        process.until('"msg":"configuration rejected; the one before goes on","cause":"file","why":"no such file')
        assert process.port() == port
        assert '"/two/mcp"' in process.text
        assert "after a restart" not in process.text, "the port is the command line's"
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_signals_make_the_log_say_more_and_less(tmp_path: Path) -> None:
    path = tmp_path / "vmcp.yaml"
    path.write_text(CONFIG.format(group="one", level="info"))
    with serving("--config", str(path), "--no-watch", "--log-format", "json") as process:
        process.until('"msg":"ready"')
        process.signal(signal.SIGUSR1)
        process.until('"msg":"log level changed","to":"debug"')
        process.signal(signal.SIGUSR2)
        process.until('"msg":"log level changed","to":"info"')
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_what_is_not_watched_waits_for_a_signal_and_the_command_line_counts_more(tmp_path: Path) -> None:
    path = tmp_path / "vmcp.yaml"
    path.write_text(CONFIG.format(group="one", level="info"))
    with serving("--config", str(path), "--no-watch", "--log-level", "info", "--log-format", "json") as process:
        process.until('"msg":"ready"')
        path.write_text(CONFIG.format(group="two", level="debug") + "server: {port: 5000}\n")
        process.signal(signal.SIGHUP)
        process.until('"msg":"configuration reloaded","cause":"signal"')
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert '"level":"debug"' not in process.text
        assert '"cause":"file"' not in process.text
