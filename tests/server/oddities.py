"""What clients, proxies and attackers send that is not quite HTTP: the cases of the golden table.

Rule: each is the whole of what is sent before a good request that follows on the same connection, so a case that the parser reads
in another way than we think swallows or multiplies that one, and shows.
"""

from collections.abc import Iterator

CASES: dict[str, bytes] = {}
END = b"\r\n\r\n"


def _case(name: str, sent: bytes) -> None:
    assert name not in CASES, name
    CASES[name] = sent


def _line(name: str, line: bytes) -> None:
    _case(f"line: {name}", line + b"\r\nHost: h" + END)


def _field(name: str, field: bytes) -> None:
    _case(f"field: {name}", b"GET /x HTTP/1.1\r\nHost: h\r\n" + field + END)


def _length(name: str, value: bytes, body: bytes = b"") -> None:
    _case(f"length: {name}", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length:" + value + END + body)


def _coding(name: str, fields: bytes, body: bytes = b"2\r\nab\r\n0\r\n\r\n", version: bytes = b"1.1") -> None:
    _case(f"coding: {name}", b"POST /x HTTP/" + version + b"\r\nHost: h\r\n" + fields + END + body)


def _chunk(name: str, body: bytes) -> None:
    _case(f"chunk: {name}", b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked" + END + body)


def _gets(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count))


_line("plain", b"GET /x HTTP/1.1")
_line("HEAD", b"HEAD /x HTTP/1.1")
_line("OPTIONS", b"OPTIONS /x HTTP/1.1")
_line("TRACE", b"TRACE /x HTTP/1.1")
_line("a method in small letters", b"get /x HTTP/1.1")
_line("a method that nobody has", b"BREW /x HTTP/1.1")
_line("CONNECT", b"CONNECT h:443 HTTP/1.1")
_line("empty lines before", b"\r\n\r\nGET /x HTTP/1.1")
_line("a line feed before", b"\nGET /x HTTP/1.1")
_line("a blank before", b" GET /x HTTP/1.1")
_line("two blanks", b"GET  /x  HTTP/1.1")
_line("a tab", b"GET\t/x HTTP/1.1")
_line("a blank behind", b"GET /x HTTP/1.1 ")
_line("no version", b"GET /x")
_line("version 0.9", b"GET /x HTTP/0.9")
_line("version 1.0", b"GET /x HTTP/1.0")
_line("version 1.2", b"GET /x HTTP/1.2")
_line("version 2.0", b"GET /x HTTP/2.0")
_line("version 11.1", b"GET /x HTTP/11.1")
_line("a version in small letters", b"GET /x http/1.1")
_line("another protocol", b"GET /x ICE/1.0")
_line("absolute form", b"GET http://evil/x HTTP/1.1")
_line("asterisk", b"OPTIONS * HTTP/1.1")
_line("no slash", b"GET x HTTP/1.1")
_line("two slashes", b"GET //evil/x HTTP/1.1")
_line("dots", b"GET /../x HTTP/1.1")
_line("an encoded NUL", b"GET /%00 HTTP/1.1")
_line("a broken escape", b"GET /%zz HTTP/1.1")
_line("a fragment", b"GET /x#y HTTP/1.1")
_line("a question mark", b"GET /x?a=b?c HTTP/1.1")
_line("bytes that are no ASCII", b"GET /\xff HTTP/1.1")
_line("a NUL", b"GET /\0 HTTP/1.1")
_line("a carriage return", b"GET /\rx HTTP/1.1")
_line("a path of 16 KiB", b"GET /" + b"x" * (16383) + b" HTTP/1.1")
_line("a path too long", b"GET /" + b"x" * (16384) + b" HTTP/1.1")
_line("a path beyond all limits", b"GET /" + b"x" * 40_000 + b" HTTP/1.1")
_case("line: line feeds alone", b"GET /x HTTP/1.1\nHost: h\n\n")
_case("line: carriage returns alone", b"GET /x HTTP/1.1\rHost: h\r\r")
_case("line: TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
_case("line: preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_case("line: SSH", b"SSH-2.0-OpenSSH_9.9\r\n")
_case("line: a NUL alone", b"\0")

_case("host: none", b"GET /x HTTP/1.1\r\nX: y" + END)
_case("host: empty", b"GET /x HTTP/1.1\r\nHost:" + END)
_case("host: two", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b" + END)
_case("host: two alike", b"GET /x HTTP/1.1\r\nHost: h\r\nhost: h" + END)
_case("host: none in 1.0", b"GET /x HTTP/1.0" + END)

_field("a blank before the colon", b"X : y")
_field("a tab before the colon", b"X\t: y")
_field("no name", b": y")
_field("no colon", b"X y")
_field("a blank in the name", b"X Y: z")
_field("a NUL in the name", b"X\0Y: z")
_field("an underscore", b"Content_Length: 5")
_field("a name that is no ASCII", b"X\xff: y")
_field("a blank line of blanks", b" ")
_field("folded with a blank", b"X: a\r\n b")
_field("folded with a tab", b"X: a\r\n\tb")
_field("a first field that is folded", b" X: a")
_field("a NUL in the value", b"X: a\0b")
_field("a carriage return in the value", b"X: a\rb")
_field("a line feed in the value", b"X: a\nY: b")
_field("DEL in the value", b"X: a\x7fb")
_field("bell in the value", b"X: a\x07b")
_field("a value that is no ASCII", b"X: \xff\xfe")
_field("blanks around", b"X:   y   ")
_field("an empty value", b"X:")
_field("two tokens", b"Authorization: a\r\nAUTHORIZATION: b")
_field("two types", b"Content-Type: a/b\r\nContent-Type: a/b")
_field("two origins", b"Origin: http://a\r\nOrigin: http://b")
_field("two sessions", b"Mcp-Session-Id: a\r\nMcp-Session-Id: b")
_field("two revisions", b"MCP-Protocol-Version: a\r\nMCP-Protocol-Version: b")
_field("two methods", b"Mcp-Method: a\r\nMcp-Method: b")
_field("two names", b"Mcp-Name: a\r\nMcp-Name: b")
_field("two parameters", b"Mcp-Param-A: a\r\nmcp-param-a: b")
_field("two cookies", b"Cookie: a\r\nCookie: b")
_field("close", b"Connection: close")
_field("close and keep", b"Connection: close, keep-alive")
_field("as many as may be", b"\r\n".join(b"X-%d: y" % number for number in range(99)))
_field("one too many", b"\r\n".join(b"X-%d: y" % number for number in range(100)))
_field("a large one", b"X: " + b"y" * 31_000)
_field("too large a one", b"X: " + b"y" * 33_000)
_field("too large a name", b"x" * 33_000 + b": y")
_field("too large together", b"\r\n".join(b"X-%d: " % number + b"y" * 4000 for number in range(9)))
_field("an offer of h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB")
_field("an offer without a word", b"Connection: Upgrade")
_field("an offer of a WebSocket where there is none", b"Connection: Upgrade\r\nUpgrade: websocket")
_field("an offer that is not connected", b"Upgrade: websocket")
_field("an expectation that is none", b"Expect: more")

_length("of what follows", b" 2", b"ab")
_length("without a blank", b"2", b"ab")
_length("with blanks", b"  2  ", b"ab")
_length("with zeros", b" 0002", b"ab")
_length("nothing", b" 0")
_length("empty", b"")
_length("a plus", b" +2", b"ab")
_length("a minus", b" -1")
_length("hexadecimal", b" 0x2", b"ab")
_length("a fraction", b" 2.0", b"ab")
_length("a list", b" 2, 2", b"ab")
_length("a list of two", b" 2, 3", b"ab")
_length("a semicolon", b" 2;", b"ab")
_length("a blank within", b" 1 2", b"ab")
_length("2 to the 64th", b" 18446744073709551616", b"ab")
_length("a hundred digits", b" " + b"9" * 100, b"ab")
_length("twice", b" 2\r\nContent-Length: 2", b"ab")
_length("twice, not alike", b" 2\r\nContent-Length: 3", b"abc")
_length("that hides a request", b" 37", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n12")
_length("too short by a request", b" 0", b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
_case("length: in a GET", b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2" + END + b"ab")
_case("length: none in a POST", b"POST /x HTTP/1.1\r\nHost: h" + END)
_case("length: awaited", b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2" + END + b"ab")

_coding("chunks", b"Transfer-Encoding: chunked")
_coding("in capitals", b"Transfer-Encoding: CHUNKED")
_coding("with blanks", b"Transfer-Encoding:  chunked ")
_coding("a tab behind", b"Transfer-Encoding: chunked\t")
_coding("and a length", b"Transfer-Encoding: chunked\r\nContent-Length: 12")
_coding("behind a length", b"Content-Length: 12\r\nTransfer-Encoding: chunked")
_coding("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")
_coding("a list of two", b"Transfer-Encoding: chunked, chunked")
_coding("gzip first", b"Transfer-Encoding: gzip, chunked")
_coding("gzip last", b"Transfer-Encoding: chunked, gzip")
_coding("gzip", b"Transfer-Encoding: gzip")
_coding("identity", b"Transfer-Encoding: identity")
_coding("identity first", b"Transfer-Encoding: identity, chunked")
_coding("empty", b"Transfer-Encoding:")
_coding("nearly", b"Transfer-Encoding: xchunked")
_coding("with a parameter", b"Transfer-Encoding: chunked;q=1")
_coding("in quotes", b'Transfer-Encoding: "chunked"')
_coding("with a blank before the colon", b"Transfer-Encoding : chunked")
_coding("with a vertical tab", b"Transfer-Encoding: \x0bchunked")
_coding("folded", b"Transfer-Encoding:\r\n chunked")
_coding("in 1.0", b"Transfer-Encoding: chunked", version=b"1.0")

_chunk("in capitals", b"A\r\n0123456789\r\n0\r\n\r\n")
_chunk("zeros before", b"00000002\r\nab\r\n0\r\n\r\n")
_chunk("many zeros before", b"0" * 30 + b"2\r\nab\r\n0\r\n\r\n")
_chunk("0x", b"0x2\r\nab\r\n0\r\n\r\n")
_chunk("a plus", b"+2\r\nab\r\n0\r\n\r\n")
_chunk("a minus", b"-2\r\nab\r\n0\r\n\r\n")
_chunk("a blank before", b" 2\r\nab\r\n0\r\n\r\n")
_chunk("a blank behind", b"2 \r\nab\r\n0\r\n\r\n")
_chunk("no size", b"\r\nab\r\n0\r\n\r\n")
_chunk("a size beyond 64 bits", b"10000000000000002\r\nab\r\n0\r\n\r\n")
_chunk("an extension", b"2;a=b\r\nab\r\n0\r\n\r\n")
_chunk("an extension in quotes", b'2;a="b;c"\r\nab\r\n0\r\n\r\n')
_chunk("an extension with a line feed", b"2;a\nb\r\nab\r\n0\r\n\r\n")
_chunk("an extension with a carriage return", b"2;a\rb\r\nab\r\n0\r\n\r\n")
_chunk("a size that ends with a line feed", b"2\nab\r\n0\r\n\r\n")
_chunk("data that end with a line feed", b"2\r\nab\n0\r\n\r\n")
_chunk("data that are too long", b"2\r\nabc\r\n0\r\n\r\n")
_chunk("data that are too short", b"4\r\nab\r\n0\r\n\r\n\r\n")
_chunk("an end with line feeds", b"2\r\nab\r\n0\n\n")
_chunk("a trailer", b"2\r\nab\r\n0\r\nX: y\r\n\r\n")
_chunk("a token in a trailer", b"2\r\nab\r\n0\r\nAuthorization: Bearer forged\r\n\r\n")
_chunk("a length in a trailer", b"2\r\nab\r\n0\r\nContent-Length: 40\r\n\r\n")
_chunk("a coding in a trailer", b"2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")
_chunk("a host in a trailer", b"2\r\nab\r\n0\r\nHost: evil\r\n\r\n")
_chunk("a trailer that is folded", b"2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n")
_chunk("a trailer without a colon", b"2\r\nab\r\n0\r\nX\r\n\r\n")
_chunk("many small ones", b"1\r\na\r\n" * 500 + b"0\r\n\r\n")

_case("line of requests: two", _gets(2))
_case("line of requests: as many as may be", _gets(60))
_case(
    "line of requests: a body among them", b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2" + END + b"ab" + _gets(1)
)
_case("line of requests: a bad one behind", _gets(2) + b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b" + END)
_case("line of requests: no HTTP behind", _gets(2) + b"\x16\x03\x01 \r\n\r\n")
_case("line of requests: a bad body behind", _gets(2) + CASES["chunk: 0x"])
_case("line of requests: the last wants to close", _gets(1) + CASES["field: close"])


def splits(sent: bytes) -> Iterator[list[bytes]]:
    """The ways in which a case is sent: whole, in two, in pieces of some odd sizes, and small ones byte by byte."""
    yield [sent]
    middle = len(sent) // 2
    yield [sent[:middle], sent[middle:]]
    for size in (1, 7) if len(sent) < 200 else (len(sent) // 5 + 1,):
        yield [sent[start : start + size] for start in range(0, len(sent), size)]
