"""A report is one page with everything in it, harmless whatever files are called, and can be run again."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile import build
from PIL import Image
from pypdf import PdfReader
from results import detector, face, result
from typer.testing import CliRunner, Result

from detectors.result import Analysis
from preprocessing.errors import UndecodableMedia
from preprocessing.landmark_files import write_lrnet_txt
from ui.cli import app
from ui.errors import UsageError
from ui.report import Report, finished_report, form_of, picture_names
from ui.report_verify import differences, read_report
from ui.samples import FOLDER


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the bundled clip and a broken file, by the command line and the shipped weights."""
    folder = tmp_path_factory.mktemp("report")
    clip = shutil.copy(FOLDER / "astronaut-clip.mp4", folder / "clip.mp4")
    done = run("scan", clip, build("jpeg_cut", folder), "--detectors", "mesonet,lrnet", "--report", folder / "r.html")
    assert done.exit_code == 3  # one of them is broken
    return folder / "r.html"


def test_the_page_needs_nothing_else_and_has_everything(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "@import" not in text
    for piece in (
        "clip.mp4",
        "cut.jpg",
        "mesonet-compact",
        "sha256",
        "data:image/jpeg;base64",
        "<svg",
        "Where mesonet",
    ):
        assert piece in text, piece
    found = read_report(page)
    assert [list(answer) for answer in found["answers"]] == [["name", "result", "weights"], ["name", "error"]]
    assert str(page.parent) not in text, "of a path the name alone"
    assert len(found["answers"][0]["weights"]["mesonet"]) == 64 and "blending" in found["limits"]["mesonet"]
    assert found["settings"]["detectors"] == ["mesonet", "lrnet"]


def test_a_report_can_be_run_again(page: Path) -> None:
    done = run("scan", "--verify", page)
    assert done.exit_code == 0 and "clip.mp4: reproduces" in done.output and "cut.jpg: reproduces" in done.output


def test_a_report_of_failures_is_verified_too(tmp_path: Path) -> None:
    broken, report = build("text", tmp_path), tmp_path / "r.json"
    run("scan", broken, tmp_path / "missing.jpg", "--report", report)
    done = run("scan", "--verify", report)
    assert done.exit_code == 0 and done.output.count(": reproduces") == 2
    broken.unlink()
    done = run("scan", "--verify", report)
    assert done.exit_code == 3 and f"{broken.name}: not found beside the report" in done.output
    shutil.copy(FOLDER / "astronaut-real.jpg", broken)
    done = run("scan", "--verify", report)
    assert done.exit_code == 3 and "could not be analysed then" in done.output and "can be now" in done.output


@pytest.mark.parametrize("form", ["json", "pdf"])
def test_landmarks_are_run_again_from_every_form_wherever_the_file_lies(form: str, tmp_path: Path) -> None:
    write_lrnet_txt(tmp_path / "marks.txt", np.random.default_rng(0).normal(0, 0.3, (90, 136)))
    (tmp_path / "away").mkdir()
    report = tmp_path / "away" / f"r.{form}"
    run("scan", tmp_path / "marks.txt", "--extractor", "dlib68", "--report", report)
    assert read_report(report)["extractor"] == "dlib68"
    done = run("scan", "--verify", report)
    assert done.exit_code == 3 and "marks.txt: not found beside the report or here" in done.output
    done = run("scan", "--verify", report, tmp_path)
    assert done.exit_code == 0 and "marks.txt: reproduces" in done.output


def test_a_finished_analysis_becomes_a_pdf_with_the_same_content() -> None:
    done = result()
    crop, grey = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "#a08070").save(crop, "JPEG")
    Image.new("L", (16, 16), 90).save(grey, "PNG")
    assert picture_names(done) == ["heatmaps/m/0-12.jpg", "heatmaps/m/0-12.png"]
    report = finished_report(done, dict(zip(picture_names(done), (crop.getvalue(), grey.getvalue()), strict=True)))
    reader = PdfReader(io.BytesIO(report.render("pdf")))
    text = "\n".join(page.extract_text() for page in reader.pages)
    for piece in ("Likely manipulated", "clip.mp4", "93 %", "Where the detectors look", "a" * 64, "How to read this"):
        assert piece in text, piece
    attached = json.loads(reader.attachments["unmask-report.json"][0])
    assert attached["settings"]["detectors"] == ["lrnet", "mesonet"] and attached == report.document()
    assert len(reader.pages[0].images) == 1


def test_a_pdf_is_made_of_a_file_without_faces_and_of_any_name(tmp_path: Path) -> None:
    report = finished_report(result("no_face", faces=[], score=None, interval=None), {})
    report.fail(tmp_path / "中文 \udcff.mp4", UndecodableMedia("no picture"))
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(report.render("pdf"))).pages)
    assert "No face found" in text and "Not analysed" in text and str(tmp_path) not in text


def test_the_ending_says_the_form() -> None:
    assert [form_of(Path(name)) for name in ("a.HTML", "a.htm", "a.pdf", "a.json")] == ["html", "html", "pdf", "json"]
    assert "ends in .html, .pdf or .json" in str(run("scan", "x.jpg", "--report", "r.docx").exception)


def test_another_score_and_another_file_are_told(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 0.3, (90, 136))
    write_lrnet_txt(tmp_path / "marks.txt", rows)
    write_lrnet_txt(tmp_path / "other.txt", rows + 0.1)
    report = tmp_path / "r.json"
    run("scan", tmp_path / "marks.txt", "--extractor", "dlib68", "--report", report)
    found = read_report(report)
    found["answers"][0]["result"]["faces"][0]["detectors"]["lrnet"]["score"] = 0.123
    report.write_text(json.dumps(found))
    done = run("scan", "--verify", report)
    assert done.exit_code == 3 and "lrnet gave face 0 0.123 and gives 0." in done.output
    done = run("scan", "--verify", report, tmp_path / "other.txt")
    assert done.exit_code == 3 and "another file" in done.output


def test_what_is_no_report_and_a_wrong_number_of_files_are_said(page: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html></html>")
    for path, words in ((tmp_path / "page.html", "no report"), (tmp_path / "gone.html", "No such file")):
        with pytest.raises(UsageError, match=words):
            read_report(path)
    done = run("scan", "--verify", page, "a.jpg", "b.jpg", "c.jpg")
    assert done.exit_code != 0 and "2 files, 3 are given" in str(done.exception)
    assert "nothing to scan" in str(run("scan").exception)


def test_names_cannot_write_into_the_page() -> None:
    hostile = result()
    hostile.media.name = "</script><script>alert(1)</script><img src=x onerror=alert(1)>.mp4"
    hostile.reasons = ["<b>trust me</b>"]
    report = Report({})
    report.add(Path(hostile.media.name), Analysis(hostile))
    report.fail(Path("<i>x</i>.mp4"), UndecodableMedia("<u>broken</u>"))
    text = report.page()
    assert text.count("<script") == 1 and "<img src=x" not in text
    for tag in ("<b>trust", "<i>x", "<u>broken"):
        assert tag not in text


def test_differences_are_sentences() -> None:
    one, other = result(), result()
    assert differences(one.model_dump(mode="json"), other) == []
    other.verdict = "real"
    other.faces[0].detectors["mesonet"].weights = "other@1"
    del other.faces[0].detectors["lrnet"]
    told = differences(one.model_dump(mode="json"), other)
    assert told == [
        "the verdict was fake and is real",
        "lrnet took part only then",
        "mesonet had other weights: w@123456789012, now other@1",
    ]
    other.faces = []
    assert "there were 1 faces and there are 0" in differences(one.model_dump(mode="json"), other)


def test_a_report_says_how_maps_are_made_what_detectors_agree_on_and_what_speaks_for_re_encoding() -> None:
    crop, grey = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "#a08070").save(crop, "JPEG")
    Image.new("L", (16, 16), 90).save(grey, "PNG")
    done = result()
    pictures = dict(zip(picture_names(done), (crop.getvalue(), grey.getvalue()), strict=True))
    report = finished_report(done, pictures, maps={"mesonet": "grad-cam"})
    page = report.page()
    paper = "\n".join(one.extract_text() for one in PdfReader(io.BytesIO(report.render("pdf"))).pages)
    for text in (page, " ".join(paper.split())):
        for said in (
            "Only mesonet has a say",
            "Signs of re-encoding",
            "names no camera",
            "score 0.90",
            "A heatmap shows",
        ):
            assert said in text, said
        assert "Grad-CAM: coarse, and no proof" in text
    assert '<th class="words">Weights</th>' in page


def test_lines_of_many_detectors_and_their_legend_differ() -> None:
    many = {f"detector {number:02}": detector(0.5) for number in range(12)}
    report = finished_report(result(faces=[face(detectors=many)]), {})
    page = report.page()
    styles = dict(re.findall(r"\.(s\d+) \{ (stroke: [^}]+)\}", page))
    drawn = re.findall(r'<path class="line (s\d+)" d="M[\d. ]+L', page)
    legend = re.findall(r'<path class="line (s\d+)" d="M0 3H30"/>', page)
    assert drawn == legend and len({styles[name] for name in drawn}) == 12
    assert report.render("pdf").startswith(b"%PDF")
