"""One request over a connection of its own: the one door to ``httpx``.

The rule: it is loaded (``importlib``) when the first request is made, as it takes 7 MB and 100 ms which most processes need not
pay. Errors name the reason, never the URL's query or a header.
"""

import ssl

import httpx

from vmcp.egress.fetch import Fetched, Job, Unfetched, Unreached
from vmcp.egress.guard import Target

_CONNECT = 5.0
"""Seconds for one address, where there are others."""


async def ask(job: Job, target: Target, address: str, context: ssl.SSLContext | None) -> Fetched:
    """The answer from ``address``; TLS is for the name. Raises ``Unreached`` when another address may do, and ``Unfetched``."""
    try:
        return await _asked(job, target, address, context)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreached(_why(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unfetched(_why(error)) from None


async def _asked(job: Job, target: Target, address: str, context: ssl.SSLContext | None) -> Fetched:
    timeout = httpx.Timeout(job.seconds, connect=min(_CONNECT, job.seconds))
    headers = {**job.headers, "host": target.host_header, "accept-encoding": "identity", "connection": "close"}
    url = httpx.URL(
        scheme=target.scheme, host=address, port=target.port, raw_path=target.path.encode("ascii", "strict")
    )
    extensions = {"sni_hostname": target.host.rstrip(".")} if context is not None else {}
    transport = httpx.AsyncHTTPTransport(verify=context or False, trust_env=False, http2=False, retries=0)
    async with httpx.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=False, timeout=timeout
    ) as client:
        request = httpx.Request(
            job.method,
            url,
            headers=headers,
            content=job.body or None,
            extensions={**extensions, "timeout": timeout.as_dict()},
        )
        response = await client.send(request, stream=True)
        try:
            return Fetched(response.status_code, dict(response.headers), await _body(response, job.max_bytes))
        finally:
            await response.aclose()


async def _body(response: httpx.Response, most: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unfetched("it answered compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise Unfetched(f"its answer is larger than {most} bytes")
    return bytes(body)


def _why(error: Exception) -> str:
    """Why there was no answer, in words that name no URL: those of the library may."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its TLS certificate is not trusted"
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "the connection failed"
    return "it broke the connection or answered with no HTTP"
