"""Who works now: as many detectors side by side as cores can carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_S = 10.0
"""What works for so long no longer counts: it may hang, and must not keep the others waiting."""


class Turns:
    """At most `count` at once: more than cores would take each other's cache and hold their activations all at once."""

    def __init__(self, count: int, patience_s: float = PATIENCE_S) -> None:
        self._free = asyncio.Semaphore(max(count, 1))
        self._patience_s = patience_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for one; it is given back at the end, or when it has taken too long."""
        await self._free.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._free.release()

        late = asyncio.get_running_loop().call_later(self._patience_s, give_back)
        try:
            yield
        finally:
            late.cancel()
            give_back()
