"""Fusion: a stacker that tolerates missing detectors, never turns one round, and knows how sure it is."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.fusion import FusionModel, fitted_overlap, fuse, join, load_fusion, log_odds, logit, save_fusion, sigmoid
from detectors.quality import MEASURES

SCORES = st.floats(0, 1)
RATES = st.floats(0, 2)
NAMES = ("good", "fair", "guess")
PANEL = st.dictionaries(st.sampled_from(NAMES), SCORES, min_size=1)
FACES = st.dictionaries(st.sampled_from(MEASURES), SCORES)


@st.composite
def models(draw: st.DrawFn) -> FusionModel:
    """Any stacker that can be fitted, with refits of both lengths."""
    weights = {name: draw(st.floats(0, 2)) for name in NAMES}
    size = 2 * len(NAMES) + 2 + len(MEASURES)
    numbers = st.floats(0, 1)
    long = draw(st.lists(st.lists(numbers, min_size=size, max_size=size), max_size=3))
    short = draw(st.lists(st.lists(numbers, min_size=len(NAMES) + 1, max_size=len(NAMES) + 1), max_size=2))
    return FusionModel(
        weights=weights,
        bias=draw(st.floats(-2, 2)),
        shrink={name: draw(RATES) for name in MEASURES},
        sharing=draw(SCORES),
        bootstrap=[*long, *short],
        fitted_on="",
        n=0,
        for_weights={},
    )


def model(**given: object) -> FusionModel:
    fields = {"weights": {"a": 0.7, "b": 0.2}, "bias": 0.1, "bootstrap": [], "fitted_on": "", "n": 0, "for_weights": {}}
    return FusionModel.model_validate({**fields, **given})


@given(fitted=models(), panel=PANEL, quality=FACES)
def test_the_contributions_add_up_and_the_score_lies_in_its_interval(fitted, panel, quality) -> None:
    found = fuse(fitted, panel, quality)
    assume(found is not None)
    assert set(found.contributions) == set(panel)
    assert found.score == sigmoid(fitted.bias + sum(found.contributions.values()))
    assert 0 <= found.interval[0] <= found.score <= found.interval[1] <= 1


@given(fitted=models(), panel=PANEL, quality=FACES, name=st.sampled_from(NAMES), other=SCORES)
def test_more_suspicion_never_lowers_the_score_nor_either_end_of_its_interval(
    fitted, panel, quality, name, other
) -> None:
    assume(name in panel)
    low, high = sorted((panel[name], other))
    lower, upper = fuse(fitted, {**panel, name: low}, quality), fuse(fitted, {**panel, name: high}, quality)
    assume(lower is not None and upper is not None)
    assert lower.score <= upper.score
    assert lower.interval[0] <= upper.interval[0] + 1e-12 and lower.interval[1] <= upper.interval[1] + 1e-12


@given(fitted=models(), panel=PANEL, quality=FACES)
def test_poorer_quality_moves_the_score_towards_what_no_detector_says(fitted, panel, quality) -> None:
    good, poor = fuse(fitted, panel), fuse(fitted, panel, quality)
    assume(good is not None and poor is not None)
    assert abs(log_odds(poor.score) - fitted.bias) <= abs(log_odds(good.score) - fitted.bias) + 1e-6
    assert 0 < poor.factor <= good.factor == 1


@given(faces=st.lists(SCORES, min_size=1, max_size=12))
def test_joined_faces_lie_between_the_most_suspicious_less_log_of_their_number_and_it(faces) -> None:
    top = max(log_odds(score) for score in faces)
    assert top - math.log(len(faces)) - 1e-6 <= log_odds(join(faces)) <= top + 1e-6


@given(faces=st.lists(SCORES, min_size=1, max_size=8), place=st.integers(0, 7), other=SCORES)
def test_a_more_suspicious_face_never_lowers_the_files_score(faces, place, other) -> None:
    place %= len(faces)
    low, high = sorted((faces[place], other))
    ends = [join([*faces[:place], score, *faces[place + 1 :]]) for score in (low, high)]
    assert ends[0] <= ends[1] + 1e-12


def test_one_person_in_many_tracks_keeps_the_score_and_no_face_has_none() -> None:
    assert join([0.93]) == 0.93
    assert join([0.93] * 7) == pytest.approx(0.93)
    with pytest.raises(ValueError, match="no scores"):
        join([])


def test_many_real_faces_do_not_add_up_to_an_alarm_but_one_swapped_among_them_is_found() -> None:
    """Real faces of a calibrated score: log-odds N(-2, 4), for which exp(log-odds) has mean 1."""
    rng = np.random.default_rng(0)
    real = 1 / (1 + np.exp(-rng.normal(-2, 2, (4000, 10))))
    threshold = np.quantile(real[:, 0], 0.98)
    joined = {m: np.mean([join(list(row[:m])) >= threshold for row in real]) for m in (1, 3, 10)}
    maximum = {m: np.mean(real[:, :m].max(1) >= threshold) for m in (3, 10)}
    assert joined[3] < 0.03 and joined[10] < 0.03
    assert maximum[3] > 0.05 and maximum[10] > 0.15
    swapped = [join([0.998, *row[:4]]) >= threshold for row in real[:500]]
    assert np.mean(swapped) == 1


def test_a_missing_detector_is_tolerated_and_a_silent_panel_gives_nothing() -> None:
    found = fuse(model(), {"a": 0.99})
    assert found is not None and found.score > 0.5 and set(found.contributions) == {"a"}
    assert fuse(model(), {}) is None
    assert fuse(model(), {"never heard of": 0.9}) is None
    assert fuse(model(weights={"a": 0.0, "b": 1.0}), {"a": 0.9}) is None


def test_those_that_are_there_speak_for_the_missing_as_far_as_was_fitted() -> None:
    alone = [fuse(model(sharing=sharing), {"a": 0.9}) for sharing in (0.0, 0.5, 1.0)]
    values = [found.contributions["a"] for found in alone if found is not None]
    assert values == pytest.approx([0.7 * logit(0.9) * (1.0 / 0.8) ** sharing for sharing in (0.0, 0.5, 1.0)])


def test_the_bounds_and_the_interval_decide() -> None:
    fitted = model(threshold=0.8, real_below=0.3)
    assert fitted.decide(0.9, (0.5, 0.95)) == "fake" and fitted.decide(0.9, (0.2, 0.95)) == "inconclusive"
    assert fitted.decide(0.2, (0.1, 0.5)) == "real" and fitted.decide(0.2, (0.1, 0.85)) == "inconclusive"
    assert fitted.decide(0.5, (0.5, 0.5)) == "inconclusive"
    assert model(real_below=0.0).decide(1e-9, (0.0, 0.1)) == "inconclusive"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"weights": {"a": -0.1}}, "not negative"),
        ({"bootstrap": [[1.0]]}, "another length"),
        ({"threshold": 0.3, "real_below": 0.4}, "not below the threshold"),
    ],
)
def test_a_model_that_cannot_be_is_refused(wrong, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        model(**wrong)


def test_it_reads_back_what_it_wrote_a_refit_a_line(tmp_path) -> None:
    file = tmp_path / "fusion.json"
    made = model(bootstrap=[[0.5, 0.6, 0.0], [1.2, 0.1, 0.5]], saw=["0123456789ab"])
    save_fusion(made, file)
    assert load_fusion(file) == made and "  [0.5, 0.6, 0.0],\n" in file.read_text()
    assert load_fusion(tmp_path / "none.json") is None
    save_fusion(model(), file)
    assert load_fusion(file) == model()


def test_files_that_were_fitted_on_are_named(tmp_path) -> None:
    file = tmp_path / "fusion.json"
    save_fusion(model(saw=["0" * 12, "a" * 12]), file)
    assert fitted_overlap(["a" * 64, "b" * 64, ""], file) == ["a" * 64]
    assert fitted_overlap(["a" * 64], tmp_path / "none.json") == []


def test_the_shipped_fusion_is_for_shipped_weights_and_says_what_it_saw() -> None:
    from detectors.store import SHIPPED, read_manifest

    shipped = load_fusion()
    assert shipped is not None and shipped.selection is not None and shipped.saw
    cards = {card.detector: card for card in read_manifest(SHIPPED)}
    assert shipped.for_weights == {name: cards[name].sha256 for name in shipped.weights}
    for name in shipped.weights:
        calibration = cards[name].calibration
        assert calibration is not None and calibration.fitted_on == shipped.fitted_on and calibration.saw
    assert len(json.dumps(shipped.model_dump())) < 200_000


def test_a_detector_without_weight_adds_nothing_and_no_minus_nothing() -> None:
    found = fuse(model(weights={"a": 0.7, "b": 0.0}), {"a": 0.2, "b": 0.2})
    assert found is not None and f"{found.contributions['b']:+.2f}" == "+0.00"
