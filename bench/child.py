"""A server over stdio that needs less than it is asked by: every call is answered with the text of its command line.

The one rule: it costs so little that what is measured is who asks.
"""

import os
import re
import sys

FIND = re.compile(rb'"id": ?([0-9]+|"[^"]*")').search
METHOD = re.compile(rb'"method": ?"([^"]*)').search
HELLO = b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"child","version":"1"}}'
TOOLS = b'{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}'


def main() -> None:
    """Answers until nobody asks any more."""
    text = b'{"content":[{"type":"text","text":"%s"}]}' % sys.argv[1].encode()
    told = {b"initialize": HELLO, b"tools/list": TOOLS, b"tools/call": text}
    rest = b""
    while data := os.read(0, 1 << 18):
        *lines, rest = (rest + data).split(b"\n")
        said = b""
        for line in lines:
            asked, method = FIND(line), METHOD(line)
            if asked and method:
                said += b'{"jsonrpc":"2.0","id":%s,"result":%s}\n' % (asked[1], told.get(method[1], b"{}"))
        while said:
            said = said[os.write(1, said) :]


if __name__ == "__main__":
    main()
