"""A user's request router and the thread that it runs in: nothing that it does stops the worker.

The one place in a gateway where users' code runs. It is the owner's own: whoever may deploy may run code, and the
controller's socket is the owner's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.serve.handle import DeploymentID
from fairlead.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica
from fairlead.v1 import control_pb2
from fairlead_gateway.routing.choice import Ranks

logger = logging.getLogger(__name__)

_COMPLAINT_PERIOD_S = 10.0
"""Seconds between two log lines about the same router."""


class RouterThread:
    """Loads a router and asks it. Its methods are called from the worker's loop, and never block."""

    def __init__(
        self,
        settings: control_pb2.RequestRouterSettings,
        sys_path: Sequence[str],
        deployment_id: DeploymentID,
        timeout_s: float,
    ) -> None:
        self.usable = True
        """False: it could not be loaded, or was closed. While it is being loaded, questions wait for that."""
        self.hears_of_routes = False
        """Whether it wants to know which replica each call was sent to."""
        self._settings = settings
        self._sys_path = list(sys_path)
        self._deployment_id = deployment_id
        self._timeout_s = timeout_s
        self._loop = asyncio.new_event_loop()
        self._inbox: deque[Callable[[], None]] = deque()
        self._awake = False
        self._router: RequestRouter | None = None
        self._known: tuple[RunningReplica, ...] = ()
        self._complained_at = float("-inf")
        name = f"fairlead router of {deployment_id.app_name}#{deployment_id.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def ask(
        self,
        pending: PendingRequest,
        candidates: tuple[RunningReplica, ...],
        answer: Callable[[Ranks | None], None],
    ) -> None:
        """Has the router choose; ``answer`` is called in the thread, with None for what cannot be used."""
        self._post(lambda: self._begin(pending, candidates, answer))

    def routed(self, pending: PendingRequest, replica_id: ReplicaID) -> None:
        """Tells the router where a call was sent."""
        self._post(lambda: self._tell(pending, replica_id))

    def close(self) -> None:
        """Ends the thread, as soon as the user's code lets it."""
        self.usable = False
        self._post(self._loop.stop)

    def _post(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        if not self._awake:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # closed, and with it whoever asked
                self._loop.call_soon_threadsafe(self._drain)

    # -- in the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._router = router = self._load()
        except BaseException as error:  # SystemExit too: it is the user's
            self.usable = False
            self._complain("cannot be used; calls go by power of two choices", error)
        else:
            self.hears_of_routes = type(router).on_request_routed is not RequestRouter.on_request_routed
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _load(self) -> RequestRouter:
        settings = self._settings
        # Behind the worker's own entries: no module of the user's may stand in for one of ours.
        sys.path.extend(entry for entry in self._sys_path if entry not in sys.path)
        importlib.invalidate_caches()
        if settings.WhichOneof("code") == "import_path":
            module, _, name = settings.import_path.partition(":")
            kind: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        else:
            kind = pickle.loads(settings.pickled_class)
        router: RequestRouter = kind(self._deployment_id)
        router.initialize_state(**(pickle.loads(settings.arguments) if settings.arguments else {}))
        return router

    def _drain(self) -> None:
        self._awake = False
        inbox = self._inbox
        while inbox:
            inbox.popleft()()

    def _begin(
        self,
        pending: PendingRequest,
        candidates: tuple[RunningReplica, ...],
        answer: Callable[[Ranks | None], None],
    ) -> None:
        if self._router is None:
            answer(None)
            return
        task = self._loop.create_task(self._choose(self._router, pending, candidates))
        task.add_done_callback(lambda done: answer(None if done.cancelled() else done.result()))

    async def _choose(
        self, router: RequestRouter, pending: PendingRequest, candidates: tuple[RunningReplica, ...]
    ) -> Ranks | None:
        try:
            if candidates != self._known:
                self._known = candidates
                router.update_replicas(candidates)
            async with asyncio.timeout(self._timeout_s):
                chosen = await router.choose_replicas(list(candidates), pending)
            return [[replica.replica_id.to_full_id_str() for replica in group] for group in chosen]
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit too: out of a task it would end the loop
            self._complain("failed; the call goes by power of two choices", error)
            return None

    def _tell(self, pending: PendingRequest, replica_id: ReplicaID) -> None:
        if self._router is None:
            return
        try:
            self._router.on_request_routed(pending, replica_id, None)
        except BaseException as error:
            self._complain("failed in on_request_routed", error)

    def _complain(self, what: str, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._complained_at > _COMPLAINT_PERIOD_S:
            self._complained_at = now
            logger.error("the request router of %s %s", self._deployment_id, what, exc_info=error)
