import asyncio
import os
import subprocess
import sys

import pytest

from fairlead import lifetime


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("pidfd", [True, False])
async def test_returns_when_the_process_ends(child, pidfd, monkeypatch):
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    task = asyncio.create_task(lifetime.process_ended(child.pid))
    await asyncio.sleep(0)
    assert not task.done()
    child.kill()
    if not pidfd:
        child.wait()
    await asyncio.wait_for(task, 60)


async def test_a_process_that_is_not_there_has_ended(child):
    child.kill()
    child.wait()
    await asyncio.wait_for(lifetime.process_ended(child.pid), 60)


async def test_cancelling_leaves_no_descriptor(child):
    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(lifetime.process_ended(child.pid))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(os.listdir("/proc/self/fd")) == before
