"""A replica as a gateway worker sees it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from fairlead.v1 import session_pb2
from fairlead.wire.link import Link


def fingerprint(name: str) -> int:
    """A number of 64 bits that stands for a name, the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


class Replica:
    """A replica: its connection and its load. Belongs to the worker's loop."""

    __slots__ = (
        "address",
        "elsewhere",
        "fingerprint",
        "in_flight",
        "link",
        "load",
        "load_time_s",
        "models",
        "models_sent",
        "places",
        "replica_id",
        "reserved",
        "routing_stats",
        "sequence",
        "unavailable_models",
    )

    def __init__(self, replica_id: str, address: str) -> None:
        self.replica_id = replica_id
        self.address = address
        self.fingerprint = fingerprint(replica_id)
        self.link: Link | None = None
        """The session; None: not connected, so not to be picked."""
        self.in_flight = 0
        """The calls that this worker has on it, and the slots that it holds reserved: exact."""
        self.reserved = 0
        """Those slots: the replica knows nothing of them."""
        self.elsewhere = 0
        """The calls that it last reported beyond this worker's."""
        self.load = 0
        """Both together: what picking goes by."""
        self.sequence = 0
        self.models: frozenset[str] | None = None
        """The multiplexed models that it last reported, loaded or loading; None: it does not report any."""
        self.unavailable_models: frozenset[str] = frozenset()
        """Those that cannot be had there for now, as it reported."""
        self.places = 0
        """How many models it keeps at most, as it reported; 0: any number, or not known."""
        self.models_sent: dict[str, int] = {}
        """How many calls this worker has on it for each model: they have it loaded, if it is not reported yet."""
        self.routing_stats: Mapping[str, Any] = {}
        """What the deployment's ``record_routing_stats`` returned there last."""
        self.load_time_s = 0.0
        """How long it takes to load a model, as it reported; 0: not known."""

    def __repr__(self) -> str:
        state = "connected" if self.link is not None else "not connected"
        return f"<Replica {self.replica_id} {state} in_flight={self.in_flight} elsewhere={self.elsewhere}>"

    def take(self) -> None:
        """A call of this worker's goes to it."""
        self.in_flight += 1
        self.load += 1

    def release(self) -> None:
        """A call of this worker's has left it."""
        self.in_flight -= 1
        self.load -= 1

    def holds(self, model_id: str) -> bool:
        """Whether it has a model, or will have it by when another call for it arrives."""
        if model_id in self.unavailable_models:
            return False
        return model_id in self.models_sent or (self.models is not None and model_id in self.models)

    @property
    def model_count(self) -> int:
        """How many models it has, or will have."""
        models = self.models or ()
        return len(models) + sum(model_id not in models for model_id in self.models_sent)

    @property
    def in_use(self) -> int:
        """How many models this worker's calls on it are for."""
        return len(self.models_sent)

    def send_model(self, model_id: str) -> None:
        """A call for a model goes to it."""
        self.models_sent[model_id] = self.models_sent.get(model_id, 0) + 1

    def end_model(self, model_id: str) -> None:
        """A call for a model has left it. What it has of the model is in its reports by now: they come before ends."""
        left = self.models_sent[model_id] - 1
        if left:
            self.models_sent[model_id] = left
        else:
            del self.models_sent[model_id]

    def report(self, report: session_pb2.Load) -> None:
        """Takes in what it says of its load. Late reports are ignored.

        A report is of the moment its packet was made; the calls that this worker sent since are not in it, so the rest
        is an underestimate for as long as they travel: the replica refuses what is too much.
        """
        if report.HasField("models"):
            self.models = frozenset(report.models.model_ids)
            self.unavailable_models = frozenset(report.models.unavailable_model_ids)
            self.places = report.models.capacity
            self.load_time_s = report.models.load_time_us * 1e-6
        if report.HasField("routing_stats"):
            self.routing_stats = orjson.loads(report.routing_stats)
        if report.sequence > self.sequence:
            self.sequence = report.sequence
            self.elsewhere = max(0, report.ongoing - self.in_flight + self.reserved)
            self.load = self.in_flight + self.elsewhere
