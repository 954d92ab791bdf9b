"""The methods of typed services that can be called through this gateway, by their full names.

One :class:`RpcMethods` serves all doors of a worker: gRPC registers what it lists, HTTP transcodes it, gRPC-Web and
Connect find it by path. It follows the route table and is rebuilt where an interface has changed, so that a call costs
a look-up. ``fairlead.v1.ServingService`` is among them: its methods belong to no application, since each call's first
message names one.

How a call is made of a method, whatever door it came by::

    method = methods.find("/library.v1.LibraryService/GetBook", application)   # None: UNIMPLEMENTED
    header = session_pb2.CallHeader(timeout_us=..., request_id=..., metadata=...)
    payload = method.begin(header, first_message)      # also fills in whom the call is for
    router.start(header, payload, answer, trust=..., last=not method.client_streaming)
    ...                                                # call.send(method.further(message)) for each further message
    message = method.result(item, header)              # for each item of the answer

Messages are bytes of ``method.descriptor.input_type`` and ``output_type``; ``method.json`` converts them from and to
JSON. Half-closing a client stream is ``call.send(b"", last=True)``, never ``last`` on a message: messages may be empty.
:mod:`fairlead_gateway.edge.typed.calls` does all that for messages that come from an asynchronous iterator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from fairlead.v1 import control_pb2
from fairlead.wire.errors import ApplicationNotFoundError
from fairlead_gateway.edge.protojson import ProtoJson
from fairlead_gateway.edge.typed.descriptors import DescriptorError, pool_of
from fairlead_gateway.edge.typed.rpc_method import RpcMethod, TypedMethod, json_options
from fairlead_gateway.edge.typed.serving_methods import serving_methods
from fairlead_gateway.routing.deployment import Deployment
from fairlead_gateway.routing.table import Application, RouteTable

logger = logging.getLogger(__name__)


class ServiceKey(NamedTuple):
    """A service of an application."""

    application: str
    service: str


class RpcMethods:
    """All methods, kept up to date with a route table. Belongs to the table's event loop.

    Make it before what reads it in ``table.on_change``, or listen to its own ``on_change``.
    """

    def __init__(self, table: RouteTable) -> None:
        self.on_change: list[Callable[[], None]] = []
        """Called after services have come, gone or changed; not for each change of the table."""
        self.own: tuple[RpcMethod, ...] = serving_methods()
        """The methods of ServingService, but Session, which is for gRPC only."""
        self._table = table
        self._interfaces: dict[tuple[str, str], control_pb2.DeploymentInterface] = {}
        self._pools: dict[bytes, DescriptorPool] = {}
        self._services: dict[ServiceKey, ServiceDescriptor] = {}
        self._methods: dict[str, dict[str, RpcMethod]] = {}
        self._sole: dict[str, RpcMethod] = {}
        self._index()
        table.on_change.append(self._refresh)
        if table.populated:
            self._refresh()

    def __repr__(self) -> str:
        return f"<RpcMethods {sorted(self._methods)}>"

    # -- what doors ask

    def find(self, path: str, application: str = "") -> RpcMethod | None:
        """The method of that full name; None: there is no such one.

        ``application``: who shall serve it; needed where several offer it. Raises ApplicationNotFoundError.
        """
        if not application:
            sole = self._sole.get(path)
            if sole is not None:
                return sole
        offered = self._methods.get(path)
        if offered is None:
            return None
        found = offered.get(application) or offered.get("")
        if found is not None:
            return found
        known = ", ".join(repr(name) for name in sorted(offered))
        service = path[1:].partition("/")[0]
        if not application:
            raise ApplicationNotFoundError(
                f"Application metadata not set, and several applications offer {service}: {known}."
            )
        raise ApplicationNotFoundError(
            f"Application '{application}' not found among those that offer {service}: {known}."
        )

    def kind(self, path: str) -> tuple[bool, bool] | None:
        """Whether the client streams, and whether the server does; None: there is no such method."""
        offered = self._methods.get(path)
        if offered is None:
            return None
        method = next(iter(offered.values()))
        return method.client_streaming, method.server_streaming

    def of_application(self, application: str) -> list[RpcMethod]:
        """The methods that an application offers."""
        return [offered[application] for offered in self._methods.values() if application in offered]

    @property
    def services(self) -> Mapping[ServiceKey, ServiceDescriptor]:
        """The services of the applications."""
        return self._services

    def statuses(self) -> dict[str, bool]:
        """Each service's full name, and whether an application that offers it serves."""
        found: dict[str, bool] = {}
        for application, service in self._services:
            app = self._table.applications.get(application)
            found[service] = found.get(service, False) or (app is not None and app.serving)
        return found

    # -- following the table

    def _refresh(self) -> None:
        interfaces = {
            (app.name, deployment.name): deployment.interface
            for app in self._table.applications.values()
            for deployment in _ingress_first(app)
            if deployment.interface.typed_services
        }
        if list(interfaces) == list(self._interfaces) and interfaces == self._interfaces:
            return
        self._interfaces = interfaces
        pools, self._pools = self._pools, {}
        self._services = {}
        self._methods = {}
        for (application, deployment), interface in interfaces.items():
            try:
                pool = self._pools.get(interface.descriptor_set) or pools.get(interface.descriptor_set)
                if pool is None:
                    pool = pool_of(interface.descriptor_set)
                self._pools[interface.descriptor_set] = pool
                self._add(application, deployment, interface.typed_services, pool)
            except (DescriptorError, KeyError) as error:
                logger.warning("typed services of %s/%s are not served: %s", application, deployment, error)
        self._index()
        for listener in self.on_change:
            listener()

    def _add(
        self, application: str, deployment: str, services: Iterable[control_pb2.TypedService], pool: DescriptorPool
    ) -> None:
        for service in services:
            key = ServiceKey(application, service.name)
            if key in self._services:
                continue  # the ingress deployment's comes first
            descriptor = self._services[key] = pool.FindServiceByName(service.name)
            json = ProtoJson(pool, json_options(service.json))
            for method in descriptor.methods:
                typed = TypedMethod(method, application, deployment, json, service.json)
                if self.kind(typed.path) in (None, (typed.client_streaming, typed.server_streaming)):
                    self._methods.setdefault(typed.path, {})[application] = typed
                else:
                    logger.warning("%r is not served: it streams where the others of that name do not", typed)

    def _index(self) -> None:
        for method in self.own:
            self._methods[method.path] = {"": method}
        self._sole = {
            path: next(iter(offered.values())) for path, offered in self._methods.items() if len(offered) == 1
        }


def _ingress_first(app: Application) -> list[Deployment]:
    return sorted(app.deployments.values(), key=lambda deployment: (deployment.name != app.ingress, deployment.name))
