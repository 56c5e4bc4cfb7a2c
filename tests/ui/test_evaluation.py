"""`unmask evaluate` as a user runs it: tables, JSON, the HTML report, resuming, and wrong usage."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from detectors import fusion
from train.evaluate import report
from ui.cli import main
from ui.evaluation import render

SAMPLES = Path(__file__).parents[2] / "ui" / "samples"
Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """The console script's function in this process: exit status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder real/ and fake/ with one picture each."""
    for label in ("real", "fake"):
        (tmp_path / "data" / label).mkdir(parents=True)
        shutil.copy(SAMPLES / f"astronaut-{label}.jpg", tmp_path / "data" / label)
    return tmp_path / "data"


def test_a_folder_gives_tables_json_and_a_report_and_goes_on_from_what_was_kept(
    labelled: Path, tmp_path: Path, script: Script
) -> None:
    page, numbers, kept = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "kept"
    arguments = ("--data", labelled, "--save", kept, "--perturb", "blur", "--jobs", 2, "--detectors", "mesonet")
    status, out, errors = script(*arguments, "--json", numbers, "--report", page)
    assert status == 0, errors
    assert "2 files" in out and "AUC" in out and "blur-3" in out and "mesonet" in out
    found = json.loads(numbers.read_text())
    assert {row["label"] for row in found["scores"]} == {0, 1} and found["robustness"]["blur"]
    assert set(found["levels"]) == {"frame", "clip", "track", "video"}
    assert page.read_text().startswith("<!doctype html>") and "Robustness" in page.read_text()
    count = len(list(kept.iterdir()))
    assert count == 8
    status, out, _ = script(*arguments, "--json", "-", "--level", "track")
    again = json.loads(out)
    assert status == 0 and set(again["levels"]) == {"track"} and len(list(kept.iterdir())) == count
    assert again["scores"] == found["scores"] and again["overall"] == found["overall"]


def test_files_that_cannot_be_analysed_are_shown_and_the_exit_says_so(labelled: Path, script: Script) -> None:
    (labelled / "fake" / "broken.jpg").write_text("no picture")
    status, out, _ = script("--data", labelled, "--detectors", "mesonet")
    assert status == 3 and "3 files, 67% of them with a score" in out and "failed" in out


def test_files_that_the_calibration_saw_are_refused_by_name_unless_that_is_allowed(
    labelled: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = fusion.load_fusion()
    assert shipped is not None
    seen = hashlib.sha256((labelled / "fake" / "astronaut-fake.jpg").read_bytes()).hexdigest()
    model = shipped.model_copy(update={"saw": [seen[: fusion.DIGITS]]})
    monkeypatch.setattr(fusion, "load_fusion", lambda path: model)
    status, _, errors = script("--data", labelled, "--detectors", "mesonet")
    assert status == 2 and "--allow-fitted" in errors
    assert "1 of the 2 files were used to fit the calibration or the fusion: astronaut-fake.jpg" in " ".join(
        errors.split()
    )
    numbers = tmp_path / "r.json"
    status, out, _ = script("--data", labelled, "--detectors", "mesonet", "--allow-fitted", "--json", numbers)
    assert status == 0 and json.loads(numbers.read_text())["fitted_on_these"] == 1 and "flatter" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--perturb", "clasic"), "did you mean 'classic'"),
        (("--level", "frames"), "there are frame, clip, track, video and all"),
        (("--detectors", "nobody"), "nobody"),
        (("--report", "no/such/folder/r.html"), "--report no/such/folder/r.html"),
        (("--json", "no/such/folder/r.json"), "--json no/such/folder/r.json"),
        (("--split", "test", "--sha-prefix", "0"), ""),
        (("--save", "/dev/null/x"), "--save /dev/null/x"),
        (("--limit", "0"), "limit"),
    ],
)
def test_wrong_usage_is_told_before_any_analysis(
    labelled: Path, arguments: tuple[str, ...], said: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.measure.analyse_file", lambda *_: pytest.fail("analysed"))
    if not said:  # a filter that leaves nothing
        (labelled / "MANIFEST.csv").write_text("path,label,split\nreal/astronaut-real.jpg,real,dev\n")
        said = "no labelled media found left after --split test"
    status, _, errors = script("--data", labelled, *arguments)
    assert status == 2 and said in errors and "fault of unmask" not in errors


def test_a_wrong_manifest_is_named_with_its_line(labelled: Path, script: Script) -> None:
    (labelled / "MANIFEST.csv").write_text("path,label\nreal/astronaut-real.jpg,real\nfake/x.jpg,unknown\n")
    status, _, errors = script("--data", labelled / "MANIFEST.csv")
    assert status == 2 and "MANIFEST.csv, line 3: label 'unknown' is not real, fake, 0 or 1" in errors


def test_the_terminal_shows_what_is_not_defined_and_what_is_partial() -> None:
    console = Console(width=140, record=True)
    with console.capture() as shown:
        console.print(render(report([]) | {"partial": True, "planned": 7}))
        console.print(render(report([]) | {"partial": True, "planned": 7, "robustness": {}}))
    assert "0 files" in shown.get() and "–" in shown.get() and "Interrupted: 0 of 7 files; --save" in shown.get()
    assert "0 of 7 files, and --perturb lacks files and steps; --save" in shown.get()
