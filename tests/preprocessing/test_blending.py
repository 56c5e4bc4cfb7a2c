"""Self-blending: its properties for any face, and the statistics that the specification fixes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from preprocessing.blending import (
    BlendedPair,
    BlendError,
    BlendSettings,
    Degradation,
    Family,
    PostAugmentation,
    sample_rng,
    self_blend,
)
from preprocessing.blending import selfblend as module
from preprocessing.blending.colour import apply_hsv_drop, jpeg, lower_resolution, sharpen
from preprocessing.blending.masks import EYES, HULLS, MOUTH, hull_mask, region_mask
from preprocessing.blending.warps import affine_jitter, displace, elastic_field
from preprocessing.landmarks import to_81

FAMILIES: tuple[Family, ...] = ("face", "mouth", "eyes", "resolution")


def face_points(centre: tuple[float, float] = (128, 132), side: float = 116, count: int = 68) -> NDArray[np.float32]:
    """An upright face: jaw, brows, nose, eyes and mouth where they are on one, in a box of about `side`."""
    t = np.linspace(0, 1, 17)
    jaw = np.stack([-0.5 + t, -0.15 + 0.65 * np.sin(np.pi * t)], 1)
    brow = np.stack([np.linspace(-0.4, -0.08, 5), -0.32 - 0.05 * np.sin(np.pi * np.linspace(0, 1, 5))], 1)
    bridge = np.stack([np.zeros(4), np.linspace(-0.2, 0.05, 4)], 1)
    nostrils = np.stack([np.linspace(-0.1, 0.1, 5), np.full(5, 0.12)], 1)
    a = np.radians([180, 240, 300, 0, 60, 120])
    eye = np.stack([0.09 * np.cos(a), 0.04 * np.sin(a) - 0.18], 1)
    b = np.radians(180 + 30 * np.arange(12))
    lips = np.stack([0.2 * np.cos(b), 0.08 * np.sin(b) + 0.27], 1)
    inner = np.stack([0.12 * np.cos(np.radians(180 + 45 * np.arange(8))), np.full(8, 0.27)], 1)
    mirrored = (brow * [-1, 1])[::-1]
    aside = np.array([0.22, 0])
    parts = [jaw, brow, mirrored, bridge, nostrils, eye - aside, eye + aside, lips, inner]
    points = (np.concatenate(parts) * side + centre).astype(np.float32)
    return to_81(points[None])[0] if count == 81 else points


def picture(seed: int = 0, shape: tuple[int, int] = (256, 256)) -> NDArray[np.uint8]:
    """Texture at every scale, as in a photograph."""
    rng = np.random.default_rng(seed)
    levels = [cv2.resize(rng.normal(size=(4 * 2**k, 4 * 2**k, 3)) / 2**k, shape[::-1]) for k in range(6)]
    return np.clip(128 + 40 * np.sum(levels, axis=0), 0, 255).astype(np.uint8)


def only(family: Family) -> BlendSettings:
    return BlendSettings(families={family: 1.0})


faces = st.builds(
    face_points,
    centre=st.tuples(st.floats(90, 170), st.floats(90, 170)),
    side=st.floats(50, 160),
    count=st.sampled_from([68, 81]),
)


@settings(max_examples=60, deadline=None)
@given(points=faces, seed=st.integers(0, 2**31), family=st.sampled_from(FAMILIES))
def test_a_fake_differs_from_its_real_inside_the_mask_only(
    points: NDArray[np.float32], seed: int, family: Family
) -> None:
    pair = self_blend(picture(seed % 7), points, sample_rng(seed, 0, 0), only(family))
    assert pair.real.dtype == pair.fake.dtype == np.uint8 and pair.mask.dtype == np.float32
    assert pair.mask.min() >= 0 and 0 < pair.mask.max() <= 1
    outside = pair.mask == 0
    assert outside.any()
    assert np.array_equal(pair.real[outside], pair.fake[outside])
    assert (pair.real != pair.fake).any()
    assert pair.family == family


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 100), index=st.integers(0, 10**6))
def test_seed_epoch_and_index_decide_everything(seed: int, epoch: int, index: int) -> None:
    def make() -> BlendedPair:
        return self_blend(picture(), face_points(), sample_rng(seed, epoch, index))

    one, other = make(), make()
    assert np.array_equal(one.fake, other.fake) and np.array_equal(one.real, other.real)
    assert np.array_equal(one.mask, other.mask)
    moved = self_blend(picture(), face_points(), sample_rng(seed, epoch + 1, index))
    assert not np.array_equal(one.fake, moved.fake)


def test_the_picture_and_the_landmarks_given_are_left_alone() -> None:
    image, points = picture(), face_points(count=81)
    before = image.copy(), points.copy()
    for index in range(20):
        self_blend(image, points, sample_rng(1, 0, index))
    assert np.array_equal(image, before[0]) and np.array_equal(points, before[1])


def test_families_are_drawn_by_their_odds_and_zero_holds_one_out() -> None:
    wanted = BlendSettings(families={"face": 3, "mouth": 1, "eyes": 0})
    drawn = [self_blend(picture(), face_points(), sample_rng(5, 0, i), wanted).family for i in range(200)]
    assert set(drawn) == {"face", "mouth"}
    assert 120 < drawn.count("face") < 180


def test_local_families_stay_in_their_part_of_the_face() -> None:
    points = face_points()
    for index in range(30):
        mouth = self_blend(picture(), points, sample_rng(2, 0, index), only("mouth")).mask
        eyes = self_blend(picture(), points, sample_rng(2, 0, index), only("eyes")).mask
        brow, nose = int(points[17:27, 1].min()), int(points[28, 1])
        assert mouth[: brow + 10].max() == 0, "a mouth reaches the brows"
        assert eyes[int(points[33, 1]) + 25 :].max() == 0, "eyes reach the mouth"
        assert mouth[nose:].sum() > 0.5 * mouth.sum()


def test_an_empty_mask_is_drawn_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real_soften, calls = module.soften, []

    def empty_twice(mask: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32] | None:
        calls.append(1)
        return None if len(calls) <= 2 else real_soften(mask, rng)

    monkeypatch.setattr(module, "soften", empty_twice)
    assert self_blend(picture(), face_points(), sample_rng(1, 0, 0)).redraws == 2


def test_an_all_zero_mask_is_empty_not_a_division_by_zero() -> None:
    assert module.soften(np.zeros((64, 64), np.float32), np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    "points",
    [face_points() + 5000, np.zeros((68, 2), np.float32), np.full((68, 2), np.nan), np.zeros((5, 2)), np.zeros((0, 2))],
)
def test_landmarks_that_make_no_mask_are_an_error(points: NDArray[np.float32]) -> None:
    with pytest.raises(BlendError):
        self_blend(picture(), points, sample_rng(0, 0, 0))


def test_unknown_families_and_odds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="face"):
        BlendSettings.model_validate({"families": {"nose": 1}})
    with pytest.raises(ValueError, match="odds"):
        BlendSettings(families={"face": 0})


# --- masks


def test_hull_masks_nest_as_published() -> None:
    points = face_points(count=81)
    masks = {kind: hull_mask(kind, points, (256, 256)) > 0.5 for kind in HULLS}
    hull68 = hull_mask("hull", points[:68], (256, 256)) > 0.5
    areas = {kind: int(mask.sum()) for kind, mask in masks.items()}
    assert areas["hull"] > hull68.sum(), "81 points include the forehead"
    assert areas["extended"] > areas["components"], "lifted brows enlarge the mask"
    for kind in ("full", "components"):
        # A pixel of rounding at the edge: the hull of all points is anti-aliased, the others are not.
        grown = cv2.dilate(hull68.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (masks[kind] & ~grown).sum() == 0
    assert len(np.unique(hull_mask("hull", points, (256, 256)))) > 2
    assert set(np.unique(hull_mask("full", points, (256, 256)))) == {0.0, 1.0}


@pytest.mark.parametrize("kind", [*MOUTH, *EYES, "fwa"])
def test_region_masks_are_where_their_name_says(kind: str) -> None:
    points = face_points()
    mask = region_mask(kind, points, (256, 256), np.random.default_rng(0))  # type: ignore[arg-type]
    assert set(np.unique(mask)) <= {0.0, 1.0} and mask.any()
    rows = np.flatnonzero(mask.any(axis=1))
    middle, nose = rows.mean(), points[30, 1]
    assert middle > nose if kind in MOUTH else middle < nose if kind in EYES else True


def test_soft_masks_are_eroded_then_feathered() -> None:
    mask = hull_mask("hull", face_points(), (256, 256))
    for index in range(20):
        soft = module.soften(mask, np.random.default_rng(index))
        assert soft is not None and soft.max() > 0.99
        assert 0 < (soft > 0.5).sum() < (mask > 0.5).sum(), "the border lies inside the hull"
        assert ((soft > 0.05) & (soft < 0.95)).sum() > 50, "the border is soft"


# --- warps


def test_elastic_displacement_has_the_published_spread_and_correlation() -> None:
    fields = np.stack([elastic_field((256, 256), np.random.default_rng(i)) for i in range(24)])
    assert fields.shape == (24, 256, 256, 2)
    assert abs(fields.std() - 1.14) < 0.06
    assert abs(np.corrcoef(fields[..., 0].ravel(), fields[..., 1].ravel())[0, 1]) < 0.05, "x and y are independent"
    for lag, expected in ((5, 0.88), (10, 0.60), (14, 0.38), (20, 0.18)):
        found = np.corrcoef(fields[:, :, :-lag, 0].ravel(), fields[:, :, lag:, 0].ravel())[0, 1]
        assert abs(found - expected) < 0.08, f"lag {lag}: {found:.2f}"


@pytest.mark.parametrize("shape", [(3, 3), (61, 200), (317, 317)])
def test_elastic_spread_does_not_depend_on_the_size_of_the_picture(shape: tuple[int, int]) -> None:
    fields = np.stack([elastic_field(shape, np.random.default_rng(i)) for i in range(40)])
    assert fields.shape[1:3] == shape
    if min(shape) > 50:
        assert abs(fields.std() - 1.14) < 0.09


def test_no_displacement_changes_nothing() -> None:
    mask = hull_mask("hull", face_points(), (256, 256))
    assert np.array_equal(displace(mask, np.zeros((256, 256, 2), np.float32)), mask)


def test_affine_jitter_stays_within_its_limits() -> None:
    maps = np.stack([affine_jitter((200, 300), np.random.default_rng(i)) for i in range(500)])
    for axis in (0, 1):
        assert 0.95 <= maps[:, axis, axis].min() < 0.955 and 1.045 < maps[:, axis, axis].max() <= 1 / 0.95
    centre = np.array([149.5, 99.5])
    moved = maps[:, :, :2] @ centre + maps[:, :, 2] - centre
    assert np.all(np.abs(moved) <= (9 + 1e-9, 3 + 1e-9)), "shifts are at most 3 % of the width, 1.5 % of the height"
    assert np.all(np.abs(moved).max(axis=0) > (8, 2.7))


# --- colour


def test_an_hsv_shift_lowers_value_by_one_at_most() -> None:
    image = picture()
    trip = apply_hsv_drop(image, np.array([False] * 3)).astype(int)
    assert np.abs(trip - image).mean() < 1.2, "the round trip alone costs about half a level"
    dark = apply_hsv_drop(image, np.array([False, False, True])).astype(int)
    assert dark.max(axis=2).mean() == pytest.approx(image.max(axis=2).mean() - 1, abs=0.05)


def test_sharpening_and_lower_resolution_move_detail_the_right_way() -> None:
    image = np.random.default_rng(0).integers(60, 190, (128, 128, 3)).astype(np.uint8)

    def detail(changed: NDArray[np.uint8]) -> float:
        return float(cv2.Laplacian(changed, cv2.CV_32F).std())

    assert detail(lower_resolution(image, 2)) < 0.5 * detail(image) < detail(sharpen(image, 0.3, 0.7))
    assert abs(float(lower_resolution(image, 4).mean()) - float(image.mean())) < 1.5


def test_channels_stay_in_order_through_jpeg() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(jpeg(red, 95).astype(int) - red).max() <= 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_what_comes_after_blending_is_the_same_for_both_classes(seed: int) -> None:
    image = picture(seed % 5)
    for change in (PostAugmentation.draw(sample_rng(seed, 0, 0)), Degradation.draw(sample_rng(seed, 0, 1))):
        a = change(image) if isinstance(change, PostAugmentation) else change(image, 116)[0]
        b = change(image.copy()) if isinstance(change, PostAugmentation) else change(image.copy(), 116)[0]
        assert np.array_equal(a, b)


def test_post_augmentation_is_used_as_often_as_published() -> None:
    drawn = [PostAugmentation.draw(sample_rng(0, 0, i)) for i in range(2000)]
    for value, odds in (("shift", 0.3), ("hsv", 0.3), ("tone", 0.3), ("quality", 0.5)):
        assert abs(np.mean([getattr(d, value) is not None for d in drawn]) - odds) < 0.04
    qualities = [d.quality for d in drawn if d.quality is not None]
    assert min(qualities) == 40 and max(qualities) == 100


def test_degradation_never_enlarges_and_scales_coordinates() -> None:
    image = picture()
    for index in range(200):
        change = Degradation.draw(sample_rng(0, 0, index), side=(40, 200))
        out, factor = change(image, 116)
        assert factor <= 1 and out.shape[0] == round(256 * factor)
        assert change.side is None or factor == pytest.approx(min(change.side / 116, 1))
