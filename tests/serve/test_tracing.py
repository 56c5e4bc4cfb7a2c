"""An analysis can be followed: each log line names it, and its spans are one trace whose id is its own."""

import io
import json
import logging
import subprocess
import sys

import pytest

from serve.tracing import ANALYSIS, JsonLines, during, log_lines

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What this process logs, as a deployment called `part` does."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logger = logging.getLogger("unmask")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    log_lines("part")
    return stream


def lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_names_the_analysis_only_while_it_lasts(written: io.StringIO) -> None:
    log = logging.getLogger("unmask.somewhere")
    log.info("before")
    with during(ID, "step", frames=3):
        log.warning("in %s", "between")
    log.info("after")
    before, between, end, after = lines(written)
    assert (before["level"], before["part"], before["logger"]) == ("info", "part", "unmask.somewhere")
    assert between["message"] == "in between" and between["analysis"] == end["analysis"] == ID
    assert (end["step"], end["frames"]) == ("step", 3) and 0 <= float(str(end["seconds"])) < 1
    assert "analysis" not in before and "analysis" not in after and ANALYSIS.get() == ""


def test_an_error_is_named_and_passes_on(written: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError), during(ID, "step"):
        raise ZeroDivisionError
    assert lines(written)[0]["error"] == "ZeroDivisionError"


def test_a_message_of_several_lines_stays_one(written: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("unmask").exception('a "quoted"\nmessage')
    (line,) = lines(written)
    assert line["message"] == 'a "quoted"\nmessage' and "ValueError: two\nlines" in str(line["trace"])
    assert "\n" not in JsonLines("x").format(logging.makeLogRecord({"msg": "a\nb"}))


def traced(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = f"from serve.tracing import *\n{code}"
    return subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)


def test_all_spans_of_an_analysis_are_one_trace_under_its_root() -> None:
    code = f"""
with during({ID!r}, ROOT, attempt=1):
    with during({ID!r}, 'tracking'): pass
    with during({"f" * 32!r}, 'landmarks'): pass  # of another analysis, in the same process
try:
    with during({ID!r}, 'mesonet'): raise ValueError('odd')
except ValueError: pass
"""
    found = traced(code, OTEL_TRACES_EXPORTER="console").stderr
    spans = {span["name"]: span for span in map(json.loads, found.splitlines())}
    root = spans["analysis"]
    assert root["parent_id"] is None and root["attributes"] == {"attempt": 1}
    assert root["context"]["trace_id"] == f"0x{ID}" and root["context"]["span_id"] == f"0x{ID[:16]}"
    for name in ("tracking", "mesonet"):
        assert spans[name]["context"]["trace_id"] == f"0x{ID}" and spans[name]["parent_id"] == f"0x{ID[:16]}"
    assert spans["landmarks"]["context"]["trace_id"] == "0x" + "f" * 32
    assert spans["mesonet"]["status"] == {"status_code": "ERROR", "description": "ValueError: odd"}


def test_without_an_exporter_nothing_of_opentelemetry_is_imported() -> None:
    code = f"import sys\nwith during({ID!r}, 'step'): pass\nprint('opentelemetry.sdk' in sys.modules)"
    assert traced(code).stdout.strip() == "False"


def test_spans_reach_a_collector() -> None:
    """By OTLP over HTTP, as the environment says."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}"
        traced(f"with during({ID!r}, ROOT): pass", OTEL_EXPORTER_OTLP_ENDPOINT=where)
        server.shutdown()
    assert bytes.fromhex(ID) in got[0] and b"unmask" in got[0]
