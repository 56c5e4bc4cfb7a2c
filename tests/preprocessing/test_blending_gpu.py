"""Batched self-blends in torch: draw by draw against `sbi`, by distribution against `sbi_item`, and on a GPU if any."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from test_blending import face_points, faces, picture

from preprocessing.blending import sample_rng, sbi, sbi_item
from preprocessing.blending.colour import PostAugmentation, SourceChange, apply_hsv_drop, jpeg, sharpen
from preprocessing.blending.gpu import SbiBatch, blend_batch, sbi_batch
from preprocessing.blending.gpu_colour import hsv_drop_batch, recolour, sharpen_batch
from preprocessing.blending.gpu_draw import BatchDraw, ColourDraw, batch_generator
from preprocessing.blending.gpu_jpeg import jpeg_batch
from preprocessing.blending.gpu_mask import elastic_fields
from preprocessing.blending.items import tight_crop, wide_crop
from preprocessing.blending.pseudofake import SMALLEST_MASK, BlendError
from preprocessing.blending.sbi import SbiDraw, SbiSettings
from preprocessing.blending.targets import face_xray
from preprocessing.blending.warps import elastic_field

CPU = torch.device("cpu")
SIDE = 256


def stacked(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures))


def planes(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def pixels(one: torch.Tensor) -> NDArray[np.float64]:
    return one.permute(1, 2, 0).double().numpy()


# --- the same draws


def drawn_by_sbi(shape: tuple[int, int], seeds: int, batch: int, options: SbiSettings) -> BatchDraw:
    """What `sbi` draws for sample_rng(seeds, 0, i), laid out for the batch; nothing after the blend."""
    draws, noise = [], []
    for index in range(batch):
        rng = sample_rng(seeds, 0, index)
        draws.append(SbiDraw.draw(shape, 81, rng, options))
        places = [-(-n // 4) + 16 for n in shape]
        noise.append(rng.uniform(-1, 1, (*places, 2)).astype(np.float32).transpose(2, 0, 1))
    changes = [draw.change for draw in draws]

    def floats(values: list[object]) -> torch.Tensor:
        return torch.tensor(np.array(values), dtype=torch.float32)

    blank = ColourDraw(
        torch.zeros(batch, 3),
        torch.zeros(batch).bool(),
        torch.zeros(batch, 3).bool(),
        torch.tensor([[1.0, 0.0]] * batch),
    )
    matrices = np.stack([draw.matrix for draw in draws])
    scale = np.stack([matrices[:, 0, 0], matrices[:, 1, 1]], 1)
    middle = np.array([shape[1], shape[0]]) / 2 - 0.5
    return BatchDraw(
        kinds=tuple(draw.hull for draw in draws),
        counts=tuple(draw.count for draw in draws),
        change=ColourDraw(
            floats([np.zeros(3) if change.shift is None else change.shift for change in changes]),
            torch.ones(batch).bool(),
            torch.tensor(np.stack([change.hsv for change in changes])),
            floats([change.tone for change in changes]),
        ),
        factor=torch.tensor([max(change.factor, 1) for change in changes]),
        sharpness=floats([change.sharpness for change in changes]),
        on_source=torch.tensor([draw.on_source for draw in draws]),
        scale=torch.tensor(scale, dtype=torch.float32),
        shift=torch.tensor(matrices[:, :, 2] - (1 - scale) * middle, dtype=torch.float32),
        sides=torch.tensor([draw.sides for draw in draws]),
        kernels=torch.tensor([draw.kernels for draw in draws]),
        sigma=floats([draw.sigma for draw in draws]),
        ratio=floats([draw.ratio for draw in draws]),
        noise=torch.from_numpy(np.stack(noise)),
        post=blank,
        quality=torch.zeros(batch, dtype=torch.long),
        flip=torch.zeros(batch).bool(),
        reach=torch.full((batch, 4), 0.5),
    )


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("low", [False, True], ids=["inside the picture", "chin cut off"])
def test_on_the_same_draws_a_batch_is_what_sbi_makes(relative: bool, low: bool) -> None:
    shape, batch, options = (SIDE, SIDE), 24, SbiSettings(relative_sides=relative)
    image, points = picture(3, shape), face_points((120, 235 if low else 140), 110, 81)
    found = blend_batch(
        stacked([image] * batch).permute(0, 3, 1, 2),
        np.stack([points] * batch),
        drawn_by_sbi(shape, 5, batch, options),
        options,
        SIDE,
        tight=False,
        train=False,
        post=False,
    )
    for index in range(batch):
        pair = sbi(image, points, sample_rng(5, 0, index), options)
        assert pair.redraws == 0 and not found.replaced[index]
        # OpenCV samples at 1/32 px and in fixed point: an eroded edge may fall one pixel aside, here and there.
        assert np.abs(found.masks[index].numpy() - pair.mask).mean() < 2e-3
        assert found.ratios[index] == pytest.approx(pair.ratio)
        # Sums that fall on a half round either way: a few levels at single pixels, next to nothing on average.
        assert np.abs(pixels(found.reals[index]) - pair.real).mean() < 0.2
        assert np.abs(pixels(found.fakes[index]) - pair.fake).mean() < 0.2


# --- other draws of the same distribution


def measures(real: NDArray[np.uint8], fake: NDArray[np.uint8], mask: NDArray[np.float32]) -> list[float]:
    """Area, width of the ramp, X-ray integral, difference of real and fake, colour shift by channel."""
    inside = mask > 0.9
    change = fake[inside].astype(float) - real[inside]
    ramp = ((mask > 0.05) & (mask < 0.95)).sum() / np.sqrt((mask > 0.5).sum())
    one = [float((mask > 0.5).mean()), float(ramp), float(face_xray(mask).mean()), float(np.abs(change).mean())]
    return [*one, *change.mean(axis=0).tolist()]


def both_ways(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The measures of `count` samples of each, (count, 7): batches first."""
    image, points = picture(3, (SIDE, SIDE)), face_points((128, 150), 120, 81)
    slow = [sbi_item(image, points, sample_rng(seed, 0, i), size=SIDE) for i in range(count)]
    # The item crops around the face before it blends: the batch is given that crop.
    rows, columns = wide_crop(points, (SIDE, SIDE))
    around, corner = image[rows, columns], np.array([columns.start, rows.start], np.float32)
    fast = []
    for step in range(count // 16):
        made = sbi_batch(stacked([around] * 16), np.stack([points - corner] * 16), batch_generator(seed, 0, step))
        fast += [(pixels(r).astype(np.uint8), pixels(f).astype(np.uint8), m.numpy()) for r, f, m in _pairs(made)]
    return np.array([measures(*one) for one in fast]), np.array([measures(p.real, p.fake, p.mask) for p in slow])


def _pairs(batch: SbiBatch) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return list(zip(batch.reals, batch.fakes, batch.masks, strict=True))


@pytest.mark.parametrize(
    ("count", "seed", "spread"), [(192, 1, 0.35), pytest.param(1000, 101, 0.16, marks=pytest.mark.slow)]
)
def test_batches_and_items_have_the_same_distribution(count: int, seed: int, spread: float) -> None:
    fast, slow = both_ways(count, seed)
    # The draws differ, so means differ by their own standard error: four of it, once in 16,000 comparisons by chance.
    error = np.sqrt((fast.var(axis=0) + slow.var(axis=0)) / count)
    names = ("area", "ramp", "x-ray", "difference", "red", "green", "blue")
    for name, gap, allowed in zip(names, np.abs(fast.mean(axis=0) - slow.mean(axis=0)), 4 * error, strict=True):
        assert gap < allowed, name
    # A deviation from 192 samples is known to 5 % or, with the heavy tails of ratio times tone, to 10; the ratio of two
    # to 14, of which 0.35 is two and a half; from 1,000, the ratio is known to less than half of that.
    assert np.allclose(fast.std(axis=0) / slow.std(axis=0), 1, atol=spread)


def test_both_draw_with_the_same_odds_and_ranges() -> None:
    options = SbiSettings()
    draw = BatchDraw.draw((64, 80), 4000, 81, batch_generator(0, 0, 0), options, CPU)
    cpu = [SbiDraw.draw((64, 80), 81, np.random.default_rng(i), options) for i in range(4000)]
    post = [PostAugmentation.draw(np.random.default_rng(i)) for i in range(4000)]
    # A share of 4,000 is known to 0.008, a difference of two to 0.011: four times that.
    shares: list[tuple[Any, Any]] = [
        (draw.on_source.double().mean(), np.mean([d.on_source for d in cpu])),
        ((draw.change.shift != 0).any(1).double().mean(), np.mean([d.change.shift is not None for d in cpu])),
        (draw.change.drop.double().mean(), np.mean([d.change.hsv for d in cpu])),
        *(
            ((draw.factor == max(f, 1)).double().mean(), np.mean([d.change.factor == f for d in cpu]))
            for f in (0, 2, 4)
        ),
        *((np.mean([k == kind for k in draw.kinds]), np.mean([d.hull == kind for d in cpu])) for kind in options.hulls),
        (np.mean([c == 68 for c in draw.counts]), np.mean([d.count == 68 for d in cpu])),
        ((draw.ratio == 1).double().mean(), np.mean([d.ratio == 1 for d in cpu])),
        ((draw.post.shift != 0).any(1).double().mean(), np.mean([p.shift is not None for p in post])),
        (draw.post.hsv.double().mean(), np.mean([p.hsv is not None for p in post])),
        ((draw.post.tone[:, 0] != 1).double().mean(), np.mean([p.tone is not None for p in post])),
        ((draw.quality > 0).double().mean(), np.mean([p.quality is not None for p in post])),
    ]
    for number, (ours, theirs) in enumerate(shares):
        assert float(ours) == pytest.approx(float(theirs), abs=0.045), number
    matrices = np.stack([d.matrix for d in cpu])
    tensors = [
        draw.scale,
        draw.sides,
        draw.kernels,
        draw.sigma,
        draw.change.tone,
        draw.shift / torch.tensor([80.0, 64.0]),
        draw.sharpness[draw.factor == 1],
        draw.quality[draw.quality > 0],
        draw.post.shift[(draw.post.shift != 0).any(1)],
    ]
    middle = np.array([39.5, 31.5])
    scales = np.stack([matrices[:, 0, 0], matrices[:, 1, 1]], 1)
    arrays: list[NDArray[Any]] = [
        scales,
        np.array([d.sides for d in cpu]),
        np.array([d.kernels for d in cpu]),
        np.array([d.sigma for d in cpu]),
        np.array([d.change.tone for d in cpu]),
        (matrices[:, :, 2] - (1 - scales) * middle) / (80, 64),
        np.array([d.change.sharpness for d in cpu if not d.change.factor]),
        np.array([p.quality for p in post if p.quality is not None]),
        np.array([p.shift for p in post if p.shift is not None]),
    ]
    for number, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        a, b = tensor.double().numpy().reshape(len(tensor), -1), array.reshape(len(array), -1)
        # Kolmogorov and Smirnov's distance of two samples, passed by chance once in a thousand.
        furthest = 1.95 * np.sqrt((len(a) + len(b)) / (len(a) * len(b)))
        for column in range(a.shape[1]):
            assert ks_2samp(a[:, column], b[:, column]).statistic < furthest, (number, column)
        assert np.allclose(a.min(0), b.min(0), atol=0.02 * np.ptp(b)), number
        assert np.allclose(a.max(0), b.max(0), atol=0.02 * np.ptp(b)), number


def test_fields_are_those_of_the_cpu_for_the_same_noise_and_as_far_and_as_smooth_for_any() -> None:
    shape, rng = (256, 256), np.random.default_rng(4)
    noise = rng.uniform(-1, 1, (80, 80, 2)).astype(np.float32)
    axis = (2 * torch.arange(256) + 1) / 256 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
    same = elastic_fields(torch.from_numpy(noise.transpose(2, 0, 1))[None], grid)[0].permute(1, 2, 0).numpy()
    assert np.abs(same - elastic_field(shape, np.random.default_rng(4))).max() < 1e-3
    draw = BatchDraw.draw(shape, 40, 81, batch_generator(2, 0, 0), SbiSettings(), CPU)
    fields = elastic_fields(draw.noise, grid.expand(40, 256, 256, 2)).numpy()
    # 40 fields x 2 of some 200 independent places each: the deviation is known to 0.6 %, correlations to 0.02.
    assert fields.std() == pytest.approx(1.14, abs=0.04)
    for lag, expected in ((5, 0.88), (10, 0.60), (14, 0.38), (20, 0.13)):
        assert np.corrcoef(fields[..., :-lag].ravel(), fields[..., lag:].ravel())[0, 1] == pytest.approx(
            expected, abs=0.05
        )


# --- properties


@settings(max_examples=15, deadline=None)
@given(points=faces, seed=st.integers(0, 2**31))
def test_a_fake_differs_from_its_real_inside_the_mask_only(points: NDArray[np.float32], seed: int) -> None:
    images = stacked([picture(seed % 7), picture(seed % 5)])
    made = sbi_batch(images, np.stack([points] * 2), batch_generator(seed, 0, 0), tight=False, post=False)
    assert made.reals.dtype == made.fakes.dtype == torch.uint8 and made.masks.dtype == torch.float32
    assert made.reals.shape == made.fakes.shape == (2, 3, SIDE, SIDE) and made.masks.shape == (2, SIDE, SIDE)
    assert made.masks.min() >= 0 and made.masks.max() <= 1 and torch.all(made.masks.amax((1, 2)) > 0.95)
    assert made.xrays.min() >= 0 and made.xrays.max() <= 1
    outside = (made.masks == 0)[:, None].expand(made.reals.shape)
    assert outside.any() and torch.equal(made.reals[outside], made.fakes[outside])


def test_the_generator_decides_every_bit_and_the_layout_none() -> None:
    images, points = stacked([picture(i) for i in range(3)]), np.stack([face_points(count=81)] * 3)
    before = images.clone()
    one = sbi_batch(images, points, batch_generator(3, 1, 4))
    other = sbi_batch(images.permute(0, 3, 1, 2), torch.from_numpy(points), batch_generator(3, 1, 4))
    for name in ("reals", "fakes", "masks", "ratios", "replaced"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(images, before), "the pictures given are left alone"
    assert not torch.equal(one.masks, sbi_batch(images, points, batch_generator(3, 1, 5)).masks)


def test_a_face_that_erosion_leaves_nothing_of_gets_its_plain_hull() -> None:
    points = np.stack([face_points((128, 128), 22)] * 32)
    made = sbi_batch(stacked([picture()] * 32), points, batch_generator(0, 0, 0), tight=False, post=False)
    assert 0 < int(made.replaced.sum()) < 32, "some kernels leave something, some do not"
    assert torch.all(made.masks.sum((1, 2)) >= SMALLEST_MASK * SIDE**2)


def test_masks_can_be_the_targets_of_a_loss() -> None:
    made = sbi_batch(stacked([picture()]), face_points()[None], batch_generator(0, 0, 0), size=32)
    logits = torch.zeros(made.masks.shape, requires_grad=True)
    torch.nn.functional.binary_cross_entropy_with_logits(logits, made.xrays).backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0


def test_a_tight_crop_shows_the_face_and_validation_is_steady() -> None:
    images, points = stacked([picture(1, (300, 280))] * 8), np.stack([face_points((140, 170), 130, 81)] * 8)
    made = sbi_batch(images, points, batch_generator(0, 0, 0), size=224)
    assert made.reals.shape == (8, 3, 224, 224) and torch.all(made.masks[:, 112, 112] > 0.5)
    steady = sbi_batch(images, points, batch_generator(0, 0, 1), size=224, train=False, post=False)
    rows, columns = tight_crop(np.concatenate([points[0].min(0), points[0].max(0)]), np.full(4, 0.5), (300, 280))
    plain = torch.from_numpy(cv2.resize(picture(1, (300, 280))[rows, columns], (224, 224))).permute(2, 0, 1).int()
    gaps = (steady.reals.int() - plain).abs().double().mean((1, 2, 3))
    # A real is either the picture as it is or the changed target, which even its HSV round trip tells apart.
    assert 0 < int((gaps < 0.2).sum()) < 8 and torch.all((gaps < 0.2) | (gaps > 0.5))


@pytest.mark.parametrize(
    ("images", "points", "message"),
    [
        (stacked([picture()]).float(), face_points()[None], "uint8"),
        (stacked([picture()])[0], face_points()[None], "B, H, W, 3"),
        (stacked([picture()]), face_points(), "landmarks"),
        (stacked([picture()]), np.full((1, 68, 2), np.nan), "finite"),
        (stacked([picture()]), face_points()[None] + 5000, "picture 0"),
        (stacked([picture()])[:0], face_points()[None], "at least one"),
    ],
)
def test_what_cannot_be_blended_is_named(images: torch.Tensor, points: NDArray[np.float32], message: str) -> None:
    with pytest.raises(BlendError, match=message):
        sbi_batch(images, points, batch_generator(0, 0, 0))


# --- parts


@pytest.mark.parametrize("shape", [(256, 256), (203, 190)])
@pytest.mark.parametrize("quality", [10, 40, 60, 75, 90, 100])
def test_jpeg_is_opencvs_up_to_rounding(quality: int, shape: tuple[int, int]) -> None:
    image = picture(2, shape)
    expected = jpeg(image, quality).astype(float)
    found = pixels(jpeg_batch(planes(image), torch.tensor([quality]))[0])
    # libjpeg's integer DCT: single coefficients fall to the other side of a half, no more.
    assert np.abs(found - expected).mean() < 0.35
    assert np.abs(found - expected).mean() < 0.5 * np.abs(expected - image).mean()


def test_a_picture_without_jpeg_is_left_alone_beside_one_with() -> None:
    image = planes(picture()).repeat(2, 1, 1, 1)
    done = jpeg_batch(image, torch.tensor([0, 50]))
    assert torch.equal(done[0], image[0]) and not torch.equal(done[1], image[1])


@pytest.mark.parametrize("seed", range(8))
def test_colours_change_as_on_the_cpu(seed: int) -> None:
    image, change = picture(seed), SourceChange.draw(np.random.default_rng(seed))
    draw = ColourDraw(
        torch.zeros(1, 3) if change.shift is None else torch.from_numpy(change.shift)[None],
        torch.tensor([True]),
        torch.from_numpy(change.hsv)[None],
        torch.tensor([change.tone], dtype=torch.float32),
    )
    assert np.abs(pixels(recolour(planes(image), draw)[0]) - change.colour(image)).mean() < 0.05
    dropped = hsv_drop_batch(planes(image), draw.drop)[0]
    assert np.abs(pixels(dropped) - apply_hsv_drop(image, change.hsv)).mean() < 0.03
    sharp = sharpen_batch(planes(image), torch.tensor([[0.4, 0.7]]))[0]
    assert np.abs(pixels(sharp) - sharpen(image, 0.4, 0.7)).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda is not available: needs a GPU")
def test_cpu_and_gpu_agree_on_the_same_draws() -> None:
    options, device = SbiSettings(), torch.device("cuda")
    images = stacked([picture(i % 7) for i in range(32)]).permute(0, 3, 1, 2)
    points = np.stack([face_points(count=81)] * 32)
    draw = BatchDraw.draw((SIDE, SIDE), 32, 81, batch_generator(7, 0, 0), options, CPU)
    here = blend_batch(images, points, draw, options, SIDE)
    there, again = (blend_batch(images.to(device), points, draw, options, SIDE) for _ in range(2))
    assert there.fakes.device.type == "cuda"
    assert torch.equal(there.fakes, again.fakes) and torch.equal(there.masks, again.masks), "bit for bit on one device"
    resident = images.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        blend_batch(resident, points, draw, options, SIDE)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (here.masks - there.masks.cpu()).abs().mean() < 1e-3
    for one, other in ((here.reals, there.reals), (here.fakes, there.fakes)):
        assert (one.float() - other.cpu().float()).abs().mean() < 0.1
