"""Derived services in the interface that gateways and replicas are given."""

from __future__ import annotations

import logging
from typing import Any

from fairlead.serve.derived.decorator import options_of
from fairlead.serve.derived.errors import LockFileError
from fairlead.serve.derived.lookup import keeping_hints
from fairlead.serve.descriptor_sets import add_files
from fairlead.v1 import control_pb2

logger = logging.getLogger("fairlead.serve")


def describe_typed(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Adds the service of a class or function that is decorated with ``@serve.typed``.

    Raises HintError for a hint that cannot be mapped, BreakingChangeError, LockFileError, and ValueError for a package
    that cannot be, or a class without a method for it.
    """
    options = options_of(func_or_class)
    if options is None or not options.enabled:
        return
    derivation = _derive(func_or_class)
    if derivation is None:
        raise ValueError(f"{func_or_class.__qualname__} has no public method that a service could be derived from")
    _add(derivation, func_or_class, interface)


def describe_ingress(func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    """Adds the service of an application's ingress deployment, if it can be derived and has declared no other one.

    Raises BreakingChangeError and LockFileError.
    """
    if options_of(func_or_class) is not None or interface.asgi or interface.typed_services:
        return
    try:
        derivation = _derive(func_or_class)
    except LockFileError:
        raise
    except Exception as error:  # hints are anybody's code, and nobody asked for a service
        logger.info("no service is derived from %r: %s", func_or_class, error)
        return
    if derivation is not None:
        _add(derivation, func_or_class, interface)


def keep_hints(func_or_class: Any) -> None:
    """Prepares a class or function for travelling by value: see :mod:`fairlead.serve.derived.lookup`. Never raises."""
    options = options_of(func_or_class)
    if options is not None and not options.enabled:
        return
    try:
        with keeping_hints():
            _derive(func_or_class)
    except Exception as error:  # whoever derives next hears of it
        logger.debug("no service is derived from %r: %s", func_or_class, error)


def _derive(func_or_class: Any) -> Any:
    """A ``Derivation``, or None. Imported where it is used: programs that only call have no use for it."""
    from fairlead.serve.derived.derivation import derive

    return derive(func_or_class)


def _add(derivation: Any, func_or_class: Any, interface: control_pb2.DeploymentInterface) -> None:
    derivation.check()
    service = derivation.service
    if derivation.locked is not None and derivation.locked != derivation.lock:
        logger.warning(
            "%s has changed since %s was written; run `fairlead build --proto` and commit the lock file, so that new "
            "fields keep their numbers",
            service.source,
            derivation.lock_path,
        )
    typed = interface.typed_services.add(name=service.full_name)
    typed.json.always_print_primitive_fields = True  # a result of 0 is {"result": 0}, as its hint says, and not {}
    for method in service.methods:
        if method.name != method.python_name:
            typed.methods[method.name] = method.python_name
    add_files(interface, derivation.descriptor_set.file)
    interface.derived_services.append(service.full_name)
    if not isinstance(func_or_class, type) and not interface.http_routes:
        interface.handles_requests = True  # a function is what answers HTTP requests, too
