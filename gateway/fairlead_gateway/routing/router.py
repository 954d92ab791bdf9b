"""Where every call of a gateway worker passes: names, trust, deadline, then the deployment's queue."""

from __future__ import annotations

import asyncio
from random import getrandbits
from typing import Protocol

from fairlead.serve import tracing
from fairlead.serve.tracing import CallSpan, put
from fairlead.v1 import session_pb2
from fairlead.wire.codecs import codec_of
from fairlead.wire.errors import (
    FairleadError,
    GatewayDrainingError,
    InvalidCallError,
)
from fairlead.wire.trust import Trust, check_serialization
from fairlead_gateway.routing.broadcast import Broadcast, no_replicas
from fairlead_gateway.routing.call import Call, Downstream
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.endpoints import Endpoints
from fairlead_gateway.routing.reservation import Reservations, ReservedCall
from fairlead_gateway.routing.table import RouteTable
from fairlead_gateway.routing.traced import TracedDownstream

MAX_NAME = 1024
"""Characters of a name, id or key in a header."""
MAX_TIMEOUT_US = 365 * 24 * 3600 * 1_000_000
"""A longer timeout is as good as this one, and would not fit where it is computed with."""


class StartedCall(Protocol):
    """What a door holds of a call: see :class:`~fairlead_gateway.routing.call.Call`."""

    def send(self, payload: bytes, *, more: bool = False, last: bool = False) -> bool:
        """Sends a further piece of the request. False: wait for ``on_writable``."""

    def cancel(self) -> None:
        """Gives the call up."""

    def consumed(self, amount: int) -> None:
        """Returns credit for pieces of the answer."""


class Router:
    """Starts calls. Belongs to the worker's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.table = RouteTable(loop.time)
        self.endpoints = Endpoints(self.table)
        self.reservations = Reservations(loop.time)
        self.draining = False
        self.tracing = tracing.active()
        """OpenTelemetry's module, where it is configured in this program; None: calls are not traced."""
        self._loop = loop

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
        """Starts a call. Never raises: errors come through ``downstream.on_end``, maybe before this returns.

        The header becomes the router's; an empty ``request_id`` is filled in.
        """
        if self.tracing is not None:
            header.request_id = header.request_id or f"{getrandbits(128):032x}"  # the door looks for it in its own
            span = CallSpan(self.tracing, header, "SERVER", {})
            header, downstream = put(header, span.carrier()), TracedDownstream(downstream, span)
        if header.broadcast:
            return self._broadcast(header, payload, downstream, trust, more)
        if header.WhichOneof("reservation") is not None:
            return self._reserved(header, payload, downstream, trust, more, last)
        call = Call(header, payload, downstream, trust, more, last)
        try:
            if trust is not Trust.OWNER:
                check_serialization(header.request_serialization, trust)
                check_serialization(header.response_serialization, trust)
                _check_names(header)
            if self.draining:
                self._check_open()
            endpoints = self.endpoints.by_name
            if endpoints and (endpoint := endpoints.get((header.application, header.deployment))) is not None:
                deployment, call = endpoint.take(call)
            else:
                deployment = self.table.find(header.application, header.deployment)
        except FairleadError as error:
            call.fail(error)
            return call
        if not header.request_id:
            header.request_id = f"{getrandbits(128):032x}"
        timeout_us = header.timeout_us
        if timeout_us:
            loop = self._loop
            call.deadline = loop.time() + min(timeout_us, MAX_TIMEOUT_US) * 1e-6
            call.timer = loop.call_at(call.deadline, call.expire)
        deployment.admit(call)
        return call

    def _check_open(self) -> None:
        if self.draining:
            raise GatewayDrainingError("the gateway is draining; the call did not start")

    def _find(self, header: session_pb2.CallHeader, trust: Trust) -> Deployment:
        """Checks a call, as ``start`` does in line, and returns its deployment."""
        if not header.reserve:  # which carries neither arguments nor results
            check_serialization(header.request_serialization, trust)
            check_serialization(header.response_serialization, trust)
        _check_names(header)
        self._check_open()
        endpoint = self.endpoints.by_name.get((header.application, header.deployment))
        if endpoint is None:
            return self.table.find(header.application, header.deployment)
        held = self.reservations.deployment(header.reservation_id)
        return held if isinstance(held, Deployment) and endpoint.has(held) else endpoint.choose(header)[0]

    def _reserved(
        self,
        header: session_pb2.CallHeader,
        payload: bytes,
        downstream: Downstream,
        trust: Trust,
        more: bool,
        last: bool,
    ) -> StartedCall:
        refused = Call(header, payload, downstream, trust, False, True)
        try:
            deployment = self._find(header, trust)
        except FairleadError as error:
            refused.fail(error)
            return refused
        if not header.request_id:
            header.request_id = f"{getrandbits(128):032x}"
        if header.reserve:
            reservation = self.reservations.reserve(header, downstream, trust)
            self._limit(reservation)
            deployment.admit(reservation)
            return reservation
        call = ReservedCall(header, payload, downstream, trust, more, last)
        self._limit(call)
        self.reservations.use(call, deployment)
        return call

    def _limit(self, call: Call) -> None:
        timeout_us = call.header.timeout_us
        if timeout_us:
            call.deadline = self._loop.time() + min(timeout_us, MAX_TIMEOUT_US) * 1e-6
            call.timer = self._loop.call_at(call.deadline, call.expire)

    def _broadcast(
        self, header: session_pb2.CallHeader, payload: bytes, downstream: Downstream, trust: Trust, more: bool
    ) -> StartedCall:
        refused = Call(header, payload, downstream, trust, False, True)
        try:
            deployment = self._find(header, trust)
            if header.WhichOneof("reservation") is not None:
                raise InvalidCallError("a broadcast is for all replicas: it neither reserves a slot nor uses one")
            media_type = codec_of(header.response_serialization).media_type
            if not deployment.replicas:
                raise no_replicas(deployment)
        except FairleadError as error:
            refused.fail(error)
            return refused
        if not header.request_id:
            header.request_id = f"{getrandbits(128):032x}"
        broadcast = Broadcast(header, downstream, trust, media_type, deployment)
        if header.timeout_us:
            broadcast.timer = self._loop.call_later(min(header.timeout_us, MAX_TIMEOUT_US) * 1e-6, broadcast.expire)
        broadcast.send(payload, more=more)
        return broadcast


def _check_names(header: session_pb2.CallHeader) -> None:
    for name in (
        header.application,
        header.deployment,
        header.method,
        header.request_id,
        header.multiplexed_model_id,
        header.session_id,
        header.shard_key,
    ):
        if len(name) > MAX_NAME:
            raise InvalidCallError(f"a name of {len(name)} characters; the limit is {MAX_NAME}")
