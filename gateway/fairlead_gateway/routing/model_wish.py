"""What a call with a model id remembers of its way to a replica."""

from __future__ import annotations


class ModelWish:
    """The model that a call is for, at a deployment whose replicas report their models."""

    __slots__ = ("held", "model_id", "since", "until", "waits")

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.held = False
        """Whether the replica that was picked has the model."""
        self.waits = False
        """Whether a replica is free, and the call rather waits for one that has the model."""
        self.until: float | None = None
        """Until when it may wait so, by the deployment's clock; None: not decided."""
        self.since = -1.0
        """When it was sent to a replica; negative: it is on none."""

    def __repr__(self) -> str:
        return f"<ModelWish {self.model_id!r} held={self.held} waits={self.waits}>"
