"""Knowing when another process has ended, without being its parent.

Every process of a driver-owned instance watches its owner this way and ends with it, also with one that was killed.
At the top of the package because programs need it that do not need the rest of it.
"""

from __future__ import annotations

import asyncio
import os

PROCESSES = "processes"
"""The file in an instance's directory that says what the controller has started: ids of processes, one per line."""

_POLL_S = 0.2


async def process_ended(pid: int) -> None:
    """Returns when the process has ended; at once if there is none.

    On Linux by a pidfd: no polling, and no confusion with a later process of the same id. Elsewhere the process is
    looked for every 0.2 s. A process that has ended counts as ended before its parent reaps it on Linux, after it
    elsewhere. Any process may be watched, of whichever parent. Cancelling leaves nothing behind.
    """
    if not hasattr(os, "pidfd_open"):
        while _exists(pid):  # noqa: ASYNC110 - nothing here tells of another process
            await asyncio.sleep(_POLL_S)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    try:
        loop.add_reader(descriptor, _settle, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
