"""The instance that this process uses: its own, the user's standing one, or the one at ``FAIRLEAD_ADDRESS``."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from fairlead.serve import environment, standing
from fairlead.serve.connection import spread
from fairlead.serve.owned_instance import OwnedInstance, answers
from fairlead.v1 import control_pb2, control_pb2_grpc, session_pb2
from fairlead.wire.credentials import NONE, TLS_SCHEME, Credentials
from fairlead.wire.errors import FairleadError
from fairlead.wire.outcomes import error_of
from fairlead.wire.trust import Trust

logger = logging.getLogger("fairlead.serve")

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),  # code and constructor arguments go this way
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
)
_ANSWER_S = 30.0
_START_S = 60.0
_FAREWELL_S = 5.0
"""A controller that has answered that all others have ended has that long to end itself."""
_POLL_S = 0.02
_DETAILS_KEY = "grpc-status-details-bin"


class Instance:
    """A connection to a controller. Its methods block, and may be called from several threads."""

    def __init__(self, address: str, owned: OwnedInstance | None = None) -> None:
        """``owned``: set if the instance belongs to this process."""
        self.address = address
        """The controller's, as gRPC names it: "unix:/path". Or "host:port" or "https://host:port" of a gateway,
        which passes requests on to its controller where this program has proved who it is."""
        self.owned = owned
        self.other_gateways: tuple[str, ...] = ()
        """Where else calls can go; known once :meth:`gateway` was asked."""
        self._connecting = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: control_pb2_grpc.ControlServiceStub | None = None

    def __repr__(self) -> str:
        return f"<Instance {self.address}{' of this process' if self.owned else ''}>"

    @property
    def alive(self) -> bool:
        """Whether it may still be there; of one that is not this process's own that is not known."""
        return self.owned is None or self.owned.alive

    @property
    def remote(self) -> bool:
        """Whether it is known by a gateway's port only."""
        return not self.address.startswith("unix:")

    @property
    def controls(self) -> bool:
        """Whether this is an instance to deploy to and to look at; False: a gateway's port that takes calls only."""
        return not self.remote or environment.credentials().trust(self.address).may_run_code

    @property
    def away(self) -> bool:
        """Whether its controller has ended without being told to, while gateway workers take calls without it."""
        return self.owned is None and not self.remote and bool(standing.left_gateways(self.address))

    def gateway(self) -> tuple[str, Trust, Credentials]:
        """Where its gateway takes this process's calls, what it is trusted with there, and what to prove to it."""
        if self.remote:
            credentials = environment.credentials()
            _warn_of_plain_token(self.address, credentials)
            return self.address, credentials.trust(self.address), credentials
        addresses = self._gateway_addresses() if self.owned is None else self.owned.gateway_addresses
        address, self.other_gateways = spread(addresses, os.getpid())
        return address, Trust.OWNER, NONE

    def _gateway_addresses(self) -> list[str]:
        if left := standing.left_gateways(self.address):
            return left
        gateways = self.status().gateways
        if not gateways:
            raise FairleadError(f"the instance at {self.address} has no gateway")
        return [gateway.session_address for gateway in gateways]

    def deploy(self, spec: control_pb2.ApplicationSpec) -> int:
        """Has an application deployed; its generation. Raises FairleadError if it is refused."""
        with self._errors():
            return self._control().Deploy(control_pb2.DeployRequest(application=spec), timeout=_ANSWER_S).generation

    def deploy_all(
        self,
        specs: Sequence[control_pb2.ApplicationSpec],
        deleted: Sequence[str] = (),
        *,
        expected_generation: int | None = None,
        traffic: Sequence[control_pb2.TrafficPolicy] = (),
    ) -> list[int]:
        """Has applications deployed, all or none, and others deleted; their generations. Raises FairleadError.

        There is at least one to deploy. ``expected_generation`` of the first one: raises ChangedMeanwhileError if it
        has another one; 0: if it is there. ``traffic``: policies of the first one's endpoints to set along with it.
        """
        request = control_pb2.DeployRequest(
            application=specs[0],
            others=specs[1:],
            deleted=deleted,
            expected_generation=expected_generation,
            traffic=traffic,
        )
        with self._errors():
            answer = self._control().Deploy(request, timeout=_ANSWER_S)
        return [answer.generation, *answer.other_generations]

    def status(self) -> control_pb2.InstanceStatus:
        """The state of everything."""
        with self._errors():
            return self._control().GetStatus(control_pb2.GetStatusRequest(), timeout=_ANSWER_S).status

    def statuses(self) -> Iterator[control_pb2.InstanceStatus]:
        """The state of everything now, and at each change. Ends by being closed, or raises FairleadError."""
        with self._errors():
            watch = self._control().WatchStatus(control_pb2.WatchStatusRequest())
            try:
                for answer in watch:
                    yield answer.status
            finally:
                watch.cancel()

    def scale(self, application: str, deployment: str, num_replicas: int) -> int:
        """Changes how many replicas a deployment has; the application's generation. Raises FairleadError."""
        request = control_pb2.ScaleRequest(application=application, deployment=deployment, num_replicas=num_replicas)
        with self._errors():
            return self._control().Scale(request, timeout=_ANSWER_S).generation

    def set_traffic(self, application: str, policy: control_pb2.TrafficPolicy) -> None:
        """Spreads an endpoint's calls; returns when gateways do so. Raises FairleadError for what makes no sense."""
        request = control_pb2.SetTrafficRequest(application=application, policy=policy)
        with self._errors():
            self._control().SetTraffic(request, timeout=_ANSWER_S)

    def configs(self, *, specs: bool = False) -> list[control_pb2.ApplicationConfig]:
        """The configuration that each application was deployed with; ``specs``: and its whole specification."""
        request = control_pb2.GetConfigRequest(specs=specs)
        with self._errors():
            return list(self._control().GetConfig(request, timeout=_ANSWER_S).applications)

    def delete(
        self,
        name: str,
        *,
        wait: bool = True,
        force: bool = False,
        timeout_s: float = 60.0,
        expected_generation: int | None = None,
    ) -> None:
        """Deletes an application; with ``force`` calls under way are lost.

        Raises TimeoutError if it is not gone, without ``wait`` not noted, in time, and ChangedMeanwhileError as
        :meth:`deploy_all`.
        """
        request = control_pb2.DeleteRequest(
            application=name, no_wait=not wait, force=force, expected_generation=expected_generation
        )
        try:
            with self._errors():
                self._control().Delete(request, timeout=timeout_s)
        except FairleadError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"application {name!r} was not deleted within {timeout_s:g} s") from None
            raise

    def wait_until_ready(self) -> None:
        """Blocks until gateway workers serve. Raises RuntimeError if they cannot, TimeoutError after 60 s."""
        if self.owned is not None:
            self.owned.wait_for("ready", _START_S)

    def wait_until_running(
        self,
        name: str,
        generation: int,
        on_status: Callable[[control_pb2.ApplicationStatus], None],
        *,
        or_later: bool = False,
    ) -> None:
        """Blocks until that generation of an application serves; ``on_status`` hears of every change.

        Raises RuntimeError if it could not be deployed, was deleted or deployed anew. ``or_later``: it may be deployed
        anew, then that one must serve, or deleted, then there is nothing to wait for.
        """
        with self._errors():
            watch = self._control().WatchStatus(control_pb2.WatchStatusRequest())
            try:
                for answer in watch:
                    application = _find(answer.status, name)
                    if application is None or application.state == control_pb2.APPLICATION_STATE_DELETING:
                        if self.owned is not None:
                            self.owned.raise_failure()  # which deletes everything
                        if or_later:
                            return
                        raise RuntimeError(f"Deploying application {name} failed: it was deleted meanwhile.")
                    if application.generation > generation and not or_later:
                        raise RuntimeError(f"Deploying application {name} failed: it was deployed anew meanwhile.")
                    on_status(application)
                    if application.state == control_pb2.APPLICATION_STATE_DEPLOY_FAILED:
                        raise RuntimeError(f"Deploying application {name} failed: {application.message}")
                    if application.state == control_pb2.APPLICATION_STATE_RUNNING:
                        return
            finally:
                watch.cancel()
        raise FairleadError(f"the controller at {self.address} ended")

    def shut_down(self, timeout_s: float | None = None) -> None:
        """Ends the instance; blocks until all but the controller of a standing one have ended.

        Raises FairleadError if the controller does not answer at all, a frozen one for instance.
        """
        if self.owned is not None:
            self.close()
            self.owned.shut_down(timeout_s)
            return
        self.status()  # whose time is bounded: that of a drain is not
        with self._errors():
            self._control().Shutdown(control_pb2.ShutdownRequest(), timeout=timeout_s)
        self.close()
        deadline = time.monotonic() + _FAREWELL_S
        while not self.remote and answers(Path(self.address.removeprefix("unix:"))) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = self._stub = None

    def _control(self) -> control_pb2_grpc.ControlServiceStub:
        if not self.controls:
            raise FairleadError(
                f"{self.address} is a gateway's port, and takes nothing but calls from this program; deploying and "
                f"status go to the controller's Unix socket, or to https://host:port with {environment.TOKEN} or a "
                f"client certificate"
            )
        if self.owned is None and not self.remote and (why := standing.absence(self.address)):
            raise FairleadError(why)
        with self._connecting:
            if self._stub is None:
                if self.owned is not None:
                    self.owned.wait_for("listening", _START_S)
                self._channel = self._open_channel()
                self._stub = control_pb2_grpc.ControlServiceStub(self._channel)
            return self._stub

    def _open_channel(self) -> grpc.Channel:
        if not self.remote:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        credentials = environment.credentials()
        secured = credentials.for_channel()
        if credentials.token is not None:
            secured = grpc.composite_channel_credentials(secured, grpc.access_token_call_credentials(credentials.token))
        return grpc.secure_channel(self.address.removeprefix(TLS_SCHEME), secured, options=_OPTIONS)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns what gRPC raises into what the controller meant."""
        try:
            yield
        except grpc.RpcError as error:
            if self.owned is not None:
                self.owned.raise_failure()
            said = self._said(error)
            if not self.remote and error.code() is grpc.StatusCode.UNAVAILABLE:
                self.close()  # another controller may take its place, sooner than this channel would look for it
            if said is not None:
                raise said from None  # how it came here is of no use to anybody
            listens = self.remote or answers(Path(self.address.removeprefix("unix:")))
            why = error.details() if listens else "nothing listens there"
            raise FairleadError(f"the controller at {self.address} does not answer: {why}") from error

    def _said(self, error: Any) -> BaseException | None:
        """What the controller raised; None: it is not the controller that speaks."""
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS_KEY:
                outcome = session_pb2.Outcome()
                outcome.status.ParseFromString(value)
                return error_of(outcome, trusted=False)
        return None


def _warn_of_plain_token(address: str, credentials: Credentials) -> None:
    host = address.rpartition(":")[0].strip("[]")
    local = host == "localhost" or host == "::1" or host.startswith("127.")
    if credentials.token is not None and not address.startswith(TLS_SCHEME) and not local:
        logger.warning(
            "%s goes to %s in plain text, for everybody on the way to read; write https://%s if it speaks TLS",
            *(environment.TOKEN, address, address),
        )


def _find(status: control_pb2.InstanceStatus, name: str) -> control_pb2.ApplicationStatus | None:
    return next((application for application in status.applications if application.name == name), None)
