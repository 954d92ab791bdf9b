"""The controller's gRPC services: thin, each method turns a message into an event of the controller's and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc import aio

from fairlead.v1 import control_pb2, control_pb2_grpc, replica_pb2
from fairlead.wire.errors import FairleadError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.control.controller import Controller
from fairlead_gateway.control.leases import Lease
from fairlead_gateway.control.observed import GatewayView
from fairlead_gateway.control.persistence import config_of

Context = aio.ServicerContext[Any, Any]

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""Code and constructor arguments travel in one message; the peer is the owner."""

_DETAILS_KEY = "grpc-status-details-bin"


class ControlServicer(control_pb2_grpc.ControlServiceServicer):
    """ControlService of ``control.proto``."""

    def __init__(self, controller: Controller, stop: Callable[[], Awaitable[None]]) -> None:
        self._controller = controller
        self._stop = stop

    async def Deploy(self, request: control_pb2.DeployRequest, context: Context) -> control_pb2.DeployResponse:
        """Answers when the request is accepted."""
        try:
            first, *others = self._controller.deploy(
                [request.application, *request.others],
                request.deleted,
                expected_generation=_expected(request),
                policies=request.traffic,
            )
        except FairleadError as error:
            await _abort(context, error)
        return control_pb2.DeployResponse(generation=first, other_generations=others)

    async def Delete(self, request: control_pb2.DeleteRequest, context: Context) -> control_pb2.DeleteResponse:
        """Answers when the application is gone, or at once if so asked."""
        try:
            await self._controller.delete(
                request.application,
                wait=not request.no_wait,
                force=request.force,
                expected_generation=_expected(request),
            )
        except FairleadError as error:
            await _abort(context, error)
        return control_pb2.DeleteResponse()

    async def GetStatus(self, request: control_pb2.GetStatusRequest, context: Context) -> control_pb2.GetStatusResponse:
        """Answers with the state of everything."""
        return control_pb2.GetStatusResponse(status=self._controller.statuses.value)

    async def WatchStatus(
        self, request: control_pb2.WatchStatusRequest, context: Context
    ) -> AsyncIterator[control_pb2.WatchStatusResponse]:
        """Answers with the state of everything, now and at each change."""
        async for status in self._controller.statuses.changes():
            yield control_pb2.WatchStatusResponse(status=status)

    async def SetTraffic(
        self, request: control_pb2.SetTrafficRequest, context: Context
    ) -> control_pb2.SetTrafficResponse:
        """Answers when gateway workers spread calls so."""
        try:
            await self._controller.set_traffic(request.application, request.policy)
        except FairleadError as error:
            await _abort(context, error)
        return control_pb2.SetTrafficResponse()

    async def Shutdown(self, request: control_pb2.ShutdownRequest, context: Context) -> control_pb2.ShutdownResponse:
        """Answers when all but the controller have ended."""
        try:
            await self._stop()
        except FairleadError as error:
            await _abort(context, error)
        return control_pb2.ShutdownResponse()

    async def Watch(
        self, request_iterator: AsyncIterator[control_pb2.WatchRequest], context: Context
    ) -> AsyncIterator[control_pb2.WatchResponse]:
        """A gateway worker's watch."""
        reader = asyncio.create_task(self._read_watch(request_iterator))
        try:
            await self._controller.recovered.wait()
            async for snapshot in self._controller.snapshots.changes():
                yield snapshot
        finally:
            reader.cancel()

    async def Scale(self, request: control_pb2.ScaleRequest, context: Context) -> control_pb2.ScaleResponse:
        """Answers when the request is accepted."""
        try:
            generation = self._controller.scale(request.application, request.deployment, request.num_replicas)
        except FairleadError as error:
            await _abort(context, error)
        return control_pb2.ScaleResponse(generation=generation)

    async def GetConfig(self, request: control_pb2.GetConfigRequest, context: Context) -> control_pb2.GetConfigResponse:
        """Answers with what applications were deployed with."""
        answer = control_pb2.GetConfigResponse()
        for goal in self._controller.core.desired.applications.values():
            found = answer.applications.add()
            found.CopyFrom(config_of(goal))
            if request.specs:
                found.spec.CopyFrom(goal.spec)
        return answer

    async def _read_watch(self, requests: AsyncIterator[control_pb2.WatchRequest]) -> None:
        request = view = None
        try:
            async for request in requests:
                self._controller.gateway_loads(request)
                if (said := _view(request)) != view:
                    view = said
                    self._controller.gateway_said(said)
        finally:
            if request is not None:
                self._controller.gateway_lost(request.gateway_id, request.pid)


class LeaseServicer:
    """The controller's side of ReplicaService: Register. Session is the replica's side."""

    def __init__(self, controller: Controller) -> None:
        self._registrations = controller.registrations

    async def register(
        self, requests: AsyncIterator[replica_pb2.RegisterRequest], context: Context
    ) -> AsyncIterator[replica_pb2.RegisterResponse]:
        """A replica's lease."""
        first = await anext(requests, None)
        if first is None:
            return
        hello = first.hello
        try:
            assignment = self._registrations.take(hello)
        except FairleadError as error:
            await _abort(context, error)
        lease = self._registrations.leases.open(hello.replica_id)
        reader = asyncio.create_task(self._read_lease(hello.replica_id, lease, requests))
        try:
            if assignment is not None:
                yield replica_pb2.RegisterResponse(assignment=assignment)
            async for command in lease.commands():
                yield command
        finally:
            reader.cancel()
            if self._registrations.leases.close(hello.replica_id, lease):
                self._registrations.lost(hello.replica_id)

    async def _read_lease(
        self, replica_id: str, lease: Lease, requests: AsyncIterator[replica_pb2.RegisterRequest]
    ) -> None:
        try:
            async for request in requests:
                self._registrations.event(replica_id, request)
        finally:
            lease.end()


def make_server(controller: Controller, stop: Callable[[], Awaitable[None]]) -> aio.Server:
    """The gRPC server of a controller, bound to its Unix socket, not started. Needs a running loop.

    ``stop`` ends the instance and returns when all but the controller have ended.
    """
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    control_pb2_grpc.add_ControlServiceServicer_to_server(ControlServicer(controller, stop), server)
    register = grpc.stream_stream_rpc_method_handler(
        LeaseServicer(controller).register,
        request_deserializer=replica_pb2.RegisterRequest.FromString,
        response_serializer=replica_pb2.RegisterResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("fairlead.v1.ReplicaService", {"Register": register}),)
    )
    server.add_insecure_port(controller.settings.address)
    os.chmod(controller.settings.address.removeprefix("unix:"), 0o600)
    return server


def _expected(request: control_pb2.DeployRequest | control_pb2.DeleteRequest) -> int | None:
    return request.expected_generation if request.HasField("expected_generation") else None


def _view(request: control_pb2.WatchRequest) -> GatewayView:
    return GatewayView(
        gateway_id=request.gateway_id,
        pid=request.pid,
        applied_version=request.applied_version,
        trusted_address=request.trusted_address,
        grpc_address=request.grpc_address,
        http_address=request.http_address,
        session_address=request.session_address,
        grpc_tls=request.grpc_tls,
        http_tls=request.http_tls,
    )


async def _abort(context: Context, error: FairleadError) -> NoReturn:
    status = outcome_of(error).status
    details = ((_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(error.code, error.message, trailing_metadata=details)
