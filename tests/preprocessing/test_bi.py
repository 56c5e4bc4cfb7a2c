"""Blended images: deformation, soft border, colours and partners against plain versions of the published steps."""

import importlib

import cv2
import numpy as np
import pytest
import skimage.data
import skimage.transform
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_blending import face_points, faces, picture

from preprocessing.blending import (
    BlendError,
    Face,
    Mixture,
    PartnerIndex,
    bi,
    bi_item,
    families,
    laa_bi_item,
    make,
    sample_rng,
)
from preprocessing.blending import bi as blend_faces
from preprocessing.blending.bi import BiChanges, feathered, random_mask, shrink
from preprocessing.blending.deform import control_points, deform, piecewise_affine_map
from preprocessing.blending.laa_colour import BackgroundChange
from preprocessing.blending.masks import hull_mask
from preprocessing.blending.partners import landmark_distances
from preprocessing.blending.pseudofake import PseudoFake
from preprocessing.blending.targets import face_xray

SIDE = 317


def partner(seed: int = 9, shape: tuple[int, int] = (SIDE, SIDE)) -> Face:
    return Face(picture(seed, shape), face_points((shape[1] / 2, shape[0] / 2 + 6), 140))


def sample(seed: int, index: int = 0, image_seed: int = 0) -> PseudoFake:
    return bi(picture(image_seed, (SIDE, SIDE)), face_points((158, 164), 146), sample_rng(seed, 0, index), partner())


# --- properties


@settings(max_examples=30)
@given(points=faces, seed=st.integers(0, 2**31))
def test_a_fake_differs_from_its_real_inside_the_mask_only(points: NDArray[np.float32], seed: int) -> None:
    pair = blend_faces(picture(seed % 7), points, sample_rng(seed, 0, 0), partner(9, (256, 256)))
    assert pair.real.dtype == pair.fake.dtype == np.uint8 and pair.mask.dtype == np.float32
    assert pair.mask.min() >= 0 and pair.mask.max() <= 1 and pair.mask.any()
    outside = pair.mask == 0
    assert outside.any() and np.array_equal(pair.real[outside], pair.fake[outside])
    assert (pair.real != pair.fake).any()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_the_seed_decides_every_bit(seed: int, index: int) -> None:
    image, points = picture(1, (SIDE, SIDE)), face_points((158, 164), 146)
    before = image.copy()
    one, other = (bi_item(image, points, sample_rng(seed, 1, index), partner()) for _ in range(2))
    assert np.array_equal(one.real, other.real) and np.array_equal(one.fake, other.fake)
    assert np.array_equal(one.mask, other.mask) and np.array_equal(image, before)


def test_the_partners_face_is_shown_with_the_backgrounds_mean_colour() -> None:
    other = Face(np.clip(partner().image + np.array([40, 0, -40]), 0, 255).astype(np.uint8), partner().points)
    for index in range(8):
        rng = sample_rng(2, 0, index)
        image = np.clip(picture(0, (SIDE, SIDE)), 70, 180)
        pair = blend_faces(image, face_points((158, 164), 146), rng, other)
        weight = pair.mask[..., None]
        shift = (weight * (pair.fake.astype(float) - pair.real)).sum(axis=(0, 1)) / weight.sum()
        assert np.abs(shift).max() < 12, "a difference of 40 levels between the two is taken out"


def test_an_empty_mask_is_drawn_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # By name: the package's function of the same name hides the module.
    module = importlib.import_module("preprocessing.blending.bi")
    calls: list[int] = []

    def empty_twice(*arguments: object) -> NDArray[np.uint8]:
        calls.append(1)
        mask = random_mask(*arguments)  # type: ignore[arg-type]
        return np.zeros_like(mask) if len(calls) <= 2 else mask

    monkeypatch.setattr(module, "random_mask", empty_twice)
    assert sample(0).redraws >= 2 and len(calls) >= 3


@pytest.mark.parametrize("points", [face_points() + 5000, np.full((68, 2), np.nan), np.zeros((5, 2))])
def test_landmarks_that_make_no_mask_are_an_error(points: NDArray[np.float32]) -> None:
    with pytest.raises(BlendError):
        blend_faces(picture(), points, sample_rng(0, 0, 0), partner())


# --- mask and border


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), height=st.integers(40, 120), width=st.integers(40, 120))
def test_the_deformation_is_affine_in_each_triangle(seed: int, height: int, width: int) -> None:
    points = control_points((height, width), np.random.default_rng(seed))
    assert points.shape[0] in (2, 3, 4) and points.shape[1] in (2, 3, 4)
    assert points.min() >= 0 and np.all(points <= (width - 1, height - 1))
    found = piecewise_affine_map(points, (height, width))
    cells = points.shape[0] - 1, points.shape[1] - 1
    for y in range(0, height, 3):
        for x in range(0, width, 3):
            # The cell, the triangle in it, and the affine map of that triangle's corners.
            v, row = np.modf(y * cells[0] / height)
            u, column = np.modf(x * cells[1] / width)
            row, column = int(row), int(column)
            third = (row, column + 1) if u >= v else (row + 1, column)
            corners = [(row, column), third, (row + 1, column + 1)]
            places = np.array([[c * width / cells[1], r * height / cells[0], 1] for r, c in corners])
            affine = np.linalg.solve(places, np.array([points[corner] for corner in corners]))
            # On a diagonal both triangles agree; a pixel of rounding cannot tell.
            assert np.allclose(found[y, x], np.array([x, y, 1]) @ affine, atol=0.05)


def test_no_displacement_changes_nothing() -> None:
    grid = np.stack(np.meshgrid(np.linspace(0, 200, 4), np.linspace(0, 160, 3)), axis=-1).astype(np.float32)
    y, x = np.mgrid[:160, :200]
    assert np.allclose(piecewise_affine_map(grid, (160, 200)), np.stack([x, y], axis=-1), atol=1e-3)


def test_control_points_move_as_published() -> None:
    moves = []
    for seed in range(4000):
        rng = np.random.default_rng(seed)
        points = control_points((300, 300), rng)
        if points.shape[:2] == (3, 3):
            moves.append((points[1, 1] - 150) / 300)
    # sigma uniform in 0.01..0.15: variance is the mean of its square.
    expected = np.sqrt((0.15**3 - 0.01**3) / (3 * 0.14))
    assert np.std(moves) == pytest.approx(expected, rel=0.1)


def exact_weights(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Step 8 word by word: the polygon distance of each mask pixel."""
    found = cv2.findNonZero(mask)
    hull = cv2.convexHull(found)
    x, y = found.reshape(-1, 2).T
    feather = 0.2 * max(x.max() - x.min(), y.max() - y.min())
    weights = np.zeros(mask.shape)
    for column, row in zip(x.tolist(), y.tolist(), strict=True):
        weights[row, column] = np.clip(cv2.pointPolygonTest(hull, (column, row), True) / feather, 0, 1)
    return weights


@pytest.mark.parametrize("seed", range(6))
def test_feathering_is_the_distance_to_the_hull(seed: int) -> None:
    mask = random_mask(face_points((110, 115), 110), (220, 220), np.random.default_rng(seed))
    found, expected = feathered(mask), exact_weights(mask)
    assert np.all(found[mask == 0] == 0)
    assert np.abs(found - expected).max() < 0.08, "two pixels of a feather of 20 to 30"
    assert abs(float((found - expected)[mask > 0].mean())) < 0.015
    assert face_xray(found).sum() == pytest.approx(face_xray(expected.astype(np.float32)).sum(), rel=0.03)


def test_only_whole_pixels_survive_the_deformation() -> None:
    hull = hull_mask("hull", face_points(), (256, 256))
    for seed in range(5):
        moved = deform(hull, np.random.default_rng(seed))
        assert moved.max() == 1 and ((moved > 0) & (moved < 1)).any()
        mask = random_mask(face_points(), (256, 256), np.random.default_rng(seed))
        assert set(np.unique(mask)) == {0, 1}


def test_shrinking_is_scikit_images() -> None:
    photo = skimage.data.astronaut()[:300, 60:360]
    for side in (130, 200, 280):
        expected = skimage.transform.resize(photo, (side, side), order=1, anti_aliasing=True, preserve_range=True)
        assert np.abs(shrink(photo, (side, side)).astype(float) - expected).mean() < 1.0


def test_the_xray_is_that_of_the_blend_not_of_what_comes_after() -> None:
    for index in range(6):
        item = bi_item(
            picture(0, (SIDE, SIDE)), face_points((158, 164), 146), sample_rng(4, 0, index), partner(), crop="ufx"
        )
        whole = sample(4, index)
        assert item.real.shape == (256, 256, 3)
        part = whole.mask[60:316, 30:286]
        assert np.array_equal(item.mask, part) or np.array_equal(item.mask, part[:, ::-1])


def test_the_published_crop_has_257_pixels_and_changes_follow_their_odds() -> None:
    assert bi_item(partner().image, partner().points, sample_rng(0, 0, 0), partner(3)).real.shape == (257, 257, 3)
    drawn = [BiChanges.draw(np.random.default_rng(i)) for i in range(2000)]
    assert np.mean([d.side is not None for d in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.quality is not None for d in drawn]) == pytest.approx(0.5, abs=0.04)
    assert min(d.quality or 100 for d in drawn) == 60 and min(d.side or 100 for d in drawn) == 64


# --- partners


def brute_force(points: NDArray[np.float32], sources: NDArray[np.int64], row: int, keep: int) -> list[int]:
    total = [np.hypot(*(points[row] - other).T).sum() if s != sources[row] else np.inf for other, s in
             zip(points, sources, strict=True)]  # fmt: skip
    return [int(i) for i in np.argsort(total, kind="stable")[:keep] if np.isfinite(total[i])]


def many_faces(count: int, videos: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    sources = rng.integers(0, videos, count)
    people = rng.normal(0, 6, (videos, 68, 2))
    return (face_points() + people[sources] + rng.normal(0, 3, (count, 68, 2))).astype(np.float32), sources


def test_exact_partners_are_those_of_a_full_search() -> None:
    points, sources = many_faces(200, 12)
    index = PartnerIndex(points, sources, keep=30, exact=True)
    for row in range(0, 200, 23):
        assert index.neighbours[row].tolist() == brute_force(points, sources, row, 30)
        assert np.all(np.diff(index.distances[row]) >= 0)
        expected = landmark_distances(points[row], points[index.neighbours[row]])
        assert np.allclose(index.distances[row], expected)


def test_the_shortlist_loses_almost_none_and_never_the_nearest() -> None:
    points, sources = many_faces(3000, 90)
    exact = PartnerIndex(points, sources, keep=30, exact=True, rows=np.arange(60))
    quick = PartnerIndex(points, sources, keep=30, rows=np.arange(60))
    assert np.array_equal(exact.neighbours[:60, 0], quick.neighbours[:60, 0])
    shared = [len(np.intersect1d(exact.neighbours[r], quick.neighbours[r])) for r in range(60)]
    assert np.mean(shared) >= 29.5
    assert np.all(sources[quick.neighbours[:60]] != sources[:60, None]), "never of the same source"
    with pytest.raises(BlendError, match="ranked"):
        quick.draw(100, sample_rng(0, 0, 0))


def test_drawing_the_nearest_of_random_candidates_is_what_a_search_finds() -> None:
    points, sources = many_faces(400, 20)
    index, rng = PartnerIndex(points, sources, keep=100), np.random.default_rng(0)
    ranks = {int(n): rank for rank, n in enumerate(index.neighbours[7])}
    drawn = [ranks[index.draw(7, rng, candidates=60)] for _ in range(3000)]
    searched = []
    for _ in range(3000):
        some = rng.choice(400, 60, replace=False)
        some = [ranks[int(i)] for i in some if int(i) in ranks]
        searched.append(min(some) if some else 99)
    assert np.mean(drawn) == pytest.approx(np.mean(searched), rel=0.1)
    assert np.std(drawn) == pytest.approx(np.std(searched), rel=0.15)
    assert index.draw(7, rng, candidates=10**6) == index.neighbours[7, 0]
    assert len({index.draw(7, rng) for _ in range(2000)}) == 100


def test_partners_need_landmarks_and_more_than_one_source() -> None:
    points, _ = many_faces(5, 2)
    with pytest.raises(BlendError, match="same"):
        PartnerIndex(points, [1] * 5)
    with pytest.raises(BlendError, match="sources"):
        PartnerIndex(points, [1, 2])
    few = PartnerIndex(points, ["a", "a", "b", "b", "b"], keep=30)
    assert few.neighbours[0, :3].min() >= 2 and np.all(few.neighbours[0, 3:] == -1)
    assert few.draw(0, sample_rng(0, 0, 0)) in (2, 3, 4)


# --- by name


def test_every_family_is_made_by_name_and_keeps_the_contract() -> None:
    assert {"bi", "sbi", "sbi_reference", "fwa", "face", "mouth", "eyes", "resolution"} <= set(families())
    image, points = picture(), face_points(count=81)
    for name in families():
        one, other = (make(name, image, points, sample_rng(0, 0, 1), partner(3, (256, 256))) for _ in range(2))
        assert one.family == name and np.array_equal(one.fake, other.fake)
        assert one.mask.shape == image.shape[:2] and one.mask.min() >= 0 and one.mask.max() <= 1
        assert np.array_equal(one.real[one.mask == 0], one.fake[one.mask == 0])
        assert np.array_equal(one.points, points) and (one.real != one.fake).any()


def test_bi_without_a_partner_and_unknown_names_are_refused() -> None:
    with pytest.raises(BlendError, match="partner"):
        make("bi", picture(), face_points(), sample_rng(0, 0, 0))
    with pytest.raises(BlendError, match="did you mean 'mouth'"):
        make("mouht", picture(), face_points(), sample_rng(0, 0, 0))
    with pytest.raises(ValueError, match="did you mean 'eyes'"):
        Mixture(odds={"eye": 1})
    with pytest.raises(ValueError, match="above 0"):
        Mixture(odds={"sbi": 0})


def test_mixtures_follow_their_odds_and_hold_families_out() -> None:
    mixture = Mixture(odds={"sbi": 3, "fwa": 1, "bi": 2})
    assert mixture.needs_partner and not mixture.without("bi").needs_partner
    rng = np.random.default_rng(0)
    drawn = [mixture.without("bi").draw(rng) for _ in range(2000)]
    assert set(drawn) == {"sbi", "fwa"} and np.mean([d == "sbi" for d in drawn]) == pytest.approx(0.75, abs=0.03)
    made = mixture.without("bi", "sbi").make(picture(), face_points(), sample_rng(0, 0, 0))
    assert made.family == "fwa"


# --- LAA-Net's item from BI


def test_laa_items_from_bi_have_targets_on_the_pasted_faces_border() -> None:
    image, points = picture(0, (SIDE, SIDE)), face_points((158, 164), 146)
    for index in range(16):
        item, again = (laa_bi_item(image, points, sample_rng(6, 0, index), partner()) for _ in range(2))
        assert np.array_equal(item.images, again.images)
        assert item.images.shape == (2, 384, 384, 3) and item.heatmap.shape == item.consistency.shape == (2, 96, 96)
        assert not item.heatmap[0].any() and item.heatmap[1].max() == 1
        far = cv2.dilate((item.consistency[1] > 0.1).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        assert far.any(), "quadrants without a boundary, and the face's inside and outside, have none"
    plain = laa_bi_item(image, points, sample_rng(6, 0, 0), partner(), train=False)
    assert np.array_equal(plain.images[0][:20], plain.images[1][:20]), "far from the face nothing differs"


def test_backgrounds_change_as_often_as_published() -> None:
    drawn = [BackgroundChange.draw(np.random.default_rng(i)) for i in range(2000)]
    odds = {"jitter": 0.3, "quality": 0.5, "shift": 0.3, "gamma": 0.5, "blur": 0.25, "noise": 0.25, "tone": 0.25}
    for name, expected in odds.items():
        assert np.mean([getattr(d, name) is not None for d in drawn]) == pytest.approx(expected, abs=0.04), name
    image = picture()
    for change in drawn[:60]:
        changed = change(image)
        assert changed.shape == image.shape and changed.dtype == np.uint8
        assert abs(float(changed.mean()) - float(image.mean())) < 90
