"""A server with one of everything, in any revision. Rule: it answers with what it was asked."""

import json

from tests.server.peers import Asked, Json, Notify, Server, said, text, tool
from vmcp.protocol.revisions import MODERN, Revision

ALL = list(Revision)
ERAS = [MODERN, Revision.V2025_11_25]


def complete(revision: Revision) -> Json:
    return {"resultType": "complete"} if revision.modern else {}


def speaking(revision: Revision) -> Server:
    """A server with one of everything, which says what it was asked."""

    async def script(asked: Asked, notify: Notify) -> bytes:
        first = complete(revision)
        words = f"{asked.method} {asked.name} {json.dumps(asked.params.get('arguments'))}"
        if asked.method == "prompts/get":
            content = {"type": "text", "text": words}
            return text({**first, "messages": [{"role": "user", "content": content}]})
        if asked.method == "resources/read":
            cached = {"ttlMs": 5, "cacheScope": "public"} if revision.modern else {}
            return text({**first, **cached, "contents": [{"uri": asked.name, "text": words}]})
        if asked.method == "completion/complete":
            return text({**first, "completion": {"values": [asked.params["argument"]["value"] + "!"]}})
        return said(words, revision)

    return Server(
        revision,
        tools=[tool("t")],
        prompts=[{"name": "p"}],
        resources=[{"name": "r", "uri": "r://one"}],
        templates=[{"name": "x", "uriTemplate": "x://{id}"}],
        capabilities={"tools": {}, "prompts": {}, "resources": {}, "completions": {}},
        script=script,
    )
