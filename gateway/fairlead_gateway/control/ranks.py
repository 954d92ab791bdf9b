"""The numbers of a deployment's replicas: pure."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead_gateway.control.observed import Phase, Replica


def free_rank(replicas: Iterable[Replica], code_version: str) -> int:
    """The smallest number that none of a deployment's replicas of a code version has, those that stop left out.

    So the one that takes the place of another one gets its number; after an update they are 0, 1, 2 and so on again.
    """
    taken = {
        replica.rank
        for replica in replicas
        if replica.code_version == code_version and replica.phase is not Phase.STOPPING
    }
    return next(rank for rank in range(len(taken) + 1) if rank not in taken)
