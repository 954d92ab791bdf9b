"""Dynamic batching: calls that come in one by one are handled together."""

from fairlead.serve.batching.batcher import _RuntimeSummaryStatistics
from fairlead.serve.batching.decorator import batch

__all__ = ["_RuntimeSummaryStatistics", "batch"]
