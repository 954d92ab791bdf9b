"""The life of a replica: register, build what the controller assigns, serve it, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import zlib
from dataclasses import dataclass
from typing import Any

from fairlead.lifetime import process_ended
from fairlead.serve import connection
from fairlead.serve.context import ReplicaContext, ReplicaName, ReplicaRank, set_replica_context
from fairlead.serve.logs import LoggingConfig, set_up
from fairlead.serve.multiplexing.registry import registry
from fairlead.v1 import control_pb2, replica_pb2
from fairlead.wire.link import Link
from fairlead.wire.trust import Trust
from fairlead_replica import assignment
from fairlead_replica.hooks import Hooks
from fairlead_replica.hosting import Hosted, host
from fairlead_replica.lease import Lease
from fairlead_replica.listener import Listener, listen, path_of
from fairlead_replica.runtime import Runtime
from fairlead_replica.tracebacks import one_line, user_traceback

logger = logging.getLogger(__name__)

_FAREWELL_S = 0.3
"""How long sessions may still carry the last answers."""
_OWNER_GRACE_S = 3.0
"""How long a replica whose owner is gone may take to end by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaOptions:
    """What a replica is started with."""

    controller: str
    """Where the controller is, as gRPC names it: "unix:/path" or "host:port"."""
    replica_id: str
    """Its id."""
    owner_pid: int | None = None
    """The process that it must not outlive; None: there is none."""
    patience_s: float = 600.0
    """Seconds without a controller after which it drains and ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stop:
    reason: str
    timeout_s: float | None = None
    """None: what the deployment's settings say."""


class Replica:
    """One replica, from registration to its end. Use it once."""

    def __init__(self, options: ReplicaOptions) -> None:
        self._options = options
        self._assigned: asyncio.Future[replica_pb2.ReplicaAssignment]
        self._stop: asyncio.Future[_Stop]
        self._loop: asyncio.AbstractEventLoop
        self._lease: Lease
        self._settings = control_pb2.DeploymentSettings()
        self._listener: Listener | None = None
        self._runtime: Runtime | None = None
        self._hooks: Hooks | None = None
        self._hosted: Hosted | None = None
        self._links: set[Link] = set()
        self._checks: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Replica {self._options.replica_id} {self._runtime!r}>"

    async def run(self) -> int:
        """Lives. Returns the exit status: 0 after a drain, 1 if it could not start."""
        self._loop = asyncio.get_running_loop()
        self._assigned = self._loop.create_future()
        self._stop = self._loop.create_future()
        self._lease = self._make_lease()
        self._lease.start()
        if self._options.owner_pid is not None:
            threading.Thread(target=self._watch_owner, args=(self._options.owner_pid,), daemon=True).start()
        starting = self._loop.create_task(self._start())
        waited_for: set[asyncio.Future[Any]] = {starting, self._stop}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        error = await starting
        if self._listener is not None:
            await self._end(await asyncio.shield(self._stop))
        elif error is not None and not self._stop.done():
            failed = replica_pb2.ReplicaFailed(message=one_line(error), traceback=user_traceback(error))
            if not await asyncio.to_thread(self._lease.close, replica_pb2.RegisterRequest(failed=failed)):
                logger.error("the replica cannot start\n%s", failed.traceback)
            return 1
        else:
            await asyncio.to_thread(self._lease.close)
        return 0

    def stop(self, reason: str, timeout_s: float | None = None) -> None:
        """Drains and ends within ``timeout_s`` seconds, or what the settings say. On the loop; once."""
        if not self._stop.done():
            self._stop.set_result(_Stop(reason=reason, timeout_s=timeout_s))

    # -- starting

    async def _start(self) -> BaseException | None:
        """From the assignment to ready. What went wrong; SystemExit too, which must not end the loop."""
        try:
            assigned = await self._assigned
            hosted = await self._build(assigned)
            listener = await listen(
                assigned.socket_path, hosted.runtime.acceptor, links=self._links, on_link=hosted.runtime.opened
            )
            self._listener = listener
        except BaseException as error:
            return error
        self._hosted, self._runtime, self._hooks = hosted, hosted.runtime, hosted.hooks
        self._restart_checks()
        self._lease.ready(listener.address)
        return None

    async def _build(self, assigned: replica_pb2.ReplicaAssignment) -> Hosted:
        """The user's class or function, ready to be called. Raises whatever the user's code raises."""
        spec = assigned.deployment
        self._settings = settings = spec.settings
        context = ReplicaContext(
            app_name=assigned.application,
            deployment=spec.name,
            replica_id=ReplicaName(self._options.replica_id),
            rank=ReplicaRank(rank=assigned.rank, local_rank=assigned.rank),  # there is one machine
            world_size=max(1, settings.num_replicas),
            code_version=assigned.code_version,
        )
        set_replica_context(context)
        self._set_up_logs()
        connection.use_loop(self._loop)
        self._use_gateways(assigned)
        assignment.apply_environment(assigned.environment)
        code = assignment.load_code(spec)
        args, kwargs = assignment.load_arguments(spec) if isinstance(code, type) else ((), {})
        return await host(
            code,
            args,
            kwargs,
            settings=settings,
            context=context,
            set_context=set_replica_context,
            registry=registry,
            links=self._links,
            interface=spec.interface,
        )

    def _set_up_logs(self) -> None:
        application, deployment, _ = self._options.replica_id.split("#")
        given = self._settings.logging
        labels = {
            "component": "replica",
            "application": application,
            "deployment": deployment,
            "replica": self._options.replica_id,
        }
        set_up(LoggingConfig.from_json(given) if given else None, labels, self._options.replica_id)

    def _use_gateways(self, assigned: replica_pb2.ReplicaAssignment) -> None:
        if assigned.gateway_addresses:
            key = zlib.crc32(self._options.replica_id.encode())
            address, others = connection.spread(assigned.gateway_addresses, key)
            connection.set_address(address, Trust.OWNER, alternates=others)

    # -- ending

    async def _end(self, stop: _Stop) -> None:
        """Refuses new calls, finishes those under way, unloads models, destroys what the user built, and hangs up."""
        hosted, listener = self._hosted, self._listener
        assert hosted is not None
        assert listener is not None
        timeout = self._settings.graceful_shutdown_timeout_s if stop.timeout_s is None else stop.timeout_s
        logger.debug("draining within %.1f s: %s", timeout, stop.reason)
        if self._checks is not None:
            self._checks.cancel()
        hosted.runtime.drain()
        for link in list(self._links):
            link.goodbye()
        await hosted.end(timeout)
        drained = replica_pb2.RegisterRequest(drained=replica_pb2.ReplicaDrained())
        await asyncio.to_thread(self._lease.close, drained)
        await self._hang_up(listener)
        await connection.current().aclose()

    async def _hang_up(self, listener: Listener) -> None:
        """Gives gateways a moment to take the last answers and to hang up themselves."""
        hanging_up = [asyncio.ensure_future(link.wait_closed()) for link in self._links]
        if hanging_up:
            _, late = await asyncio.wait(hanging_up, timeout=_FAREWELL_S)
            for waiting in late:
                waiting.cancel()
        await listener.close()

    def _watch_owner(self, pid: int) -> None:
        """On a thread of its own, so that no code of the user's keeps a replica alive without its owner."""
        asyncio.run(process_ended(pid))
        with contextlib.suppress(RuntimeError):  # the loop is closed: it is ending anyway
            self._loop.call_soon_threadsafe(self.stop, f"its owner, process {pid}, is gone", 0.0)
        time.sleep(_OWNER_GRACE_S)
        if self._listener is not None:
            _unlink(path_of(self._assigned.result().socket_path))
        os._exit(1)

    # -- the lease

    def _make_lease(self) -> Lease:
        return Lease(
            self._options.controller,
            self._hello,
            on_command=self._on_command,
            on_abandoned=self._on_abandoned,
            report=self._report,
            patience_s=self._options.patience_s,
        )

    def _hello(self) -> replica_pb2.ReplicaHello:
        """What a controller that has not started this replica has to know to take it over."""
        hello = replica_pb2.ReplicaHello(replica_id=self._options.replica_id, pid=os.getpid())
        if self._assigned.done():
            assigned = self._assigned.result()
            hello.running.application = assigned.application
            hello.running.deployment = assigned.deployment.name
            hello.running.code_version = assigned.code_version
            hello.running.rank = assigned.rank
            hello.running.settings.CopyFrom(self._settings if self._hosted else assigned.deployment.settings)
            hello.running.draining = self._stop.done()
            if self._hosted is not None and self._listener is not None:
                hello.running.address = self._listener.address
        return hello

    def _report(self) -> replica_pb2.ReplicaReport | None:
        runtime, hooks = self._runtime, self._hooks
        if runtime is None or hooks is None:
            return None
        return replica_pb2.ReplicaReport(
            load=runtime.load(),
            failed_health_checks=hooks.failed_checks,
            health_message=hooks.health_message,
            model_ids=runtime.models.loaded,
        )

    def _on_abandoned(self) -> None:
        self._loop.call_soon_threadsafe(self.stop, "there is no controller")

    def _on_command(self, command: replica_pb2.RegisterResponse) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing can be commanded any more
            self._loop.call_soon_threadsafe(self._obey, command)

    def _obey(self, command: replica_pb2.RegisterResponse) -> None:
        kind = command.WhichOneof("command")
        if kind == "assignment":
            if self._assigned.done():  # a controller that came back; what runs stays
                self._use_gateways(command.assignment)
            else:
                self._assigned.set_result(command.assignment)
        elif kind == "drain":
            self.stop("the controller says so", command.drain.timeout_s)
        elif kind == "reconfigure":
            task = self._loop.create_task(self._reconfigure(command.reconfigure.settings))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reconfigure(self, settings: control_pb2.DeploymentSettings) -> None:
        runtime, hooks = self._runtime, self._hooks
        if runtime is None or hooks is None:
            return  # the settings of the assignment are newer than what could be reconfigured
        before, self._settings = self._settings, settings
        runtime.resize(max(1, settings.max_ongoing_requests))
        if settings.logging != before.logging:
            self._set_up_logs()
        self._restart_checks()
        answer = replica_pb2.ReplicaReconfigured()
        if settings.user_config != before.user_config:
            try:
                await hooks.reconfigure(assignment.user_config(settings))
            except Exception as error:
                answer.traceback = user_traceback(error)
        self._lease.say(replica_pb2.RegisterRequest(reconfigured=answer))

    def _restart_checks(self) -> None:
        if self._checks is not None:
            self._checks.cancel()
        assert self._hooks is not None
        settings = self._settings
        self._checks = self._loop.create_task(
            self._hooks.check_forever(settings.health_check_period_s or 10.0, settings.health_check_timeout_s or 30.0)
        )


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
