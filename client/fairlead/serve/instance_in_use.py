"""The instance that this process uses, its own or one that is there to be used, and what there is to know of it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from fairlead.serve import connection, context, environment, standing
from fairlead.serve.doors import Doors
from fairlead.serve.handle import DeploymentHandle
from fairlead.serve.instance import Instance
from fairlead.serve.owned_instance import OwnedInstance
from fairlead.serve.status import ServeStatus, serve_status
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

logger = logging.getLogger("fairlead.serve")

_AT_EXIT_S = 5.0

_NOT_RUNNING = "There is no Fairlead instance running. Call `serve.run(...)` or `serve.start()` to start one."


class InstanceInUse:
    """What a process knows of its instance. From any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held by whoever looks for the instance, starts it or ends it."""
        self.instance: Instance | None = None
        self.handles: OrderedDict[tuple[str, str], DeploymentHandle[Any]] = OrderedDict()
        """Those that were asked for, by deployment and application, the least recently asked for first."""
        self.deployed: set[str] = set()
        """The applications that this process has deployed to an instance that is not its own."""
        self._exit_registered = False

    def __repr__(self) -> str:
        return f"<InstanceInUse {self.instance!r}>"

    def existing(self) -> Instance:
        """The instance. Raises FairleadError if there is none."""
        instance = self.found()
        if instance is None:
            raise FairleadError(_NOT_RUNNING)
        return instance

    def found(self) -> Instance | None:
        """The instance; None: there is none. Raises as :meth:`find`."""
        with self.lock:
            return self.find()

    def found_or_started(self) -> Instance:
        """The instance, a new one if there is none."""
        with self.lock:
            self.warn_of_ended()
            return self.find() or self.start(Doors())

    def find(self) -> Instance | None:
        """The instance in use, else the one that is there to be used; with the lock held.

        Raises FairleadError, once, if there was one and its controller has ended without being told to.
        """
        if ending := self.remove_ended():
            raise FairleadError(f"{ending}. What it ran was ended, too; `serve.run(...)` starts anew.")
        instance = self.instance
        if instance is not None:
            return instance
        address = environment.address() or standing.address()
        if address is None:
            return None
        return self._use(Instance(address))

    def remove_ended(self) -> str:
        """Removes what an instance has left whose controller has ended; says how, if it was not told to."""
        instance = self.instance
        if instance is None or instance.owned is None:
            return ""
        if instance.owned.owner != os.getpid():
            # A fork: the instance is the parent's, and so is the connection to it.
            self.instance = Instance(instance.address)
            return ""
        if instance.alive:
            return ""
        ending = instance.owned.ending
        self.forget()
        instance.shut_down()
        return ending

    def warn_of_ended(self) -> None:
        """As :meth:`remove_ended`, before another one is started."""
        if ending := self.remove_ended():
            logger.warning("%s. What it ran was ended, too; another instance is started.", ending)

    @contextlib.contextmanager
    def forgotten_if_it_failed(self, instance: Instance) -> Iterator[None]:
        """An instance that could not start is over when whoever started it hears why."""
        try:
            yield
        except RuntimeError:
            if instance.owned is not None and instance.owned.failed:
                with self.lock:
                    if self.instance is instance:
                        self.forget()
                    instance.shut_down()
            raise

    def start(self, doors: Doors) -> Instance:
        """Starts one that ends with this process, and does not wait for it."""
        owned = OwnedInstance(doors)
        if not self._exit_registered:
            self._exit_registered = True
            atexit.register(self._at_exit)
        return self._use(Instance(owned.address, owned))

    def _use(self, instance: Instance) -> Instance:
        self.instance = instance
        if not context.is_replica():
            # A replica has been told by its controller.
            connection.set_address(*instance.gateway(), alternates=instance.other_gateways)
        return instance

    def forget(self) -> None:
        """It is used no more, nor is the connection to it."""
        self.instance = None
        self.handles.clear()
        connection.close()

    def _at_exit(self) -> None:
        instance = self.instance
        if instance is not None and instance.owned is not None:
            self.instance = None
            connection.close()  # nobody can await this program's calls any more: the drain need not wait for them
            with contextlib.suppress(KeyboardInterrupt):  # it has cut the drain short
                instance.shut_down(_AT_EXIT_S)


current = InstanceInUse()
"""That of this process."""


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
