"""The worker's sessions with replicas: one each, kept while the controller lists the replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fairlead.v1 import session_pb2
from fairlead.wire.dial import dial
from fairlead.wire.errors import FairleadError
from fairlead.wire.grpc_link import REPLICA_SESSION
from fairlead.wire.link import Link
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.replica import Replica
from fairlead_gateway.routing.table import Changes

logger = logging.getLogger(__name__)

FIRST_RETRY = 0.05
"""Seconds until a replica that could not be reached is tried again; doubles to LAST_RETRY."""
LAST_RETRY = 2.0

Sleep = Callable[[float], Awaitable[None]]
Connect = Callable[[str, Callable[[session_pb2.Load], None]], Awaitable[Link]]


async def connect_replica(address: str, on_load: Callable[[session_pb2.Load], None]) -> Link:
    """Opens a session with the replica at an address."""
    return await dial(address, REPLICA_SESSION, on_load=on_load)


class Upstreams:
    """Connects to replicas and keeps the deployments' rotations true. Owns one task per replica."""

    def __init__(self, connect: Connect = connect_replica, sleep: Sleep = asyncio.sleep) -> None:
        self._connect = connect
        self._sleep = sleep
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._farewells: dict[asyncio.Task[None], Link] = {}

    async def apply(self, changes: Changes, patience_s: float = 5.0) -> None:
        """Follows the controller. Returns when each new replica is connected, or found unreachable, or time is up."""
        loop = asyncio.get_running_loop()
        attempts: list[asyncio.Future[None]] = []
        for deployment, replica in changes.added:
            attempted = loop.create_future()
            self._tasks[replica] = asyncio.create_task(self._keep(deployment, replica, attempted))
            attempts.append(attempted)
        for deployment, replica in changes.removed:
            deployment.leave_rotation(replica)
            task = self._tasks.pop(replica, None)
            if task is not None:
                task.cancel()
            if replica.link is not None:
                self._see_off(replica.link)
        if attempts:
            await asyncio.wait(attempts, timeout=patience_s)

    def _see_off(self, link: Link) -> None:
        """A replica that is not listed any more: its calls finish, then its connection ends."""
        link.goodbye()
        farewell = asyncio.create_task(self._close_when_idle(link))
        self._farewells[farewell] = link
        farewell.add_done_callback(self._farewells.pop)

    @staticmethod
    async def _close_when_idle(link: Link) -> None:
        await link.wait_idle()
        await link.close()

    async def _keep(self, deployment: Deployment, replica: Replica, attempted: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        delay = FIRST_RETRY

        def on_load(report: session_pb2.Load) -> None:
            replica.report(report)
            if deployment.queued:
                deployment.wake()

        while True:
            replica.sequence = replica.elsewhere = 0
            replica.load = replica.in_flight
            replica.models, replica.unavailable_models = None, frozenset()
            try:
                link = await self._connect(replica.address, on_load)
            except FairleadError as error:
                logger.debug("replica %s: %s", replica.replica_id, error)
            except Exception:  # the next attempt may fare better; without one the replica would be lost for good
                logger.exception("replica %s: connecting failed", replica.replica_id)
            else:
                if replica not in self._tasks:  # given up meanwhile, by a cancellation that connecting swallowed
                    await link.close()
                    return
                since = loop.time()
                self._enter(deployment, replica, link)
                if not attempted.done():
                    attempted.set_result(None)
                await link.wait_closed()
                replica.link = None
                deployment.leave_rotation(replica)
                logger.info("replica %s: %s", replica.replica_id, link.lost)
                if loop.time() - since > LAST_RETRY:
                    delay = FIRST_RETRY
            if not attempted.done():
                attempted.set_result(None)
            await self._sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    @staticmethod
    def _enter(deployment: Deployment, replica: Replica, link: Link) -> None:
        link.on_goodbye = lambda: deployment.leave_rotation(replica)
        replica.link = link
        if not link.draining:
            deployment.enter_rotation(replica)

    async def close(self) -> None:
        """Ends all sessions."""
        tasks = [*self._tasks.values(), *self._farewells]
        links = [replica.link for replica in self._tasks if replica.link is not None]
        links += self._farewells.values()
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in links))
