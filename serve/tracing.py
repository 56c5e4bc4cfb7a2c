"""Follow one analysis through all processes: its id in every log line, OpenTelemetry spans where they are asked for.

An analysis's id is the id of its trace too, so whoever has one has the other, and no context travels with the calls.
Spans are sent where the environment says, in OpenTelemetry's own words: OTEL_TRACES_EXPORTER=otlp with
OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=console.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

log = logging.getLogger("unmask.tracing")
ANALYSIS: ContextVar[str] = ContextVar("analysis", default="")
"""The id of the analysis that this task works for; empty outside one."""
_UNDER_WAY: Counter[str] = Counter()
ROOT = "analysis"
"""The step that spans all others: from the lease to the answer."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, part of the graph, analysis, message, and the stack trace of an error."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "part": self._part,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if analysis := ANALYSIS.get():
            line["analysis"] = analysis
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_lines(part: str) -> None:
    """Write what unmask logs in this process as JSON lines to standard error, which Ray keeps in the node's logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(part))
    logger = logging.getLogger("unmask")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def during(analysis: str, step: str, **facts: str | int | float) -> Iterator[None]:
    """What runs inside belongs to this analysis: log lines name it, one at the end tells its seconds; and a span.

    `analysis` is 32 hexadecimal digits, `facts` go into the last line and the span. An exception that leaves the
    context is named in both.
    """
    before = ANALYSIS.set(analysis)
    _UNDER_WAY[step] += 1
    tracer = _tracer()
    span = tracer.start_span(step, context=_parent(analysis, step), attributes=facts) if tracer else None
    began, fault = time.perf_counter(), ""
    try:
        yield
    except BaseException as error:
        fault = type(error).__name__
        if span is not None:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR, f"{fault}: {error}")
        raise
    finally:
        _UNDER_WAY[step] -= 1
        if span is not None:
            span.end()
        told = {"step": step, **facts, "seconds": round(time.perf_counter() - began, 4)}
        log.info("%s", step, extra={"facts": {**told, "error": fault} if fault else told})
        with suppress(ValueError):  # a stream may be closed by another task than the one that began it
            ANALYSIS.reset(before)


def under_way() -> dict[str, int]:
    """Steps that this process has in hand, by name."""
    return {step: count for step, count in _UNDER_WAY.items() if count}


def _parent(analysis: str, step: str) -> Context | None:
    """The analysis's root span, whoever made it. The root itself has none: its ids come from _ids."""
    if step == ROOT:
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    where = SpanContext(*_ids(analysis), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(where))


def _ids(analysis: str) -> tuple[int, int]:
    """Trace id and root span id."""
    return int(analysis, 16), int(analysis[:16], 16)


@cache
def _tracer() -> Tracer | None:
    """None where no exporter is asked for, or the packages are not there (which is said once)."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else "")
    if wanted in ("", "none"):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """A span without a parent is an analysis's root; all others get random ids."""

            def generate_trace_id(self) -> int:
                self._root = True
                return _ids(ANALYSIS.get())[0]

            def generate_span_id(self) -> int:
                root, self._root = getattr(self, "_root", False), False
                return _ids(ANALYSIS.get())[1] if root else super().generate_span_id()

        provider = TracerProvider(resource=Resource.create({"service.name": "unmask"}), id_generator=Ids())
        processor: SpanProcessor
        if wanted == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            one_line = ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")
            processor = SimpleSpanProcessor(one_line)
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
    except ImportError as error:
        log.warning("no traces: %s (pip install 'unmask-forensics[trace]')", error)
        return None
    provider.add_span_processor(processor)
    return provider.get_tracer("unmask")
