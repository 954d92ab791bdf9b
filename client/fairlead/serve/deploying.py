"""``serve.run`` and what goes with it: applications are deployed, and deleted.

All functions block, and may be called from several threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fairlead.serve import environment, instance_services
from fairlead.serve.deployment import Application
from fairlead.serve.graph import application_spec, check_application
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.importing import refuse_while_importing
from fairlead.serve.instance import Instance
from fairlead.serve.instance_in_use import current
from fairlead.serve.lifecycle import block
from fairlead.serve.local_instance import LocalInstance, refuse_other_instance
from fairlead.serve.progress import Progress
from fairlead.serve.termination import terminable
from fairlead.serve.unsupported import check_controller_options, check_external_scaler
from fairlead.serve.validation import check_application_name, check_route_prefix
from fairlead.v1 import control_pb2

T = TypeVar("T")


@dataclass(frozen=True)
class RunTarget:
    """One application for :func:`run_many`; the fields are the arguments of :func:`run`."""

    target: Application[Any]
    name: str = "default"
    route_prefix: str | None = "/"
    logging_config: Any = None
    external_scaler_enabled: bool = False


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
    place. ``blocking``: then waits as :func:`fairlead.serve.lifecycle.wait` does, for Ctrl-C or SIGTERM.
    ``logging_config``: a ``LoggingConfig``, or its fields as a dictionary, for deployments that have none of their own.
    ``external_scaler_enabled``: something outside decides how many replicas there are, by ``fairlead scale``; no
    deployment may have an ``autoscaling_config``. ``controller_options`` are refused.

    ``_local_testing_mode``, or ``FAIRLEAD_FORCE_LOCAL_TESTING_MODE=1``: everything runs in this process, in threads and
    without ports; what a constructor raises is raised here.

    Raises TypeError for what ``.bind()`` did not make, ValueError for a bad route prefix or option, RuntimeError with
    the replica's traceback if the application cannot be deployed, FairleadError (``RayServeException``) for an empty
    name.
    """
    check_controller_options(controller_options)
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


def deploy_specs(specs: Sequence[control_pb2.ApplicationSpec]) -> None:
    """Deploys applications that are described already to the instance in use, and waits until they serve.

    Raises as :func:`run` does for what can be found out no sooner.
    """
    _deploy_specs(current.existing(), specs, wait=True)


def deploy_change(
    spec: control_pb2.ApplicationSpec,
    expected_generation: int,
    traffic: Sequence[control_pb2.TrafficPolicy] = (),
) -> None:
    """As :func:`deploy_specs` for one application that was read, and is to be changed; 0: it was not there.

    ``traffic``: policies of its endpoints that are set along with it. Other programs may change it further meanwhile.
    Raises ChangedMeanwhileError, and nothing is changed, if it has another generation than the one that was read.
    """
    instance = current.existing()
    with current.forgotten_if_it_failed(instance):
        (generation,) = instance.deploy_all([spec], expected_generation=expected_generation, traffic=traffic)
        if instance.owned is None:
            current.deployed.add(spec.name)
        with Progress() as progress:
            instance.wait_until_running(spec.name, generation, progress.show, or_later=True)


def delete(name: str, _blocking: bool = True) -> None:
    """Drains and deletes an application; no error if there is none. Raises TimeoutError if it takes more than 60 s.

    ``_blocking=False``: returns when the controller has noted it.
    """
    current.existing().delete(name, wait=_blocking)


def _run_all(targets: Sequence[RunTarget], caller: str, *, blocking: bool, wait: bool) -> list[DeploymentHandle[Any]]:
    try:
        if not blocking:
            return _deploy_all(targets, caller, wait=wait)
        with terminable():
            handles = _deploy_all(targets, caller, wait=wait)
            block(current.existing())
            return handles
    except KeyboardInterrupt as interrupt:
        raise interrupt.with_traceback(None) from None  # what waited for what in here says nothing to who typed Ctrl-C


def _run_locally(targets: Sequence[RunTarget], caller: str, *, blocking: bool) -> list[DeploymentHandle[Any]]:
    _check_targets(targets, caller)
    with current.lock:
        refuse_other_instance(current.instance, local=True)
        if current.instance is None:
            current.instance = LocalInstance()
        instance = current.instance
    assert isinstance(instance, LocalInstance)
    handles = [DeploymentHandle[Any](instance.run(one.target, one.name), one.name) for one in targets]
    if blocking:
        block(instance)
    return handles


def check_names(name: str, route_prefix: str | None) -> None:
    """Refuses what can be no application's name or route prefix. Raises FairleadError, ValueError or TypeError."""
    check_application_name(name)
    check_route_prefix(route_prefix)


def _check_targets(targets: Sequence[RunTarget], caller: str) -> None:
    """Before anything is started; what takes longer is done while the controller starts."""
    refuse_while_importing(caller)
    for one in targets:
        check_application(one.target, caller)
        check_names(one.name, one.route_prefix)


def _deploy_all(targets: Sequence[RunTarget], caller: str, *, wait: bool) -> list[DeploymentHandle[Any]]:
    _check_targets(targets, caller)
    refuse_other_instance(current.instance, local=False)
    instance = current.found_or_started()
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
    with current.forgotten_if_it_failed(instance):
        generations = instance.deploy_all(specs)
        if instance.owned is None:
            current.deployed.update(spec.name for spec in specs)
        if wait:
            for spec, generation in zip(specs, generations, strict=True):
                with Progress() as progress:
                    instance.wait_until_running(spec.name, generation, progress.show)
