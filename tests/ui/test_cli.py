"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hostile import build
from local_api import untrained
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from preprocessing.landmark_files import write_lrnet_txt
from ui.cli import app, main
from ui.samples import FOLDER
from ui.words import SCALE, STAGES

PORTRAIT = FOLDER / "astronaut-real.jpg"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    untrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_WEIGHTS", str(store))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program as a person runs it, in a process of its own."""
    line = [sys.executable, "-m", "ui.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The console script's function, its errors included, in this process: exit status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capsys.readouterr()
        return int(ended.value.code or 0), out, errors

    return call


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "ray", "cv2", "numpy", "pydantic", "streamlit", "gradio")
    code = f"import sys, ui.cli; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert "scan" in command("--help").stdout


def test_scan_prints_a_table_and_writes_everything_as_json(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    found = run("scan", PORTRAIT, "--json", out, "--heatmaps", tmp_path / "maps")
    assert found.exit_code == 0, found.output
    assert PORTRAIT.name in found.stdout and "mesonet" in found.stdout
    entry = json.loads(out.read_text())[0]
    assert entry["path"] == str(PORTRAIT)
    assert entry["result"]["schema"] == "unmask.result/1" and len(entry["result"]["faces"]) == 1
    written = sorted(p.suffixes[-1] for p in (tmp_path / "maps" / PORTRAIT.name / "heatmaps" / "mesonet").iterdir())
    assert written == [".jpg", ".jpg", ".png"]


def test_json_to_stdout_is_nothing_but_json() -> None:
    found = command("scan", PORTRAIT, "--json", "-", "--detectors", "mesonet")
    assert found.returncode == 0, found.stderr
    entries = json.loads(found.stdout)
    assert set(entries[0]["result"]["faces"][0]["detectors"]) == {"mesonet"}


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra 'onnx' is not installed")
def test_another_backend_is_named_with_every_score_and_asked_for_by_name(
    script: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, errors = script("scan", PORTRAIT, "--json", "-", "--detectors", "mesonet", "--backend", "onnx")
    assert status == 0, errors
    (score,) = json.loads(out)[0]["result"]["faces"][0]["detectors"].values()
    assert score["weights"].startswith("mesonet-untrained+onnx@")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, errors = script("scan", PORTRAIT, "--backend", "onnx")
    assert status == 2 and "unmask-forensics[onnx]" in errors


def test_bad_inputs_are_answered_by_name_and_reason_and_the_others_analysed(tmp_path: Path) -> None:
    bad = {
        kind: build(kind, tmp_path) for kind in ("empty", "text", "audio_only", "gif_animated", "png_huge", "jpeg_cut")
    }
    missing = tmp_path / "nowhere.png"
    out = tmp_path / "out.json"
    found = command("scan", *bad.values(), missing, tmp_path, PORTRAIT, "--json", out)
    assert found.returncode == 3
    entries = {entry["path"]: entry for entry in json.loads(out.read_text())}
    assert len(entries) == len(bad) + 3
    codes = {kind: entries[str(path)]["error"]["code"] for kind, path in bad.items()}
    assert codes == {
        "empty": "unsupported", "text": "unsupported", "audio_only": "unsupported", "gif_animated": "unsupported",
        "png_huge": "too_large", "jpeg_cut": "undecodable",
    }  # fmt: skip
    assert entries[str(missing)]["error"]["code"] == entries[str(tmp_path)]["error"]["code"] == "missing"
    assert entries[str(tmp_path)]["error"]["reason"].endswith("is a directory")
    assert "result" in entries[str(PORTRAIT)]
    for path in [*bad.values(), missing]:
        assert path.name in found.stdout
    assert "Traceback" not in found.stdout + found.stderr


def test_media_without_a_face_has_its_own_verdict_and_exit_status(tmp_path: Path) -> None:
    found = run("scan", build("noise_video", tmp_path))
    assert found.exit_code == 3
    assert "No face found" in found.stdout


def test_an_input_that_is_analysed_in_part_is_said_and_ends_with_3(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("scan", build("truncated", tmp_path), "--json", out).exit_code == 3
    result = json.loads(out.read_text())[0]["result"]
    assert result["incomplete"] and result["warnings"]


def test_a_folder_is_read_with_recursive(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.jpg").write_bytes(PORTRAIT.read_bytes())
    (tmp_path / "notes.md").write_text("no media")
    found = run("scan", tmp_path, "--recursive", "--detectors", "mesonet")
    assert found.exit_code == 0, found.output
    assert "one.jpg" in found.stdout and "1 files left out" in found.stderr


def test_a_name_that_could_write_to_the_terminal_is_made_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;owned\x07[bold red]b.png"
    path.write_text("no picture")
    found = run("scan", path)
    assert found.exit_code == 3
    assert "\x1b]0" not in found.stdout and "[bold red]" in found.stdout


def test_landmark_files_are_scored_and_say_when_they_are_out_of_domain(tmp_path: Path) -> None:
    rows = tmp_path / "face.txt"
    write_lrnet_txt(rows, np.random.default_rng(0).normal(0, 0.3, (90, 136)))
    out = tmp_path / "out.json"
    assert run("scan", rows, "--json", out).exit_code == 0
    result = json.loads(out.read_text())[0]["result"]
    assert result["media"]["kind"] == "landmarks" and result["media"]["frames_analysed"] == 90
    assert result["verdict"] == "inconclusive"
    scores = result["faces"][0]["detectors"]
    assert scores["lrnet"]["status"] == "out_of_domain" and 0 < scores["lrnet"]["score"] < 1
    assert scores["mesonet"]["status"] == "not_applicable" and scores["mesonet"]["score"] is None
    run("scan", rows, "--json", out, "--extractor", "dlib68")
    known = json.loads(out.read_text())[0]["result"]["faces"][0]["detectors"]["lrnet"]
    assert known["status"] == "ok" and known["score"] == scores["lrnet"]["score"]


def test_a_landmark_file_with_a_wrong_value_is_answered_by_line(tmp_path: Path) -> None:
    rows = tmp_path / "face.txt"
    rows.write_text("0.1 " * 135 + "oops\n")
    found = run("scan", rows)
    assert found.exit_code == 3 and "line 1" in found.stdout and "oops" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scan", "x.jpg", "--detectors", "mesonett"], "mesonett"),
        (["scan", "x.jpg", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["scan", "x.jpg", "--jason", "-"], "--json"),
        (["scna", "x.jpg"], "scan"),
        (["weights", "import", "mesonett", "x.pth"], "mesonet"),
        (["weights", "export", "nothing", "--out", "x"], "nothing"),
        (["evaluate", "--data", "nowhere"], "nowhere"),
        (["bench", "trakcing"], "tracking"),
        (["train", "nowhere.yaml", "--local"], "nowhere.yaml"),
    ],
)
def test_a_wrong_command_is_told_the_way_out_with_exit_2(
    arguments: list[str], said: str, script: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, errors = script(*arguments)
    assert status == 2, errors
    assert said in errors and "fault of unmask" not in errors


def test_a_settings_file_is_checked_key_by_key(tmp_path: Path, script: Callable[..., tuple[int, str, str]]) -> None:
    config = tmp_path / "limits.yaml"
    config.write_text("limits: {max_byte: 10}")
    status, _, errors = script("scan", PORTRAIT, "--config", config)
    assert status == 2 and "max_bytes" in errors
    config.write_text("limits: {max_bytes: 1000}")
    status, out, _ = script("scan", PORTRAIT, "--config", config)
    assert status == 3 and PORTRAIT.name in out


def test_an_unforeseen_error_is_one_line_and_a_way_out(
    script: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.listing.print_detectors", lambda as_json: 1 / 0)
    status, _, errors = script("detectors")
    assert status == 1 and "ZeroDivisionError" in errors and "--debug" in errors and "Traceback" not in errors
    monkeypatch.setenv("UNMASK_DEBUG", "")
    monkeypatch.setattr(sys, "argv", ["unmask", "detectors", "--debug"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_a_stop_by_ctrl_c_is_quiet(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ui.cli", "scan", str(FOLDER / "astronaut-clip.mp4")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    threads = Path(f"/proc/{process.pid}/task")
    give_up = time.monotonic() + 60
    while not any(each.read_text() for each in threads.glob("*/children")):  # until the confined reader runs
        assert time.monotonic() < give_up
        time.sleep(0.05)
    process.send_signal(2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors


def test_detectors_and_weights_are_listed_with_their_cards() -> None:
    rows = json.loads(run("detectors", "--json").stdout)
    assert {(row["name"], row["profile"]) for row in rows} >= {
        (n, p) for n in ("lrnet", "mesonet") for p in ("compact", "paper")
    }
    mesonet = next(row for row in rows if (row["name"], row["profile"]) == ("mesonet", "compact"))
    assert mesonet["weights"]["name"] == "mesonet-untrained" and mesonet["parameters"] > 10_000
    cards = json.loads(run("weights", "list", "--json").stdout)
    assert "mesonet-untrained" in {card["name"] for card in cards}


def test_weights_are_exported_and_a_damaged_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("weights", "export", "mesonet", "--out", tmp_path).exit_code == 0
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path))
    good = run("weights", "verify")
    assert good.exit_code == 0 and re.search(r"good\s+mesonet-untrained", good.stdout)
    file = tmp_path / "mesonet-untrained.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    bad = run("weights", "verify")
    assert bad.exit_code == 3 and "BAD   mesonet-untrained" in bad.stdout


def test_scan_draws_what_it_found_into_the_media_and_says_what_scores_mean(tmp_path: Path) -> None:
    found = run("scan", PORTRAIT, "--annotate", tmp_path, "--detectors", "mesonet")
    assert found.exit_code == 0, found.output
    assert SCALE in " ".join(found.stdout.split())
    with Image.open(tmp_path / PORTRAIT.name / "astronaut-real.annotated.jpg") as drawn, Image.open(PORTRAIT) as plain:
        assert drawn.size == plain.size
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(plain.convert("RGB"))).max() > 60
    refused = run("scan", PORTRAIT, "--annotate", PORTRAIT, "--detectors", "mesonet")
    assert "--annotate" in str(refused.exception) and "cannot be written" in str(refused.exception)


def test_a_terminal_shows_which_file_is_worked_on_and_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    monkeypatch.setattr("ui.scan.Console", lambda stderr: terminal)
    assert run("scan", PORTRAIT, "--detectors", "mesonet").exit_code == 0
    assert f"1/1 {PORTRAIT.name}" in shown.getvalue()
    assert any(words in shown.getvalue() for words in STAGES.values())


def test_lists_are_as_wide_as_other_tables_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert max(map(len, run("weights", "list").stdout.splitlines())) > 80
