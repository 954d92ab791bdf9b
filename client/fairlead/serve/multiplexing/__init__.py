"""``@serve.multiplexed``: many models in few replicas, each loaded when it is asked for."""

from fairlead.serve.multiplexing.decorator import multiplexed

__all__ = ["multiplexed"]
