"""Whether and where an instance's programs trace: ``TracingConfig``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from fairlead.serve.code import capture_environment
from fairlead.serve.config import Settings
from fairlead.serve.validation import check_flag, check_number, check_text


@dataclass(frozen=True, kw_only=True)
class TracingConfig(Settings):
    """How gateway workers and replicas trace with OpenTelemetry; for the start of an instance."""

    enabled: bool = True
    """False: not at all, whatever OpenTelemetry's variables say."""
    exporter_import_path: str = ""
    """``package.module:function`` without arguments, which returns a span processor, an exporter, or a list of them.
    Empty: the exporters that ``OTEL_TRACES_EXPORTER`` names; without it spans are written to the programs' output."""
    sampling_ratio: float = 0.01
    """The fraction of traces that are kept, 0 to 1; a caller's ``traceparent`` decides for its own."""

    def __post_init__(self) -> None:
        check_flag("enabled", self.enabled)
        if self.exporter_import_path != "":
            check_text("exporter_import_path", self.exporter_import_path)
            if not all(_parts(self.exporter_import_path)):
                raise ValueError(
                    f"exporter_import_path must be 'package.module:function', not {self.exporter_import_path!r}"
                )
        check_number("sampling_ratio", self.sampling_ratio, at_least=0)
        if self.sampling_ratio > 1:
            raise ValueError(f"sampling_ratio must be at most 1, not {self.sampling_ratio!r}")

    @classmethod
    def given(cls, value: Self | Mapping[str, Any] | None) -> Self | None:
        """What a user gave; None: nothing. Raises ValueError, too, if this program could not trace so.

        Replicas and gateway workers run in the environment of this program: better that it fails here.
        """
        if value is None:
            return None
        config = cls.of(value)
        if config.enabled and importlib.util.find_spec("opentelemetry") is None:
            raise ValueError("tracing_config needs OpenTelemetry: pip install 'fairlead[tracing]'")
        if config.enabled and config.exporter_import_path:
            config.exporter()
        return config

    def exporter(self) -> Any:
        """The function that ``exporter_import_path`` names. Raises ValueError if there is none."""
        module, name = _parts(self.exporter_import_path)
        try:
            function = getattr(importlib.import_module(module), name)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(f"exporter_import_path '{self.exporter_import_path}' cannot be imported: {why}") from error
        if not callable(function):
            raise ValueError(f"exporter_import_path '{self.exporter_import_path}' is no function")  # noqa: TRY004
        return function

    def to_json(self) -> str:
        """For the instance's programs: with where this program finds its modules."""
        return json.dumps({**asdict(self), "sys_path": list(capture_environment().sys_path)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration; modules are found from now on where the program found them that gave it."""
        values = json.loads(text)
        sys.path += [entry for entry in values.pop("sys_path") if entry not in sys.path]
        return cls(**values)


def _parts(path: str) -> tuple[str, str]:
    """Module and name of an import path in either notation: "package.module:name", or "package.module.name"."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return module, name
