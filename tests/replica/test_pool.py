from __future__ import annotations

import asyncio
import threading
import weakref

from fairlead_replica.pool import Mailbox, ThreadPool


async def test_at_most_size_threads_and_all_work_done() -> None:
    pool = ThreadPool(3, Mailbox(asyncio.get_running_loop()))
    running: set[int] = set()
    most = 0
    lock = threading.Lock()
    finished = asyncio.Event()
    done = 0

    def work() -> None:
        nonlocal most
        with lock:
            running.add(threading.get_ident())
            most = max(most, len(running))

    def count() -> None:
        nonlocal done
        assert threading.current_thread() is threading.main_thread()
        done += 1
        if done == 200:
            finished.set()

    for _ in range(200):
        pool.submit(work, count)
    await asyncio.wait_for(finished.wait(), 60)
    assert 1 <= most <= 3
    pool.close()


async def test_threads_start_when_they_are_needed() -> None:
    pool = ThreadPool(100, Mailbox(asyncio.get_running_loop()))
    for _ in range(5):
        finished = asyncio.Event()
        pool.submit(lambda: None, finished.set)
        await asyncio.wait_for(finished.wait(), 60)
    assert repr(pool) == "<ThreadPool 0 running or waiting, 1 of 100 threads>"
    pool.close()


async def test_idle_threads_hold_on_to_nothing() -> None:
    class Argument: ...

    pool = ThreadPool(1, Mailbox(asyncio.get_running_loop()))
    argument = Argument()
    gone = weakref.ref(argument)
    finished = asyncio.Event()
    pool.submit(lambda argument=argument: None, finished.set)  # type: ignore[misc]
    del argument
    await asyncio.wait_for(finished.wait(), 60)
    again = asyncio.Event()
    pool.submit(lambda: None, again.set)
    await asyncio.wait_for(again.wait(), 60)
    assert gone() is None
    pool.close()


async def test_a_mailbox_keeps_the_order_and_survives_the_loop() -> None:
    loop = asyncio.get_running_loop()
    mailbox = Mailbox(loop)
    got: list[int] = []
    finished = asyncio.Event()

    def post() -> None:
        for number in range(1000):
            mailbox.post(lambda number=number: got.append(number))  # type: ignore[misc]
        mailbox.post(finished.set)

    threading.Thread(target=post).start()
    await asyncio.wait_for(finished.wait(), 60)
    assert got == list(range(1000))

    closed = asyncio.new_event_loop()
    closed.close()
    Mailbox(closed).post(lambda: got.append(-1))
    assert got[-1] == 999
