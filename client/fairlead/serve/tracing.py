"""OpenTelemetry traces across gateway, replicas and the calls between them, where a program has configured it.

Nothing is imported for it: a program that does not use OpenTelemetry pays for the look into ``sys.modules``. The
context travels in the metadata of calls, by whatever propagator is configured (W3C Trace Context is the default).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead.v1 import session_pb2
from fairlead.variables import TRACING

logger = logging.getLogger(__name__)

Carrier = tuple[tuple[str, str], ...]
"""A trace's context as metadata."""

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
KEYS = frozenset({"traceparent", "tracestate", "baggage", "b3", "uber-trace-id", "x-amzn-trace-id"})
"""Fields that propagators use."""
_NAME = "fairlead"


def set_up(environment: Mapping[str, str], service: str) -> bool:
    """Configures OpenTelemetry in a program of an instance, if its variables ask for traces. Whether it did.

    A ``TracingConfig`` that the instance was started with comes first. ``OTEL_TRACES_EXPORTER`` names exporters as they
    are installed (``console``, ``otlp``, ...); without it, one of ``OTEL_EXPORTER_OTLP_ENDPOINT`` and
    ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` means ``otlp``. What the SDK and the exporters themselves read from variables
    counts as well. ``service``: the ``service.name``, unless they say one.
    """
    chosen = environment.get("OTEL_TRACES_EXPORTER", "")
    if not chosen and (environment.get(_ENDPOINT) or environment.get(_TRACES_ENDPOINT)):
        chosen = "otlp"
    names = [name.strip() for name in chosen.split(",") if name.strip() not in ("", "none")]
    configured = environment.get(TRACING, "")
    if not (names or configured) or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        if configured:
            return _follow(configured, names or ["console"], service, environment)
        _configure([_exporter(name, environment) for name in names], service, environment)
    except Exception as error:  # not installed, a bad value: serving goes on without traces
        logger.warning("traces are asked for; there are none: %s", error)
        return False
    return True


def _follow(configured: str, names: Sequence[str], service: str, environment: Mapping[str, str]) -> bool:
    """Configures what a ``TracingConfig``, in JSON, asks for. ``names``: the exporters if it names none."""
    from fairlead.serve.tracing_config import TracingConfig

    config = TracingConfig.from_json(configured)
    if not config.enabled:
        return False
    if config.exporter_import_path:
        made = config.exporter()()
        exporters = list(made) if isinstance(made, Iterable) else [made]
    else:
        exporters = [_exporter(name, environment) for name in names]
    _configure(exporters, service, environment, config.sampling_ratio)
    return True


def _exporter(name: str, environment: Mapping[str, str]) -> Any:
    """An exporter by the name that it is installed under. Raises LookupError, or what making it raises."""
    if name == "otlp":
        protocol = environment.get(_TRACES_PROTOCOL) or environment.get(_PROTOCOL) or "grpc"
        name = "otlp_proto_http" if protocol.startswith("http") else "otlp_proto_grpc"
    import importlib.metadata  # a program without traces does not wait for it

    for entry in importlib.metadata.entry_points(group="opentelemetry_traces_exporter", name=name):
        return entry.load()()
    raise LookupError(f"no OpenTelemetry exporter {name!r} is installed; pip install opentelemetry-exporter-otlp")


def _configure(
    exporters: Sequence[Any], service: str, environment: Mapping[str, str], ratio: float | None = None
) -> None:
    """``exporters``: these, or span processors. ``ratio``: of traces that are kept; None: as variables say."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(
        resource=Resource.create({} if named else {"service.name": service}),
        sampler=None if ratio is None else ParentBasedTraceIdRatio(ratio),
    )
    for exporter in exporters:
        processor = exporter if isinstance(exporter, SpanProcessor) else BatchSpanProcessor(exporter)
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)


def active() -> Any:
    """OpenTelemetry's ``trace`` module, if this program has configured it; else None."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return trace


def carried() -> Carrier:
    """The context of the span that runs now, for a call made in it; empty: there is none."""
    if "opentelemetry.trace" not in sys.modules or not active():
        return ()
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


def put(header: session_pb2.CallHeader, carrier: Carrier) -> session_pb2.CallHeader:
    """A copy of a header with a trace's context in the place of the one that it has."""
    result = session_pb2.CallHeader()
    result.CopyFrom(header)
    kept = [(entry.key, entry.value) for entry in header.metadata if entry.key not in KEYS]
    del result.metadata[:]
    for key, value in (*kept, *((key, value.encode("latin-1", "replace")) for key, value in carrier)):
        result.metadata.add(key=key, value=value)
    return result


def take(header: session_pb2.CallHeader, fields: Iterable[tuple[str, str | bytes]]) -> None:
    """Puts the context of a trace, out of a request's fields or metadata, into the header of its call."""
    for key, value in fields:
        if key in KEYS:
            header.metadata.add(
                key=key, value=value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            )


class CallSpan:
    """The span of one call in one program. ``kind``: a ``SpanKind``'s name."""

    __slots__ = ("_span", "_trace")

    def __init__(self, trace: Any, header: session_pb2.CallHeader, kind: str, attributes: Mapping[str, str]) -> None:
        """Starts it, as a child of what the header's metadata say."""
        from opentelemetry import propagate

        carrier = {entry.key: entry.value.decode("latin-1") for entry in header.metadata if entry.key in KEYS}
        name = f"{header.application or 'default'}/{header.deployment or '(ingress)'}.{header.method or '__call__'}"
        self._trace = trace
        self._span = trace.get_tracer(_NAME).start_span(
            name,
            context=propagate.extract(carrier),
            kind=trace.SpanKind[kind],
            attributes={"fairlead.request_id": header.request_id, "http.route": header.route, **attributes},
        )

    def enter(self) -> None:
        """Makes it the current one in this context, for the rest of it."""
        from opentelemetry import context

        context.attach(self._trace.set_span_in_context(self._span))

    def carrier(self) -> Carrier:
        """What a call on this one's behalf takes along."""
        from opentelemetry import propagate

        found: dict[str, str] = {}
        propagate.inject(found, context=self._trace.set_span_in_context(self._span))
        return tuple(found.items())

    def end(self, failure: str = "") -> None:
        """Ends it; ``failure``: what went wrong, in a word or a line."""
        if failure:
            self._span.set_status(self._trace.StatusCode.ERROR, failure)
        self._span.end()
