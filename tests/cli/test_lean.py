"""What ``vmcp serve`` does not load before it is needed: megabytes that most never use."""

import subprocess
import sys

HEAVY = (
    "httpx",
    "rich",
    "pygments",
    "jose",
    "cryptography",
    "cedarpy",
    "jinja2",
    "vmcp.admin.routes",
    "vmcp.state.disk",
)


def test_serving_loads_nothing_that_only_some_need() -> None:
    code = (
        "import sys, vmcp.server.runtime, vmcp.cli.serve\n"
        f"print([name for name in sys.modules if name in {HEAVY!r} or name.split('.')[0] in {HEAVY!r}])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
