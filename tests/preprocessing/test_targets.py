"""Face X-ray's and LAA-Net's targets: their definitions, and the vectorised encoder against a plain loop."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from preprocessing.blending.targets import encode_boundary, face_xray, gaussian_radius, laa_targets, run_lengths

SIDE = 96
weights = arrays(np.float32, (16, 16), elements=st.floats(0, 1, width=32))
levels = arrays(np.uint8, (24, 24), elements=st.sampled_from([0, 0, 0, 60, 128, 129, 200, 254, 255]))


def loop_encoder(boundary: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """specs/laa_net.md 2.2 to 2.4 word by word, pixel by pixel."""
    height, width = boundary.shape
    b = boundary.astype(int)

    def run(j: int, i: int, dj: int, di: int) -> int:
        count = 0
        while count < (height if dj else width):
            y, x = j + count * dj, i + count * di
            if y >= height or x >= width or b[y, x] <= 128:
                break
            count += 1
        return count

    heat, consistency = np.zeros(b.shape), np.zeros(b.shape)
    for top in (0, height // 2):
        for left in (0, width // 2):
            bottom, right = (height // 2, height)[top > 0], (width // 2, width)[left > 0]
            peak = max(b[top:bottom, left:right].max(), 1)
            found = [(j, i) for j in range(top, bottom) for i in range(left, right) if b[j, i] == peak]
            if found:
                consistency[top:bottom, left:right] = 1 - (b.max() - b[top:bottom, left:right]) / 255
            for j, i in found:
                w = run(j, i, -1, 0) + run(j, i, 1, 0)
                h = run(j, i, 0, -1) + run(j, i, 0, 1)
                r = (-1.4 * (w + h) + math.sqrt(1.96 * (w + h) ** 2 + 3.36 * w * h)) / 2
                sigma = r / 3 + 1e-4
                t = 3 * sigma
                shift = t % 1 < 0.5
                cj, ci = j - (shift and j >= t), i - (shift and i >= t)
                for y in range(height):
                    for x in range(width):
                        if abs(y - cj) <= t and abs(x - ci) <= t:
                            value = math.exp(-((y - cj) ** 2 + (x - ci) ** 2) / (2 * sigma**2))
                            heat[y, x] = max(heat[y, x], value)
    return heat, consistency


@given(mask=weights)
def test_the_xray_is_symmetric_in_source_and_target_and_highest_where_both_weigh_the_same(
    mask: NDArray[np.float32],
) -> None:
    xray = face_xray(mask)
    assert xray.dtype == np.float32 and xray.min() >= 0 and xray.max() <= 1
    assert np.allclose(xray, face_xray(1 - mask), atol=1e-6)
    assert np.all(face_xray(np.where(mask > 0.5, 1, 0).astype(np.float32)) == 0)
    assert np.all(face_xray(np.full_like(mask, 0.5)) == 1)
    stored = face_xray(mask, quantised=True)
    assert np.all((xray - stored >= -1e-6) & (xray - stored < 1 / 255 + 1e-6))
    assert np.allclose(stored * 255, np.rint(stored * 255), atol=1e-4)


def test_a_real_face_has_neither_points_nor_consistency() -> None:
    heat, consistency = laa_targets(np.zeros((SIDE, SIDE), np.float32))
    assert heat.shape == consistency.shape == (SIDE, SIDE) and heat.dtype == consistency.dtype == np.float32
    assert not heat.any() and not consistency.any()
    assert np.all(laa_targets(np.zeros((SIDE, SIDE), np.float32), real_ones=True)[1] == 1), "the paper's formula"


@pytest.mark.parametrize(("band", "radius"), [(1, 1.1), (3, 2.1), (5, 2.9), (8, 4.1)])
def test_the_radius_follows_the_bands_width(band: int, radius: float) -> None:
    boundary = np.zeros((SIDE, SIDE), np.uint8)
    boundary[20 : 20 + band, 5:41] = 200
    row, column = 20 + band // 2, 20
    boundary[row, column] = 255
    point = np.array([[row, column]])
    lengths = run_lengths(boundary, point)
    assert (lengths[0][0], lengths[1][0]) == (band + 1, 37)
    found = gaussian_radius(*lengths)[0]
    assert found == pytest.approx(radius, abs=0.06)
    for centred in (False, True):
        heat, _ = encode_boundary(boundary, centred)
        shifted = not centred and found % 1 < 0.5
        assert heat.max() == 1
        assert np.argwhere(heat == 1).tolist() == [[row - shifted, column - shifted]]
        beside = heat[row - shifted, column - shifted + 1]
        assert beside == pytest.approx(math.exp(-1 / (2 * (found / 3 + 1e-4) ** 2)), rel=1e-5)


def test_a_lone_pixel_counts_twice_and_one_outside_a_run_not_at_all() -> None:
    boundary = np.zeros((SIDE, SIDE), np.uint8)
    boundary[10, 10], boundary[60, 60] = 255, 100
    vertical, horizontal = run_lengths(boundary, np.array([[10, 10], [60, 60]]))
    assert vertical.tolist() == horizontal.tolist() == [2, 0]


def test_each_quadrant_has_points_of_its_own_and_an_empty_one_has_none() -> None:
    boundary = np.zeros((SIDE, SIDE), np.uint8)
    boundary[10, 20], boundary[80, 30] = 255, 180
    heat, consistency = encode_boundary(boundary, centred=True)
    assert np.argwhere(heat == 1).tolist() == [[10, 20], [80, 30]]
    assert consistency[10, 20] == 1 and consistency[80, 30] == pytest.approx(180 / 255)
    assert not consistency[:, 48:].any()
    fainter = boundary // 2
    assert encode_boundary(fainter)[1][10, 20] == 1, "measured from the highest boundary"
    assert encode_boundary(fainter)[1][0, 0] == pytest.approx(1 - 127 / 255)


@settings(max_examples=40)
@given(boundary=levels)
def test_the_vectorised_encoder_equals_the_loop(boundary: NDArray[np.uint8]) -> None:
    heat, consistency = encode_boundary(boundary)
    expected_heat, expected_consistency = loop_encoder(boundary)
    assert np.allclose(heat, expected_heat, atol=1e-6)
    assert np.allclose(consistency, expected_consistency, atol=1e-6)


def test_a_mask_of_another_shape_or_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 96, 96\)"):
        laa_targets(np.zeros((3, 96, 96), np.float32))
    with pytest.raises(ValueError, match="weights of a mask"):
        laa_targets(np.full((96, 96), 255, np.float32))
