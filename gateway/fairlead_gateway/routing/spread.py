"""A call to an endpoint: where one backend cannot take it any more, another may."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.wire.errors import FairleadError
from fairlead_gateway.routing.call import Call
from fairlead_gateway.routing.deployment import Deployment

Elsewhere = Callable[[Call], Deployment | None]
"""Another backend that takes a call; None: there is none."""


class Spread(Call):
    """Waits at one backend, and goes to another when that one is deleted or given up."""

    __slots__ = ("_elsewhere",)

    def __init__(self, call: Call, elsewhere: Elsewhere) -> None:
        """Takes the place of a call that nobody has seen yet."""
        super().__init__(call.header, call.payload, call.downstream, call.trust, call.more, call.last)
        self._elsewhere = elsewhere

    def turn_away(self, error: FairleadError) -> None:
        """Goes to another backend, with what it keeps of its request."""
        deployment = self._elsewhere(self)
        if deployment is None or self.upstream is None:
            super().turn_away(error)
            return
        self.header.application, self.header.deployment = deployment.application, deployment.name
        self.avoid = self.model = None
        self.upstream.let_go(self.kept_bytes)
        deployment.let_go(-self.kept_bytes)
        deployment.admit(self)
