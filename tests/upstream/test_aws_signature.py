"""Signatures against the test suite that AWS publishes for Signature Version 4, byte for byte."""

import pytest

from vmcp.upstream.credentials.aws_signature import Keys, Place, Scope, place, signature

# Of the suite: the keys, the day and the scope of every case.
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")
SCOPE = Scope("us-east-1", "service")
MOMENT = "20150830T123600Z"
ALWAYS = {"host": "example.amazonaws.com", "x-amz-date": MOMENT}
FORM = {"content-type": "application/x-www-form-urlencoded"}
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/"
    "kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZ"
    "bqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

SUITE = [
    ("get-vanilla", "GET", "/", {}, b"", VANILLA),
    ("get-slash", "GET", "//", {}, b"", VANILLA),
    ("get-slash-dot-slash", "GET", "/./", {}, b"", VANILLA),
    ("get-relative", "GET", "/example/..", {}, b"", VANILLA),
    ("get-relative-relative", "GET", "/example1/example2/../..", {}, b"", VANILLA),
    ("get-slashes", "GET", "//example//", {}, b"", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    ("get-slash-pointless-dot", "GET", "/./example", {}, b"", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
    ("get-space", "GET", "/example space/", {}, b"", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    ("get-unreserved", "GET", f"/{UNRESERVED}", {}, b"", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
    ("get-utf8", "GET", "/\u1234", {}, b"",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("get-vanilla-utf8-query", "GET", "/?\u1234=bar", {}, b"",
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    ("get-vanilla-empty-query-key", "GET", "/?Param1=value1", {}, b"",
     "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
    ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", {}, b"",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-vanilla-query-unreserved", "GET", f"/?{UNRESERVED}={UNRESERVED}", {}, b"",
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
    ("get-header-value-trim", "GET", "/", {"my-header1": " value1", "my-header2": ' "a   b   c"'}, b"",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    ("post-vanilla", "POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-header-key-sort", "POST", "/", {"my-header1": "value1"}, b"",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("post-x-www-form-urlencoded", "POST", "/", FORM, b"Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("post-sts-header-before", "POST", "/", {"x-amz-security-token": TOKEN}, b"",
     "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "target", "headers", "body", "expected"), SUITE, ids=[c[0] for c in SUITE])
def test_the_published_signatures_come_out(
    name: str, method: str, target: str, headers: dict[str, str], body: bytes, expected: str
) -> None:
    made = signature(KEYS, SCOPE, MOMENT, method, place(target), ALWAYS | headers, body)
    names = ";".join(sorted(ALWAYS | headers))
    span = "20150830/us-east-1/service/aws4_request"
    assert made == f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{span}, SignedHeaders={names}, Signature={expected}"


def test_what_is_encoded_already_is_encoded_once_more_and_a_query_is_sorted() -> None:
    assert place("/a%20b/c") == Place("/a%2520b/c", "")
    assert place("/x?b=%2F&a=2&a=1&&c") == Place("/x", "a=1&a=2&b=%2F&c=")
    assert place("/../..") == Place("/", "")


def test_nothing_of_the_request_can_be_another() -> None:
    def of(
        scope: Scope = SCOPE, moment: str = MOMENT, method: str = "POST", target: str = "/mcp", body: bytes = b"{}"
    ) -> str:
        return signature(KEYS, scope, moment, method, place(target), ALWAYS, body).rpartition("=")[2]

    others = [
        of(Scope("us-east-2", "service")),
        of(Scope("us-east-1", "other")),
        of(moment="20150831T123600Z"),
        of(method="GET"),
        of(target="/mcp/x"),
        of(target="/mcp?x"),
        of(body=b"{ }"),
        of(),
    ]
    assert len(set(others)) == len(others)
    assert of() == of()


def test_keys_do_not_tell_their_secrets() -> None:
    assert repr(Keys("AKID", "hidden", "hidden")) == "Keys(access='AKID')"
