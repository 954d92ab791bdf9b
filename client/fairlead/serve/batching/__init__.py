"""Dynamic batching: calls that come in one by one are handled together."""

from fairlead.serve.batching.accept import accept_batch
from fairlead.serve.batching.batcher import _RuntimeSummaryStatistics
from fairlead.serve.batching.decorator import batch

__all__ = ["_RuntimeSummaryStatistics", "accept_batch", "batch"]
