"""What a door needs of the router, so that the doors' tests can do with less than the whole of it."""

from __future__ import annotations

from typing import Protocol

from fairlead.v1 import session_pb2
from fairlead.wire.trust import Trust
from fairlead_gateway.routing.call import Downstream
from fairlead_gateway.routing.router import StartedCall
from fairlead_gateway.routing.table import RouteTable


class CallRouter(Protocol):
    """Takes calls from doors. :class:`fairlead_gateway.routing.router.Router` is the real one."""

    table: RouteTable
    """What is deployed."""
    draining: bool
    """Whether calls are refused because the gateway is about to end."""

    def start(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        downstream: Downstream,
        *,
        trust: Trust,
        more: bool = False,
        last: bool = True,
    ) -> StartedCall:
        """Starts a call. Never raises: errors come through ``downstream.on_end``, maybe before this returns."""
