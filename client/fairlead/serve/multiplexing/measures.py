"""What the models of a multiplexed function measure. The names are Ray Serve's."""

from __future__ import annotations

from fairlead.serve.measures import PROCESS

_LABEL = "function_name"


class ModelMeasures:
    """The measurements of one decorated function or method."""

    def __init__(self, function: str) -> None:
        latency, counter = PROCESS.latency, PROCESS.counter
        loading = latency("serve_multiplexed_model_load_latency_ms", "Time that loads took.", _LABEL)
        unloading = latency("serve_multiplexed_model_unload_latency_ms", "Time that unloads took.", _LABEL)
        asking = counter("serve_multiplexed_get_model_requests_counter", "Times a model was asked for.", _LABEL)
        self._load, self._unload, self._gets = loading.cell(function), unloading.cell(function), asking.cell(function)
        self._loads = counter("serve_multiplexed_models_load_counter", "Models loaded.", _LABEL).cell(function)
        self._unloads = counter("serve_multiplexed_models_unload_counter", "Models unloaded.", _LABEL).cell(function)
        self._there = PROCESS.gauge("serve_num_multiplexed_models", "Models that are loaded.", _LABEL).cell(function)

    def asked(self) -> None:
        """Somebody wants a model."""
        self._gets.value += 1

    def loaded(self, seconds: float, there: int) -> None:
        """A model has been loaded; so many are there now."""
        self._loads.value += 1
        self._load.observe(seconds * 1e3)
        self._there.value = there

    def unloaded(self, seconds: float, there: int) -> None:
        """A model has been unloaded; so many are there now."""
        self._unloads.value += 1
        self._unload.observe(seconds * 1e3)
        self._there.value = there
