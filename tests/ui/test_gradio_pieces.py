"""What the Gradio demo draws of an answer: pictures with readable captions, and two faces on one map."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from results import detector, face, media, result

from detectors.gallery import galleries
from ui import gradio_texts as texts
from ui.gradio_demo import _looks
from ui.gradio_pairs import _both_placed, _shown, _side_by_side, fake_and_ask
from ui.samples import FOLDER


class Pictures:
    """A client that has every picture."""

    def artifact(self, analysis: str, name: str) -> bytes:
        out = io.BytesIO()
        picture = Image.new("L", (32, 32), 90) if name.endswith(".png") else Image.new("RGB", (32, 32), "#a08070")
        picture.save(out, "PNG" if name.endswith(".png") else "JPEG")
        return out.getvalue()


def test_heatmaps_stand_under_their_detector_with_moment_and_score() -> None:
    client: Any = Pictures()
    page = _looks(client, "a", result())
    assert "Where mesonet looks" in page and "0:00.5 · score 0.90" in page and page.count("<img") == 1
    still = _looks(client, "a", result(faces=[face(1), face(2, 0.99)], media=media(kind="image")))
    assert still.index("Person 2: Where mesonet looks") < still.index("Person 1: Where"), "the most suspicious first"
    assert "0:00.5" not in still and still.count("score 0.90") == 2
    plain = face(3, detectors={"mesonet": detector(0.5)}, thumbnail="faces/3.jpg")
    assert "Person 3" in _looks(client, "a", result(faces=[plain]))
    assert _looks(client, "a", result("no_face", faces=[])) == ""


def test_a_fake_without_a_seed_or_a_picture_is_asked_for(tmp_path: Path) -> None:
    desk: Any = None
    (said,) = fake_and_ask(desk, str(FOLDER / "astronaut-real.jpg"), "sbi", None)
    assert "The seed is missing" in said[1] and len(said) == 8
    (said,) = fake_and_ask(desk, None, "sbi", 1)
    assert "No picture was given" in said[1] and len(said) == 8
    bad = tmp_path / "a.png"
    bad.write_text("no picture")
    (said,) = fake_and_ask(desk, str(bad), "sbi", 1)
    assert "a.png" in said[1] and len(said) == 8


def test_two_faces_are_named_on_the_map_that_has_both() -> None:
    name, gallery = next(iter(galleries().items()))
    weights = f"x@{gallery.weights}"
    one, other = (
        face(detectors={name: detector(score, embedding=(gallery.mean + shift).tolist(), weights=weights)})
        for score, shift in ((0.2, 0.0), (0.9, 0.5))
    )
    title, figure = _both_placed(one, other)
    assert title == texts.AMONG_ONE.format(name=name)
    stars = figure.data[-2:]
    assert [star.text[0] for star in stars] == ["first", "second"]
    assert [star.marker.symbol for star in stars] == ["star-open", "star"] and stars[0].marker.line.width == 3
    assert _both_placed(one, face()) == ("", None)


def test_heatmaps_of_a_pair_come_in_pairs_and_a_large_picture_is_shown_small(tmp_path: Path) -> None:
    looks = {"mesonet": (b"x", texts.SCORE_OF.format(which="first", score="0.25"))}
    page = _side_by_side(looks, looks)
    assert page.count("<img") == 2 and "first: score 0.25" in page and page.startswith('<h3 class="um-section">')
    assert _side_by_side({}, {}) == ""
    Image.new("RGBA", (2000, 1000)).save(tmp_path / "a.png")
    assert Image.open(io.BytesIO(_shown(tmp_path / "a.png"))).size == (640, 320)
