"""What servers that make tasks say. Rule: the inner id is like nothing else, so that it can be looked for everywhere."""

from tests.server.peers import Json
from vmcp.protocol import envelope
from vmcp.protocol.extensions import TASKS

INNER = "inner-task-id-1"
DECLARED: Json = {envelope.CAPABILITIES: {"extensions": {TASKS: {}}}}
OFFERS: dict[bool, Json] = {
    True: {"tools": {}, "extensions": {TASKS: {}}},
    False: {"tools": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}},
}
STATE: Json = {"taskId": INNER, "status": "working", "createdAt": "2026-01-01T00:00:00Z"}
