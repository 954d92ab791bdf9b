"""What there is to know of the instance in use: its state, and where it is."""

from __future__ import annotations

from fairlead.serve.current import current
from fairlead.serve.instance import Instance
from fairlead.serve.status import ServeStatus, serve_status
from fairlead.v1 import control_pb2


def status() -> ServeStatus:
    """The state of everything; empty if no instance runs."""
    instance = current.found()
    return ServeStatus() if instance is None else serve_status(instance.status())


def instance_status() -> control_pb2.InstanceStatus:
    """As :func:`status`, with all that the controller tells: addresses, process ids, replica ids."""
    return current.existing().status()


def controller_address() -> str:
    """Where the controller of the instance in use is, as ``FAIRLEAD_ADDRESS`` names it for other processes."""
    return current.existing().address


def existing_instance() -> Instance:
    """The instance in use. Raises FairleadError if there is none."""
    return current.existing()
