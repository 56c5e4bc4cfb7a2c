"""A face among the reference faces, as the pages draw it."""

import math

import pytest

from detectors.gallery import galleries
from detectors.result import DetectorScore, FaceResult
from ui.embedding_plot import embedding_figure, neighbour_words, placed_faces


def face_of(detector: str, weights: str, embedding: list[float] | None) -> FaceResult:
    score = DetectorScore(status="ok", score=0.5, logit=0.0, embedding=embedding, weights=weights)
    return FaceResult(
        track=1, times=(0, 0), frames=1, box=(0, 0, 9, 9), boxes=[(0, 0, 9, 9)], box_times=[0],
        detectors={detector: score},
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(galleries()))
def test_a_face_is_a_star_among_references_of_every_kind(name: str) -> None:
    gallery = galleries()[name]
    face = face_of(name, f"{name}-compact@{gallery.weights}", gallery.mean.tolist())
    found, placed = placed_faces(face)[name]
    figure = embedding_figure(found, placed)
    named = [trace.name for trace in figure.data if trace.name]
    assert named[0] == "real portrait" and named[-1] == "this face" and len(named) == len(set(gallery.kinds)) + 1
    assert figure.data[-1].x[0] == pytest.approx(0, abs=1e-3), "the mean lies in the middle"
    said = neighbour_words(placed)
    assert said.startswith("Nearest of the references: ") and "times as far" in said


def test_a_face_without_embedding_or_of_other_weights_has_no_place() -> None:
    name, gallery = next(iter(galleries().items()))
    assert placed_faces(face_of(name, f"x@{gallery.weights}", None)) == {}
    assert placed_faces(face_of(name, "x@ffffffffffff", gallery.mean.tolist())) == {}


def test_the_neighbours_numbers_do_not_lie_on_each_other() -> None:
    name, gallery = next(iter(galleries().items()))
    found, placed = placed_faces(face_of(name, f"x@{gallery.weights}", gallery.mean.tolist()))[name]
    notes = embedding_figure(found, placed).layout.annotations
    assert [note.text for note in notes] == [str(number) for number in range(1, len(placed.neighbours) + 1)]
    away = [(note.ax, note.ay) for note in notes]
    near = min(math.dist(one, other) for at, one in enumerate(away) for other in away[:at])
    assert near > 14, "pixels, even where all the points are one"
