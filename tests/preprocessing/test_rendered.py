"""Pseudo-fakes that small networks drew."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from astronaut import HEAD
from safetensors.torch import save_file

from preprocessing.blending import BlendError, make, sample_rng
from preprocessing.blending.clips import FaceClip
from preprocessing.blending.rendered import (
    CODECS,
    RENDERED,
    Codec,
    Drawing,
    load_codecs,
    packed_codecs,
    rendered_stream,
)
from preprocessing.types import Image, Points


@functools.cache
def portrait() -> tuple[Image, Points]:
    """The head and its landmarks (68, 2)."""
    from preprocessing.landmarks import create_landmark_predictor

    head = np.ascontiguousarray(HEAD)
    return head, create_landmark_predictor().predict(head, np.array([[79, 83, 166, 170]]))[0]


def test_every_network_draws_a_face_that_is_like_and_not_equal() -> None:
    image, _ = portrait()
    side = min(image.shape[:2]) // 16 * 16
    given = torch.from_numpy(image[:side, :side].copy()).permute(2, 0, 1)[None].float() / 255
    for codec, settings in zip(load_codecs(), CODECS, strict=True):
        with torch.inference_mode():
            drawn = codec(given)
        wrong = (drawn - given).square().mean()
        psnr = -10 * torch.log10(wrong)
        assert 18 < psnr < 45, f"{settings}: {psnr:.1f} dB"


@pytest.mark.parametrize("family", RENDERED)
def test_a_rendered_fake_changes_what_its_mask_says(family: str) -> None:
    image, points = portrait()
    for index in range(6):
        pair = make(family, image, points, sample_rng(1, 0, index))
        assert pair.fake.shape == image.shape and pair.fake.dtype == np.uint8 and pair.family == family
        assert np.array_equal(pair.fake[pair.mask == 0], image[pair.mask == 0])
        changed = np.abs(pair.fake.astype(int) - image)[pair.mask > 0.9]
        assert changed.size and 0.2 < changed.mean() < 80
        again = make(family, image, points, sample_rng(1, 0, index))
        assert np.array_equal(again.fake, pair.fake), "the same numbers give the same bits"


@pytest.mark.parametrize("family", RENDERED)
def test_one_network_draws_the_same_part_of_every_frame_of_a_clip(family: str) -> None:
    image, points = portrait()
    clip = FaceClip([image] * 3, np.stack([points] * 3))
    stream = rendered_stream(clip, family, np.random.default_rng(4))
    made = stream.clip()
    assert all(np.array_equal(mask, made.masks[0]) for mask in made.masks)
    assert all((frame != image).any() for frame in made.frames)
    again = rendered_stream(clip, family, np.random.default_rng(4))
    assert np.array_equal(again.frame(2)[0], made.frames[2]), "a frame does not depend on those before it"


def test_drawing_leaves_torchs_own_random_numbers_alone() -> None:
    image, _ = portrait()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    Drawing.draw(np.random.default_rng(1))(image, 100.0)
    assert torch.equal(torch.rand(2), wanted)


def test_networks_are_kept_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = [Codec(settings).eval() for settings in CODECS]
    save_file(*packed_codecs(made)[:1], str(tmp_path / "r.safetensors"), packed_codecs(made)[1])
    picture = torch.rand(1, 3, 32, 48)
    for kept, codec in zip(load_codecs(tmp_path / "r.safetensors"), made, strict=True):
        assert torch.allclose(kept(picture), codec(picture), atol=1e-2)


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    for content in (b"", b"\0" * 64):
        path = tmp_path / "wrong.safetensors"
        path.write_bytes(content)
        with pytest.raises(BlendError, match=r"wrong\.safetensors: not the networks"):
            load_codecs(path)
    with pytest.raises(BlendError, match="nowhere"):
        load_codecs(tmp_path / "nowhere")
