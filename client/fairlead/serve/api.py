"""``serve.run`` and what goes with it: starting, deploying, looking, ending.

All functions block, and may be called from several threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fairlead.serve import connection, context, environment, instance_services, standing
from fairlead.serve.config import HTTPOptions, ProxyLocation, gRPCOptions
from fairlead.serve.deployment import Application
from fairlead.serve.doors import Doors
from fairlead.serve.graph import application_spec, check_application
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.instance import Instance
from fairlead.serve.local_instance import LocalInstance, refuse_other_instance
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.owned_instance import OwnedInstance
from fairlead.serve.progress import Progress
from fairlead.serve.status import ServeStatus, serve_status
from fairlead.serve.termination import Terminated, terminable
from fairlead.serve.unsupported import check_external_scaler, check_unsupported
from fairlead.serve.validation import check_route_prefix
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

T = TypeVar("T")

_AT_EXIT_S = 5.0
_REMEMBERED_HANDLES = 100

_NOT_RUNNING = "There is no Fairlead instance running. Call `serve.run(...)` or `serve.start()` to start one."


@dataclass(frozen=True, kw_only=True)
class RunTarget:
    """One application for :func:`run_many`; the fields are the arguments of :func:`run`."""

    target: Application[Any]
    name: str = "default"
    route_prefix: str | None = "/"
    logging_config: Any = None
    external_scaler_enabled: bool = False


class _Current:
    """The instance that this process uses, and the handles it remembers."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.instance: Instance | None = None
        self.handles: OrderedDict[tuple[str, str], DeploymentHandle[Any]] = OrderedDict()
        self.exit_registered = False
        self.deployed: set[str] = set()
        """The applications that this process has deployed to an instance that is not its own."""


_current = _Current()


def run(
    target: Application[T],
    blocking: bool = False,
    name: str = "default",
    route_prefix: str | None = "/",
    logging_config: Any = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: Any = None,
) -> DeploymentHandle[T]:
    """Deploys an application, waits until it serves, and returns a handle to its ingress deployment.

    An instance is started if there is none; it ends with this process. An application of that name is updated in
    place. ``blocking``: then waits as :func:`fairlead.serve.api.wait` does, for Ctrl-C or SIGTERM. ``logging_config``:
    a ``LoggingConfig``, or its fields as a dictionary, for deployments that have none of their own.
    ``external_scaler_enabled``: something outside decides how many replicas there are, by ``fairlead scale``; no
    deployment may have an ``autoscaling_config``. ``controller_options`` are refused.

    ``_local_testing_mode``, or ``FAIRLEAD_FORCE_LOCAL_TESTING_MODE=1``: everything runs in this process, in threads and
    without ports; what a constructor raises is raised here.

    Raises TypeError for what ``.bind()`` did not make, ValueError for a bad route prefix or option, RuntimeError with
    the replica's traceback if the application cannot be deployed, FairleadError (``RayServeException``) for an empty
    name.
    """
    check_unsupported("controller_options", controller_options)
    one = RunTarget(
        target=target,
        name=name,
        route_prefix=route_prefix,
        logging_config=logging_config,
        external_scaler_enabled=external_scaler_enabled,
    )
    if _local_testing_mode or environment.local_testing_forced():
        return _run_locally([one], "serve.run", blocking=blocking)[0]
    return _run_all([one], "serve.run", blocking=blocking, wait=True)[0]


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
) -> list[DeploymentHandle[Any]]:
    """As :func:`run` for several applications at once; handles to their ingress deployments, in order.

    ``wait_for_applications_running``: whether to wait until all of them serve. Raises as ``run`` does.
    """
    if not targets:
        raise ValueError("No applications provided.")
    if _local_testing_mode or environment.local_testing_forced():
        return _run_locally(targets, "serve.run_many", blocking=blocking)
    return _run_all(targets, "serve.run_many", blocking=blocking, wait=wait_for_applications_running)


def _run_all(targets: Sequence[RunTarget], caller: str, *, blocking: bool, wait: bool) -> list[DeploymentHandle[Any]]:
    if not blocking:
        return _deploy_all(targets, caller, wait=wait)
    with terminable():
        handles = _deploy_all(targets, caller, wait=wait)
        _block(_existing())
        return handles


def _run_locally(targets: Sequence[RunTarget], caller: str, *, blocking: bool) -> list[DeploymentHandle[Any]]:
    _check_targets(targets, caller)
    with _current.lock:
        refuse_other_instance(_current.instance, local=True)
        if _current.instance is None:
            _current.instance = LocalInstance()
        instance = _current.instance
    assert isinstance(instance, LocalInstance)
    handles = [DeploymentHandle[Any](instance.run(one.target, one.name), one.name) for one in targets]
    if blocking:
        _block(instance)
    return handles


def _check_targets(targets: Sequence[RunTarget], caller: str) -> None:
    """Before anything is started; what takes longer is done while the controller starts."""
    for one in targets:
        check_application(one.target, caller)
        if not isinstance(one.name, str) or not one.name:
            raise FairleadError("Application name must a non-empty string.")
        check_route_prefix(one.route_prefix)


def _deploy_all(targets: Sequence[RunTarget], caller: str, *, wait: bool) -> list[DeploymentHandle[Any]]:
    _check_targets(targets, caller)
    refuse_other_instance(_current.instance, local=False)
    instance = _found_or_started()
    specs = [
        application_spec(
            one.target,
            name=one.name,
            route_prefix=one.route_prefix,
            caller=caller,
            services=instance_services.kept(instance.address),
            logging_config=one.logging_config,
        )
        for one in targets
    ]
    for one, spec in zip(targets, specs, strict=True):
        if one.external_scaler_enabled:
            check_external_scaler(spec)
    _deploy_specs(instance, specs, wait=wait)
    return [DeploymentHandle[Any](spec.ingress_deployment, spec.name) for spec in specs]


def _deploy_specs(instance: Instance, specs: Sequence[control_pb2.ApplicationSpec], *, wait: bool) -> None:
    with _forgotten_if_it_failed(instance):
        generations = instance.deploy_all(specs)
        if instance.owned is None:
            _current.deployed.update(spec.name for spec in specs)
        if wait:
            for spec, generation in zip(specs, generations, strict=True):
                with Progress() as progress:
                    instance.wait_until_running(spec.name, generation, progress.show)


def deploy_specs(specs: Sequence[control_pb2.ApplicationSpec]) -> None:
    """Deploys applications that are described already to the instance in use, and waits until they serve.

    Raises as :func:`run` does for what can be found out no sooner.
    """
    _deploy_specs(_existing(), specs, wait=True)


def address() -> str:
    """The address of the instance in use. Raises FairleadError if there is none."""
    return _existing().address


def start(
    proxy_location: ProxyLocation | str | None = None,
    http_options: HTTPOptions | Mapping[str, Any] | None = None,
    grpc_options: gRPCOptions | Mapping[str, Any] | None = None,
    logging_config: Any = None,
    tracing_config: Any = None,
    controller_options: Any = None,
    *,
    detached: bool = False,
    insecure: bool = False,
    gateways: int = 1,
    **options: Any,
) -> None:
    """Starts an instance that ends with this process, and waits until it can be called. Nothing happens if one runs.

    ``detached``: a standing instance instead, which belongs to no process and ends by ``serve.shutdown()``.
    ``gateways``: how many gateway workers share the ports.

    ``proxy_location="Disabled"``: no ports, handles only. ``port`` 0 in either options: any free port, told by
    ``fairlead.serve.api.instance_status()``. If ``FAIRLEAD_TOKEN`` is set, callers of both ports have to present it.
    ``insecure``: ports that other hosts can reach may be open without TLS and authentication. Further options are those
    of ``http_options``. ``logging_config``: how gateway workers log, a ``LoggingConfig`` or its fields in a dictionary.
    ``tracing_config`` and ``controller_options`` are refused: the environment that it is started with says both.

    Raises TypeError or ValueError for bad options, RuntimeError if a port cannot be bound, TimeoutError after 60 s.
    """
    check_unsupported("tracing_config", tracing_config)
    check_unsupported("controller_options", controller_options)
    given = dict(http_options) if isinstance(http_options, Mapping) else {}
    http = http_options if isinstance(http_options, HTTPOptions) else HTTPOptions.of({**given, **options})
    logging = LoggingConfig.of(logging_config)
    doors = Doors.of(proxy_location, http, gRPCOptions.of(grpc_options), insecure, gateways, logging)
    with _current.lock:
        _warn_of_ended()
        if detached and environment.address() is None and standing.orphans():
            standing.start(None)  # as it was: what runs is taken over
        if _find() is not None:
            if proxy_location or http_options or grpc_options or options:
                logger.warning("The options are ignored: an instance runs already.")
            return
        if detached:
            standing.start(doors)
            _find()
            return
        instance = _start(doors)
    with _forgotten_if_it_failed(instance):
        instance.wait_until_ready()


def shutdown() -> None:
    """Drains and ends all applications and the instance; blocks until they have ended. Nothing happens if none runs.

    Of an instance whose controller was killed it ends what is left.
    """
    with _current.lock:
        _remove_ended()
        instance = _find()
        if instance is not None and instance.away and instance.address == standing.address():
            _forget()
            standing.end_orphans_for_good()
            return
        if instance is None:
            logger.info("There is nothing to shut down.")
            return
        try:
            instance.shut_down()  # this process's own calls are among those that finish
        finally:
            _forget()


def shutdown_own() -> None:
    """As :func:`shutdown` for an instance that belongs to this process; nothing happens to any other."""
    instance = _current.instance
    if instance is not None and instance.owned is not None:
        shutdown()


def is_running() -> bool:
    """Whether there is an instance that this process would use."""
    return _found() is not None


async def shutdown_async() -> None:
    """As :func:`shutdown`, from a coroutine."""
    await asyncio.to_thread(shutdown)


def delete(name: str, _blocking: bool = True) -> None:
    """Drains and deletes an application; no error if there is none. Raises TimeoutError if it takes more than 60 s."""
    _existing().delete(name, wait=_blocking)


def status() -> ServeStatus:
    """The state of everything; empty if no instance runs."""
    instance = _found()
    return ServeStatus() if instance is None else serve_status(instance.status())


def instance_status() -> control_pb2.InstanceStatus:
    """As :func:`status`, with all that the controller tells: addresses, process ids, replica ids."""
    return _existing().status()


def controller_address() -> str:
    """Where the controller of the instance in use is, as ``FAIRLEAD_ADDRESS`` names it for other processes."""
    return _existing().address


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """A handle to an application's ingress deployment. Raises FairleadError (``RayServeException``) for no such one.

    Where ``FAIRLEAD_ADDRESS`` names a gateway's port, and while a standing instance's controller is away, whether it
    exists is found out by the first call.
    """
    if not _tells_names(_existing()):
        return _handle("", name)
    application = _applications().get(name)
    if application is None:
        raise FairleadError(f"Application '{name}' does not exist.")
    return _handle(application.ingress_deployment, name)


def get_deployment_handle(
    deployment_name: str, app_name: str | None = None, _check_exists: bool = True
) -> DeploymentHandle[Any]:
    """A handle to a deployment; the same object for the same deployment. Inside a replica ``app_name`` is its own.

    Raises FairleadError (``RayServeException``) without an application's name outside of a replica, KeyError for a
    deployment that does not exist.
    """
    if app_name is None:
        if not context.is_replica():
            raise FairleadError(
                "Please specify an application name when getting a deployment handle outside of a Serve application."
            )
        app_name = context.get_replica_context().app_name
    if _check_exists and _tells_names(_existing()):
        application = _applications().get(app_name)
        names = [] if application is None else [deployment.name for deployment in application.deployments]
        if deployment_name not in names:
            raise KeyError(f"Deployment(name='{deployment_name}', app='{app_name}') does not exist.")
    return _handle(deployment_name, app_name)


def _handle(deployment_name: str, app_name: str) -> DeploymentHandle[Any]:
    with _current.lock:
        handles = _current.handles
        handle = handles.get((deployment_name, app_name))
        if handle is None:
            handle = handles[deployment_name, app_name] = DeploymentHandle(deployment_name, app_name)
            if len(handles) > _REMEMBERED_HANDLES:
                handles.popitem(last=False)
        handles.move_to_end((deployment_name, app_name))
        return handle


def _tells_names(instance: Instance) -> bool:
    """Whether there is a controller to ask what is deployed."""
    return not instance.remote and not instance.away


def _applications() -> dict[str, control_pb2.ApplicationStatus]:
    return {application.name: application for application in _existing().status().applications}


def existing_instance() -> Instance:
    """The instance in use. Raises FairleadError if there is none."""
    return _existing()


def _existing() -> Instance:
    instance = _found()
    if instance is None:
        raise FairleadError(_NOT_RUNNING)
    return instance


def _found() -> Instance | None:
    with _current.lock:
        return _find()


def _found_or_started() -> Instance:
    with _current.lock:
        _warn_of_ended()
        return _find() or _start(Doors())


def _find() -> Instance | None:
    """The instance in use, else the one that is there to be used.

    Raises FairleadError, once, if there was one and its controller has ended without being told to.
    """
    if ending := _remove_ended():
        raise FairleadError(f"{ending}. What it ran was ended, too; `serve.run(...)` starts anew.")
    instance = _current.instance
    if instance is not None:
        return instance
    address = environment.address() or standing.address()
    if address is None:
        return None
    return _use(Instance(address))


def _remove_ended() -> str:
    """Removes what an instance has left whose controller has ended; says how, if it was not told to."""
    instance = _current.instance
    if instance is None or instance.owned is None:
        return ""
    if instance.owned.owner != os.getpid():
        # A fork: the instance is the parent's, and so is the connection to it.
        _current.instance = Instance(instance.address)
        return ""
    if instance.alive:
        return ""
    ending = instance.owned.ending
    _forget()
    instance.shut_down()
    return ending


def _warn_of_ended() -> None:
    if ending := _remove_ended():
        logger.warning("%s. What it ran was ended, too; another instance is started.", ending)


@contextlib.contextmanager
def _forgotten_if_it_failed(instance: Instance) -> Iterator[None]:
    """An instance that could not start is over when whoever started it hears why."""
    try:
        yield
    except RuntimeError:
        if instance.owned is not None and instance.owned.failed:
            with _current.lock:
                if _current.instance is instance:
                    _forget()
                instance.shut_down()
        raise


def _start(doors: Doors) -> Instance:
    owned = OwnedInstance(doors)
    if not _current.exit_registered:
        _current.exit_registered = True
        atexit.register(_at_exit)
    return _use(Instance(owned.address, owned))


def _use(instance: Instance) -> Instance:
    _current.instance = instance
    if not context.is_replica():
        # A replica has been told by its controller.
        connection.set_address(*instance.gateway(), alternates=instance.other_gateways)
    return instance


def _forget() -> None:
    _current.instance = None
    _current.handles.clear()
    connection.close()


def _at_exit() -> None:
    instance = _current.instance
    if instance is not None and instance.owned is not None:
        _current.instance = None
        instance.shut_down(_AT_EXIT_S)


def wait() -> None:
    """Blocks until Ctrl-C or SIGTERM, then shuts everything down; or until somebody else has shut it down.

    Of an instance that is not this process's own, the applications that this process has deployed are deleted instead.

    SIGTERM counts in the main thread, unless the program handles it itself. A second signal, while the shutdown lasts,
    cuts it short and is raised: KeyboardInterrupt, or SystemExit with status 143. Raises FairleadError if the
    instance's controller ends by itself; nothing is left of it then.
    """
    _block(_existing())


def _block(instance: Instance) -> None:
    with terminable():
        try:
            _wait_for_end(instance)
        except (KeyboardInterrupt, Terminated) as signalled:
            name = "SIGTERM" if isinstance(signalled, Terminated) else "KeyboardInterrupt"
            logger.warning("Got %s, shutting down...", name)
            _end_what_is_ours(instance)


def _end_what_is_ours(instance: Instance) -> None:
    """The instance if it is this process's own, else the applications that this process has deployed to it."""
    if instance.owned is not None or not instance.controls:
        shutdown()
        return
    for name in sorted(_current.deployed):
        instance.delete(name)
    _current.deployed.clear()


def _wait_for_end(instance: Instance) -> None:
    if instance.owned is None:
        while True:
            time.sleep(1.0)  # see OwnedInstance.wait
    instance.owned.wait()
    with _current.lock:
        if _current.instance is instance and (ending := _remove_ended()):
            raise FairleadError(f"{ending}. What it ran was ended, too.")
