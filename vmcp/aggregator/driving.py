"""A tool that runs only as a task of 2025-11-25, for clients who know no such tasks: the task is made, and waited for.

The rule: the client sees a call like any other, and the backend a task like any other; whoever leaves has it cancelled.
"""

import asyncio
from typing import Final

import msgspec

from vmcp.aggregator.rounds import Answerer
from vmcp.call import Call, Complete, refine
from vmcp.config.model import BackendSpec
from vmcp.errors import Code, McpError, Overdue
from vmcp.protocol import tasks
from vmcp.protocol.revisions import Revision
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker, Outgoing

GOODBYE: Final = 5.0
"""Seconds for a backend to hear that a task is not wanted any more."""


class Driven:
    """A backend whose tool calls are tasks. See ``Answerer``."""

    def __init__(self, backend: Answerer, nest: Nest) -> None:
        self.spec: BackendSpec = backend.spec
        self._backend = backend
        self._nest = nest

    def speaks(self, call: Call) -> Revision | None:
        """See ``Answerer``."""
        return self._backend.speaks(call)

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """Make the task, and give its result. Raises ``McpError``."""
        made = await self._backend.send(call, refine(outgoing, params={**outgoing.params, "task": {}}), asker)
        inner = tasks.created(made.result, made.revision)
        if inner is None:
            return made
        try:
            told = await self._verb(call, "tasks/result", inner, asker, outgoing.name)
        except (asyncio.CancelledError, Overdue):
            self._nest.start(self._cancel(call, inner), "cancel task")
            raise
        try:
            return Complete(tasks.unrelated(told.result), told.revision)
        except msgspec.MsgspecError as error:
            why = "the backend answered with a malformed result"
            raise McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.BACKEND_ERROR) from error

    async def _verb(
        self, call: Call, method: str, inner: str, asker: Asker | None, tool: str | None = None
    ) -> Complete:
        outgoing = Outgoing({"taskId": inner}, inner, tool=tool)
        return await self._backend.send(refine(call, method=method), outgoing, asker)

    async def _cancel(self, call: Call, inner: str) -> None:
        deadline = asyncio.get_running_loop().time() + GOODBYE
        try:
            await self._verb(refine(call, deadline=deadline, meta={}), "tasks/cancel", inner, None)
        except McpError:
            return
