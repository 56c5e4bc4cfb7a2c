"""Pasting faces: what changes, what may not, and which families there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_blending import face_points, picture

from preprocessing.blending import BlendError, sample_rng
from preprocessing.blending.clips import FaceClip, FakeClip
from preprocessing.blending.swap import Rendering, Style, align, forehead, paste, piecewise_affine
from preprocessing.blending.swap_families import FAMILIES, needs_donor, swap_stream

SWAPS = [name for name in FAMILIES if needs_donor(name)]
REENACTMENTS = [name for name in FAMILIES if not needs_donor(name)]


def speaking(count: int = 6, seed: int = 0, side: float = 110) -> FaceClip:
    """A face that moves a little and opens its mouth."""
    rng = np.random.default_rng(seed)
    base = picture(seed)
    landmarks = np.stack([face_points((128 + 2 * i, 132 + i), side) for i in range(count)])
    landmarks += rng.normal(0, 0.4, landmarks.shape).astype(np.float32)
    for index in range(count):
        landmarks[index, 55:60, 1] += 2 * index
        landmarks[index, 65:68, 1] += 2 * index
    return FaceClip([np.roll(base, (i, 2 * i), (0, 1)) for i in range(count)], landmarks)


def still(seed: int = 9, side: float = 90) -> FaceClip:
    return FaceClip([picture(seed)], face_points((120, 125), side)[None])


def made(family: str, target: FaceClip, seed: int = 0, donor: FaceClip | None = None) -> FakeClip:
    donor = donor or (still() if needs_donor(family) else None)
    return swap_stream(target, family, sample_rng(seed, 0, 0), donor).clip()


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_a_mask_is_never_empty_and_nothing_outside_it_changes(family: str, seed: int) -> None:
    target = speaking(3)
    fake = made(family, target, seed)
    assert len(fake.frames) == len(fake.masks) == 3
    for before, after, mask in zip(target.frames, fake.frames, fake.masks, strict=True):
        assert after.shape == before.shape and after.dtype == np.uint8
        assert mask.dtype == np.float32 and mask.shape == before.shape[:2]
        assert mask.min() >= 0 and mask.max() <= 1 and mask.sum() > 16
        assert (after == before)[mask == 0].all()
        assert (after != before).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(family: str) -> None:
    target = speaking(2)
    first, again, other = made(family, target, 1), made(family, target, 1), made(family, target, 2)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.masks, again.masks)
    assert first.parameters == again.parameters
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_the_same_face_on_its_own_place_changes_next_to_nothing(blend: str) -> None:
    image, points = picture(3), face_points()
    same, mask = paste(image, points, image, points, points, Style(blend=blend))  # type: ignore[arg-type]
    assert mask.max() > 0.99
    # A level for the solver of Poisson's equation and its rounding.
    assert np.abs(same.astype(int) - image).max() <= (0 if blend == "feather" else 2)


def test_the_mask_is_that_before_the_ratio() -> None:
    image, points = picture(3), face_points()
    donor = 255 - image
    full, mask = paste(image, points, donor, points, points, Style(colour=False))
    half, same = paste(image, points, donor, points, points, Style(colour=False, ratio=0.5))
    assert np.array_equal(mask, same) and mask.max() == 1
    change = np.abs(full.astype(int) - image).mean() / np.abs(half.astype(int) - image).mean()
    assert change == pytest.approx(2, rel=0.03)


def test_poissons_mask_is_hard_but_for_a_rim_that_an_xray_shows() -> None:
    mask = made("swap_poisson", speaking(1)).masks[0]
    inside, rim = (mask == 1).sum(), ((mask > 0) & (mask < 1)).sum()
    assert 0 < rim < 0.35 * inside


def test_the_warp_takes_each_landmark_to_its_donor() -> None:
    given = forehead(face_points((120, 125), 90))
    drawn = forehead(face_points((60, 64), 100))
    drawn[48:68, 1] += 3
    x, y = piecewise_affine(drawn, given, (140, 130))
    at = np.rint(drawn).astype(int)
    inside = (at >= 0).all(axis=1) & (at < (130, 140)).all(axis=1)
    found = np.column_stack([x[at[inside, 1], at[inside, 0]], y[at[inside, 1], at[inside, 0]]])
    # Half a pixel of rounding, at the scale of the donor and where the mouth was stretched.
    assert np.abs(found - given[inside]).max() < 1.5
    assert np.isfinite(x).all() and np.isfinite(y).all()


def test_a_face_that_is_folded_flat_still_gives_a_finite_warp() -> None:
    drawn = forehead(face_points((60, 64), 100))
    drawn[60:68] = drawn[60]
    x, y = piecewise_affine(drawn, drawn, (130, 130))
    assert np.isfinite(x).all() and np.isfinite(y).all()


def test_aligning_undoes_a_similarity() -> None:
    points = np.asarray(face_points(), np.float64)
    turn = np.array([[0.8, -0.5], [0.5, 0.8]])
    assert np.allclose(align(points @ turn.T + (30, -12), points), points)


def test_a_donor_gets_the_colour_of_the_place() -> None:
    target, donor, points = picture(1), picture(2), face_points()
    dark = (donor * np.array([0.3, 0.5, 0.9])).astype(np.uint8)
    matched, mask = paste(target, points, dark, points, points, Style())
    unmatched, _ = paste(target, points, dark, points, points, Style(colour=False))

    def off(image: NDArray[np.uint8]) -> float:
        return float(np.abs(image[mask > 0.9].mean(axis=0) - target[mask > 0.9].mean(axis=0)).max())

    assert off(matched) < 8 < 25 < off(unmatched)


def test_a_rendering_takes_detail_away_and_keeps_the_size() -> None:
    image = picture(4, (121, 97))
    detail = np.abs(np.diff(image.astype(int), axis=1)).mean()
    for rendering in (Rendering(side=24), Rendering(blur=0.03), Rendering(quality=10)):
        worse = rendering(image, 90)
        assert worse.shape == image.shape
        assert np.abs(worse.astype(int) - image).mean() > 1
    assert np.abs(np.diff(Rendering(side=24)(image, 90).astype(int), axis=1)).mean() < detail
    assert (Rendering(side=400)(image, 90) == image).all(), "a face is never enlarged"


def test_only_the_mouth_or_the_lower_face_changes_where_the_name_says_so() -> None:
    target = speaking(4)
    for family in ("reenact_mouth", "reenact_lower"):
        for points, mask in zip(target.landmarks, made(family, target).masks, strict=True):
            assert not mask[: int(points[36:48, 1].max())].any(), f"{family} reaches the eyes"


def test_a_closed_mouth_covers_the_open_one_below() -> None:
    target = speaking(6)
    wide, closed = target.landmarks[5], target.landmarks[5].copy()
    closed[55:60, 1] -= 10
    closed[65:68, 1] -= 10
    image = target.frames[5]
    for union in (True, False):
        style = Style(region="lips", feather=0.0, union=union)
        _, mask = paste(image, wide, image, closed, closed, style)
        lower_lip = np.rint(wide[57]).astype(int)
        assert (mask[lower_lip[1], lower_lip[0]] == 1) == union


def test_a_reenactment_moves_the_mouth_to_the_shape_of_another_frame() -> None:
    target = speaking(6)
    fake = made("reenact_warp", target)
    shown = fake.parameters["shown"]
    assert len(shown) == 6 and all(at != which for at, which in enumerate(shown))


def test_every_family_says_what_it_does_and_what_it_lacks() -> None:
    assert all(family.what for family in FAMILIES.values())
    rng = np.random.default_rng(0)
    with pytest.raises(BlendError, match="give a donor"):
        swap_stream(speaking(2), "swap_poisson", rng)
    with pytest.raises(BlendError, match="give a video"):
        swap_stream(still(), "reenact_mouth", rng)
    with pytest.raises(BlendError, match="swap_triangles"):
        swap_stream(speaking(2), "swap", rng)


def test_landmarks_that_cannot_be_are_refused() -> None:
    image, points = picture(), face_points()
    for wrong, why in (
        (points[:50], "68 or 81"),
        (np.full_like(points, np.nan), "finite"),
        (points + 1000, "outside"),
        (points * 0.01, "too small"),
    ):
        with pytest.raises(BlendError, match=why):
            paste(image, points, image, points, wrong)


def test_a_donor_cut_off_by_its_picture_shows_nothing_of_the_border() -> None:
    target, points = picture(1), face_points()
    donor_points = face_points((20, 132), 116)
    donor = picture(2)
    donor[:, 0] = (255, 0, 255)
    _, mask = paste(target, points, donor, donor_points, points, Style(feather=0.0))
    left, right = mask[:, :128].sum(), mask[:, 128:].sum()
    assert left < 0.75 * right
