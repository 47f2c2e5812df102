"""Work that is cancelled when its client disconnects or breaks the rules."""

import asyncio
from collections.abc import Coroutine
from typing import NoReturn, TypeVar

T = TypeVar("T")


async def unless(
    ending: Coroutine[object, object, NoReturn], work: Coroutine[object, object, T]
) -> T:
    """Return what `work` returns; if `ending` raises first, cancel `work` and raise the same."""
    watching, working = asyncio.ensure_future(ending), asyncio.ensure_future(work)
    try:
        await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else watching.result()
    finally:
        watching.cancel()
        working.cancel()
        # `work` may still use what its caller deletes
        await asyncio.gather(watching, working, return_exceptions=True)
