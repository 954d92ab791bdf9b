"""How one instance runs, and the command lines of its processes that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.v1 import control_pb2
from fairlead_gateway.control.gateways import BIND_FAILED, Doors
from fairlead_gateway.control.launcher import Ending, Program

_ADDRESS_VARIABLE = "FAIRLEAD_ADDRESS"
"""In replicas it names this controller: ``serve.status()`` and the like work there. Not imported from
``fairlead.serve``, which would bring the whole library along and start the controller 40 ms later."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """How one instance runs."""

    directory: Path
    """Holds the instance's sockets."""
    doors: Doors
    """Where gateway workers listen."""
    owner_pid: int | None = None
    """The process that the instance ends with; None: it belongs to nobody."""
    gateways: int = 1
    """How many gateway workers."""
    patience_s: float | None = None
    """How long gateway workers and replicas serve without a controller; None: as long as they do by themselves."""
    gateway_module: str = "fairlead_gateway"
    """What a gateway worker runs."""
    replica_module: str = "fairlead_replica"
    """What a replica runs."""
    policy_module: str = "fairlead_replica.policy"
    """What runs a user's autoscaling policy."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for all processes."""
    gateway_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More of them, for gateway workers alone: secrets."""

    @property
    def address(self) -> str:
        """Where the controller listens."""
        return f"unix:{self.directory / 'controller.sock'}"

    def socket_path(self, replica_id: str) -> Path:
        """Where a replica takes sessions."""
        return self.directory / f"r-{replica_id.rpartition('#')[2]}.wire"

    def replica_program(self, replica_id: str, environment: control_pb2.CodeEnvironment) -> Program:
        """A replica to start."""
        return Program(
            name=replica_id,
            module=self.replica_module,
            arguments=("--controller", self.address, "--replica-id", replica_id, *self._life_arguments()),
            variables={**self.variables, _ADDRESS_VARIABLE: self.address, **environment.variables},
            working_directory=environment.working_directory or None,
        )

    def gateway_program(self, gateway_id: str, arguments: Sequence[str]) -> Program:
        """A gateway worker to start; ``arguments``: those of its doors."""
        return Program(
            name=gateway_id,
            module=self.gateway_module,
            arguments=("--controller", self.address, *arguments, *self._life_arguments()),
            variables={**self.variables, **self.gateway_variables},
        )

    def _life_arguments(self) -> tuple[str, ...]:
        """What ends a process beside its controller's orders."""
        arguments = () if self.owner_pid is None else ("--owner-pid", str(self.owner_pid))
        return arguments if self.patience_s is None else (*arguments, "--controller-patience", str(self.patience_s))


def bind_failure(said: Path, ending: Ending) -> str:
    """Why a gateway worker could not open its doors, by the file that it left, which is removed; empty: it could."""
    if ending.status != BIND_FAILED:
        return ""
    try:
        reason = said.read_text().strip()
        said.unlink()
    except OSError:
        return ending.last_lines[-1] if ending.last_lines else ""
    return reason
