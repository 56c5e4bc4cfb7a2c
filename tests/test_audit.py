"""The audit of pinned packages fails on what is known, and not where nobody can be asked."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci/audit.py"


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT = {
    "dependencies": [
        {"name": "sound", "version": "1.0", "vulns": []},
        {"name": "skipped", "skip_reason": "not on PyPI"},
        {
            "name": "leaky",
            "version": "2.0",
            "vulns": [{"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"], "description": ""}],
        },
    ]
}


def test_what_is_known_is_named_with_what_mends_it(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.found(REPORT) == ["leaky 2.0: PYSEC-2026-1, mended by 2.1"]
    monkeypatch.setattr(audit, "EXCUSED", {"CVE-2026-1": "the function is not used"})
    assert audit.found(REPORT) == []


def test_every_excuse_has_a_reason(audit: Any) -> None:
    assert all(len(reason) > 10 for reason in audit.EXCUSED.values())


def test_a_closed_network_is_no_failure_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("pip==26.0\n")
    closed = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    asked = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "pins.txt"], env=closed, capture_output=True, text=True, timeout=120
    )
    assert asked.returncode == 0 and asked.stdout.startswith("not audited:"), asked.stdout + asked.stderr
