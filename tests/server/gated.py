"""An MCP server on standard streams whose tool ``wait`` answers once a file is there: ``python gated.py``.

Rule: standard library only; a test knows when a call is in its hands: it makes the file ``PATH.began``.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_TOOLS: Json = {"tools": [{"name": "wait", "inputSchema": {"type": "object"}}]}
_WHO: Json = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "g", "version": "1"},
}
_one = threading.Lock()


def say(number: object, result: Json) -> None:
    with _one:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}) + "\n")
        sys.stdout.flush()


def wait(number: object, path: str) -> None:
    if path:
        Path(f"{path}.began").touch()
        while not Path(path).exists():
            time.sleep(0.01)
    say(number, {"content": [{"type": "text", "text": "done"}]})


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if number is None:
            continue
        if method == "tools/call":
            path = message["params"].get("arguments", {}).get("path", "")
            threading.Thread(target=wait, args=(number, path), daemon=True).start()
        else:
            say(number, {"initialize": _WHO, "tools/list": _TOOLS}.get(method, {}))


if __name__ == "__main__":
    main()
