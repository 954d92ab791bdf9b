"""What a batched function measures. The names are Ray Serve's."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.serve.measures import HISTOGRAM, PROCESS, Family

_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_LABEL = "function_name"


class BatchMeasures:
    """The measurements of one function, whatever object and loop its batches run for."""

    def __init__(self, function: str) -> None:
        latency = PROCESS.latency
        self._wait = latency("serve_batch_wait_time_ms", "Time that calls waited.", _LABEL).cell(function)
        self._execution = latency("serve_batch_execution_time_ms", "Time that batches ran.", _LABEL).cell(function)
        sizes = PROCESS.add(Family("serve_actual_batch_size", "Calls of a batch.", HISTOGRAM, (_LABEL,), _SIZES))
        self._sizes = sizes.cell(function)
        self._processed = PROCESS.counter("serve_batches_processed", "Batches that have run.", _LABEL).cell(function)
        self._queue = PROCESS.gauge("serve_batch_queue_length", "Calls that wait for a batch.", _LABEL).cell(function)
        used = PROCESS.gauge("serve_batch_utilization_percent", "Size of the last batch, of the largest.", _LABEL)
        self._used = used.cell(function)

    def started(self, waited_s: Sequence[float], largest: int, waiting: int) -> None:
        """A batch starts: how long each of its calls has waited, its largest size, and how many calls still wait."""
        for seconds in waited_s:
            self._wait.observe(seconds * 1e3)
        self._sizes.observe(len(waited_s))
        self._used.value = 100.0 * len(waited_s) / max(1, largest)
        self._queue.value = waiting

    def ended(self, seconds: float) -> None:
        """A batch has run."""
        self._processed.value += 1
        self._execution.observe(seconds * 1e3)
