"""What one process at a time does with a secret that several have: to renew it, to end it, to register for it.

The rule: whoever comes second waits until the first one is done, and then looks at what there is now before he does anything.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from vmcp.errors import Code, Unavailable
from vmcp.state.vault import Claim, Owner, Vault, VaultError

PATIENCE: Final = 20.0
"""Seconds that one waits; more than any authorization server is given."""
_NAP: Final = 0.05


@asynccontextmanager
async def alone(vault: Vault, backend: str, owner: Owner) -> AsyncIterator[None]:
    """While nobody else does this with what is kept for ``owner``. Raises ``Unavailable``."""
    try:
        claim = await _claimed(vault, owner)
    except TimeoutError:
        raise Unavailable(backend, "another process keeps its login to itself", Code.GATEWAY_ERROR) from None
    except VaultError as error:
        raise Unavailable(backend, str(error), Code.CONFIGURATION_ERROR) from None
    try:
        yield
    finally:
        claim.end()


async def _claimed(vault: Vault, owner: Owner) -> Claim:
    async with asyncio.timeout(PATIENCE):
        while True:
            claim = await asyncio.to_thread(vault.claim, owner)
            if claim is not None:
                return claim
            await asyncio.sleep(_NAP)
