"""What programs rely on: the JSON of `unmask scan`, the shell's completion, and a --help that does not wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from results import result

from detectors.result import AnalysisResult
from preprocessing.errors import UndecodableMedia
from ui.scan import Scanned

FROZEN = Path(__file__).parent / "unmask.result-1.json"
HEAVY = {"torch", "cv2", "numpy", "ray", "streamlit", "gradio", "plotly", "sklearn", "scipy", "av", "fpdf", "pydantic"}


def shape(model: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema's objects with their fields' types, without titles, descriptions and defaults."""
    return {
        name: {key: kind(field) for key, field in one["properties"].items()}
        for name, one in {**model["$defs"], "AnalysisResult": model}.items()
    }


def kind(field: dict[str, Any]) -> Any:
    return {key: value for key, value in field.items() if key not in ("title", "description", "default")}


def test_no_field_of_the_result_goes_or_changes_its_type() -> None:
    now = shape(AnalysisResult.model_json_schema())
    for name, fields in json.loads(FROZEN.read_text()).items():
        for key, was in fields.items():
            assert now.get(name, {}).get(key) == was, f"{name}.{key} changed: that is unmask.result/2"


def test_each_answer_is_a_result_or_an_error_with_a_way_out() -> None:
    good = Scanned(Path("a.mp4"), result(), None).document()
    assert list(good) == ["path", "result"] and AnalysisResult.model_validate(good["result"]) == result()
    bad = Scanned(Path("b.mp4"), None, UndecodableMedia("it is cut", "send it again")).document()
    assert bad == {"path": "b.mp4", "error": {"code": "undecodable", "reason": "it is cut", "hint": "send it again"}}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "COMP_WORDS": "unmask eval", "COMP_CWORD": "1"}


def test_help_imports_nothing_heavy(environment: dict[str, str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from ui.cli import app; "
        "done = CliRunner().invoke(app, ['--help']); assert 'scan' in done.output, done.output; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not HEAVY & set(loaded.stdout.split())


def test_the_shell_completes_commands(environment: dict[str, str]) -> None:
    asked = {**environment, "_UNMASK_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", "import sys; sys.argv = ['unmask']; from ui.cli import main; main()"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=asked)
    assert found.stdout.split() == ["evaluate"]
