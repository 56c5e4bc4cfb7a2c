"""FWA's pseudo-fakes: detail is lost inside the region and nowhere else; both classes go through the same changes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_blending import face_points, faces, picture

from preprocessing.blending import BlendError, fwa, fwa_item, sample_rng
from preprocessing.blending.fwa import TEMPLATE, FwaChanges, region_of_interest, similarity
from preprocessing.landmarks import FLIP_ORDER


@settings(max_examples=30)
@given(points=faces, seed=st.integers(0, 2**31))
def test_a_fake_differs_from_its_real_inside_the_region_only(points: NDArray[np.float32], seed: int) -> None:
    image = picture(seed % 7)
    pair = fwa(image, points, sample_rng(seed, 0, 0))
    assert np.array_equal(pair.real, image), "the real is the picture itself"
    assert pair.mask.min() >= 0 and pair.mask.max() == 1
    outside = pair.mask == 0
    assert outside.any() and np.array_equal(pair.real[outside], pair.fake[outside])
    again = fwa(image, points, sample_rng(seed, 0, 0))
    assert np.array_equal(pair.fake, again.fake)


def test_detail_is_lost_and_colour_is_kept() -> None:
    grain = np.random.default_rng(0).normal(0, 10, (256, 256, 1))
    image, points = np.clip(picture(2) + grain, 0, 255).astype(np.uint8), face_points()
    kept = []
    for index in range(20):
        pair = fwa(image, points, sample_rng(0, 0, index))
        inside = cv2.erode((pair.mask == 1).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        before, after = (cv2.Laplacian(p, cv2.CV_32F)[inside].std() for p in (pair.real, pair.fake))
        assert after < 0.9 * before, "a face comes back softer, never unchanged"
        kept.append(after / before)
        shift = pair.fake[inside].astype(float).mean(axis=0) - pair.real[inside].mean(axis=0)
        assert np.abs(shift).max() < 2
    assert np.mean(kept) < 0.3


def test_the_face_comes_back_to_its_place() -> None:
    image = cv2.GaussianBlur(picture(3), (0, 0), 8)
    for index in range(10):
        pair = fwa(image, face_points(), sample_rng(1, 0, index))
        assert np.abs(pair.fake.astype(int) - image).mean() < 1.5, "a smooth picture has no detail to lose"


@settings(max_examples=30)
@given(degrees=st.floats(-180, 180), scale=st.floats(0.1, 10), x=st.floats(-500, 500), y=st.floats(-500, 500))
def test_a_similarity_is_found_again(degrees: float, scale: float, x: float, y: float) -> None:
    points = face_points()[17:]
    turn = cv2.getRotationMatrix2D((0, 0), degrees, scale)
    turn[:, 2] += (x, y)
    moved = points @ turn[:, :2].T + turn[:, 2]
    assert np.allclose(similarity(points, moved), turn, atol=1e-2 * max(scale, 1))


def test_the_template_is_a_symmetrical_face_in_the_published_ranges() -> None:
    assert TEMPLATE.shape == (51, 2)
    order = FLIP_ORDER[17:68] - 17
    mirrored = TEMPLATE[order] * [-1, 1] + [0.98, 0]
    assert np.allclose(mirrored, TEMPLATE, atol=1e-9)
    assert TEMPLATE[:, 0].min() < 0.01 and TEMPLATE[:, 0].max() > 0.97
    for part, low, high in (
        (slice(0, 10), 0.0187, 0.1065),
        (slice(10, 19), 0.2034, 0.6281),
        (slice(31, 51), 0.7274, 0.9093),
    ):
        assert TEMPLATE[part, 1].min() == pytest.approx(low, abs=2e-3)
        assert TEMPLATE[part, 1].max() == pytest.approx(high, abs=2e-3)


def test_items_change_both_classes_alike() -> None:
    image, points = picture(1, (320, 300)), face_points((150, 165), 130)
    for index in range(12):
        item = fwa_item(image, points, sample_rng(3, 0, index))
        assert item.real.shape == item.fake.shape == (224, 224, 3)
        outside = cv2.dilate((item.mask > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        if outside.any():
            # Contrast is about a picture's own mean, which the blend moves by a fraction of a level.
            assert np.abs(item.real[outside].astype(int) - item.fake[outside]).max() <= 3
        assert item.points[:68].min() > -20 and item.points[:68].max() < 244


def test_the_region_of_interest_has_half_of_the_margin_below() -> None:
    points = face_points((200, 200), 160)
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    rows, columns = region_of_interest(points, (400, 400), (0.1, 0.2))
    across, down = int(0.1 * (x2 - x1)), int(0.2 * (y2 - y1))
    assert (columns.start, columns.stop) == (int(x1 - across), int(x2 + across))
    assert (rows.start, rows.stop) == (int(y1 - down), int(y2 + down / 2))
    drawn = [FwaChanges.draw(np.random.default_rng(i)) for i in range(500)]
    assert max(abs(d.degrees) for d in drawn) <= 10 and max(d.margins[1] for d in drawn) < 0.2


@pytest.mark.parametrize("points", [face_points() + 5000, np.zeros((68, 2), np.float32), np.full((68, 2), np.nan)])
def test_landmarks_that_make_no_mask_are_an_error(points: NDArray[np.float32]) -> None:
    with pytest.raises(BlendError):
        fwa(picture(), points, sample_rng(0, 0, 0))
