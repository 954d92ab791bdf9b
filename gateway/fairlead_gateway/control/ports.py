"""Ports that several gateway workers share, or that must be free again when one is restarted.

The controller binds each and never listens: so it is known before the first worker starts whether a port is to be had,
and one that was chosen freely is not given to another program while no worker runs. Workers bind it too (SO_REUSEPORT)
and share its connections.
"""

from __future__ import annotations

import dataclasses
import socket

from fairlead_gateway.control.gateways import Door, Doors
from fairlead_gateway.edge.binding import TcpListener, bind


class Ports:
    """The ports of an instance's doors, bound until the process ends."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def reserve(self, doors: Doors, *, shared_already: bool = False) -> Doors:
        """The same doors with the ports that they got. Raises BindError for one that is not to be had.

        ``shared_already``: workers that an earlier controller has started have them.
        """
        return dataclasses.replace(
            doors,
            http=self._reserved(doors.http, shared_already),
            grpc=self._reserved(doors.grpc, shared_already),
            shared=True,
        )

    def _reserved(self, door: Door | None, shared_already: bool) -> Door | None:
        if door is None:
            return None
        # Whether it is safe to listen there is for the worker to say, who knows its certificates: nobody listens yet.
        if door.port and not shared_already:
            # Another program that shares its ports would share this one with us, unasked.
            bind(TcpListener(host=door.host, port=door.port, insecure=True)).close()
        bound = bind(TcpListener(host=door.host, port=door.port, insecure=True, reuse_port=True))
        self._sockets.append(bound)
        return Door(host=door.host, port=bound.getsockname()[1])

    def close(self) -> None:
        """Frees them."""
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()
