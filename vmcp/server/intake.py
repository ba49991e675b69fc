"""The body of a POST: of the right type, within its limits of size and time.

The rule: nothing is parsed before it is whole and within the limits, and what all clients together make us hold is bounded too.
"""

import asyncio
from collections.abc import Mapping

from vmcp.config.model import Limits
from vmcp.server.asgi import CLOSE, Receive, Refused

_TYPE = "application/json"


class Intake:
    """Reads bodies. Mutable: it counts what is held in pieces."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._longest = limits.body_timeout + limits.body_bytes / max(1, limits.body_rate)
        """Seconds; the listener has less patience with a body of which little has come."""
        self._held = 0

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body. Raises ``Refused``."""
        _check_type(headers)
        first = await receive()
        if first["type"] != "http.request":
            raise Refused(400, "the client went away")
        body: bytes = first["body"]
        if first.get("more_body"):
            body = await self._rest(body, receive)
        if len(body) > self._limits.body_bytes:
            raise self._too_large()
        return body

    async def _rest(self, body: bytes, receive: Receive) -> bytes:
        parts, size = [body], len(body)
        self._held += size
        try:
            self._check_room(size)
            async with asyncio.timeout(self._longest):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "the client went away")
                    part = message["body"]
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                    self._check_room(size)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body took longer than {self._longest:g} s", CLOSE) from None
        finally:
            self._held -= size
        return b"".join(parts)

    def _check_room(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise self._too_large()
        if self._held > self._limits.in_flight_body_bytes:
            raise Refused(503, "too many request bodies at once; try again", [(b"retry-after", b"1"), *CLOSE])

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._limits.body_bytes} bytes (server.limits.bodyBytes)", CLOSE)


def _check_type(headers: Mapping[str, str]) -> None:
    given = headers.get("content-type", "")
    if given != _TYPE:
        media, _, params = given.partition(";")
        if media.strip().lower() != _TYPE:
            raise Refused(415, f"Content-Type must be {_TYPE}")
        for param in params.lower().split(";"):
            key, _, value = param.partition("=")
            if key.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
                raise Refused(415, "the charset must be utf-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a compressed body is not accepted")
