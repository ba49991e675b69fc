"""httptools' parser as the listener needs it.

The rule: an offer of another protocol that is not taken changes nothing about how the request is read.
"""

from collections.abc import Callable
from typing import Protocol

import httptools


class Told(Protocol):
    """Who is called back by the parser (see httptools), and asked about offers."""

    def upgraded(self, rest: bytes) -> bool:
        """Whether the connection was given away; ``rest`` has come behind the request."""

    def replay(self, feed: Callable[[bytes], None]) -> None:
        """Show a fresh parser a head with the same framing."""


class Parser:
    """httptools' parser for a server that takes few offers: after each of them it would take the body for another protocol.

    java.net.http offers h2c with every first request. What follows such a head goes to a fresh parser, which has been shown a
    head with the same framing.
    """

    def __init__(self, listener: Told) -> None:
        self._listener = listener
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self._listener)
        # As uvicorn does: the answer to a request is due although another one follows "Connection: close".
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.get_http_version = self._parser.get_http_version
        self.get_method = self._parser.get_method
        self.should_keep_alive = self._parser.should_keep_alive

    def feed_data(self, data: bytes) -> None:
        """Parse ``data``; calls the listener back."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            if self._listener.upgraded(rest):
                return
            self._renew()
            self._listener.replay(self._parser.feed_data)
            self.feed_data(rest)

    def offers(self) -> bool:
        """Whether the client offers another protocol."""
        return bool(self._parser.should_upgrade())

    def should_upgrade(self) -> bool:
        """Never."""
        return False
