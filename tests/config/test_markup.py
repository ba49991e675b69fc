"""Text within HTML and XML. Rule: it is what the standard library would make of it."""

import html

from vmcp.config.markup import escaped


def test_what_means_something_to_a_reader_of_markup_is_written_in_another_way() -> None:
    text = "".join(map(chr, range(0x250))) + "\U0001f600 &amp; <script>alert('x')</script> \"q\""
    assert escaped(text) == html.escape(text)
