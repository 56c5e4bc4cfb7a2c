"""Faces as a network draws them: real pictures through small autoencoders, whole or in part.

Swapped faces, neural textures and animated heads all leave a decoder: fine texture is lost or made up, and upsampling
leaves its grain. Four autoencoders of different depth and upsampling (`python -m train.renderer`) stand for them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from preprocessing.blending.clips import FaceClip, FakeStream
from preprocessing.blending.colour import augment_source
from preprocessing.blending.masks import EYES, HULLS, MOUTH, Mask, hull_mask, region_mask
from preprocessing.blending.pseudofake import MAX_REDRAWS, BlendError, PseudoFake, blend, checked
from preprocessing.blending.selfblend import soften
from preprocessing.blending.warps import affine_jitter, displace, elastic_field, warp
from preprocessing.crops import face_square
from preprocessing.types import Image

Upsampling = Literal["nearest", "bilinear", "transposed", "shuffle"]
Part = Literal["face", "part", "whole"]
RENDERED: dict[str, Part] = {f"rendered_{part}": part for part in get_args(Part)}
"""Families of stills and of clips."""
RENDERER = Path(__file__).with_name("renderer.safetensors")
WIDTHS = (16, 32, 64, 96)
"""Channels at half, a quarter, an eighth and a sixteenth of the resolution."""
FACE_SIDES = (64.0, 176.0)
"""Pixels of the face that the networks draw: published generators draw heads of 64 to 256 px."""

DEEP_SIDE = 112.0
"""At least, for a network of four halvings."""


@dataclass(frozen=True)
class CodecSettings:
    """`depth` halvings, `latent` channels between encoder and decoder."""

    depth: int
    latent: int
    upsampling: Upsampling


CODECS = (
    CodecSettings(2, 6, "nearest"),
    CodecSettings(3, 24, "transposed"),
    CodecSettings(3, 16, "shuffle"),
    CodecSettings(4, 64, "bilinear"),
)


class Codec(nn.Module):
    """Pictures (B, 3, H, W) in 0..1, sides divisible by 2 ** depth, to the same shape."""

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        widths = WIDTHS[: settings.depth]
        down: list[nn.Module] = []
        for here, there in zip((3, *widths), widths, strict=False):
            down += [nn.Conv2d(here, there, 3, 2, 1), nn.SiLU(), nn.Conv2d(there, there, 3, 1, 1), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], settings.latent, 1))
        up: list[nn.Module] = [nn.Conv2d(settings.latent, widths[-1], 3, 1, 1), nn.SiLU()]
        for here, there in zip(widths[::-1], (*widths[-2::-1], widths[0]), strict=True):
            up += [*_double(here, there, settings.upsampling), nn.SiLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], 3, 3, 1, 1))

    def forward(self, pictures: Tensor, noise: float = 0.0) -> Tensor:
        """`noise`: deviation of what is added between the two, in deviations of each channel there."""
        latent: Tensor = self.encoder(pictures - 0.5)
        if noise:
            latent = latent + noise * latent.std(dim=(2, 3), keepdim=True) * torch.randn_like(latent)
        drawn: Tensor = self.decoder(latent)
        return drawn + 0.5


def _double(here: int, there: int, kind: Upsampling) -> list[nn.Module]:
    if kind == "transposed":
        return [nn.ConvTranspose2d(here, there, 3, 2, 1, 1)]
    if kind == "shuffle":
        return [nn.Conv2d(here, 4 * there, 3, 1, 1), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2, mode=kind), nn.Conv2d(here, there, 3, 1, 1)]


@cache
def load_codecs(path: Path = RENDERER) -> tuple[Codec, ...]:
    """Raises BlendError where there is no such file, or it holds something else."""
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a mapping
            settings = [CodecSettings(**one) for one in json.loads(file.metadata()["codecs"])]
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BlendError(f"{path}: not the networks of `python -m train.renderer` ({error})") from None
    codecs = []
    for number, one in enumerate(settings):
        codec = Codec(one).eval().requires_grad_(False)
        start = f"{number}."
        codec.load_state_dict({name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)})
        codecs.append(codec.to(memory_format=torch.channels_last))
    return tuple(codecs)


def packed_codecs(codecs: list[Codec]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (half precision) and metadata of the file that `load_codecs` reads."""
    tensors = {
        f"{number}.{name}": tensor.half().contiguous()
        for number, codec in enumerate(codecs)
        for name, tensor in codec.state_dict().items()
    }
    return tensors, {"codecs": json.dumps([asdict(one) for one in CODECS])}


@dataclass(frozen=True)
class Drawing:
    """Which network draws, with the face so many pixels large, how its picture is enlarged again, and how far (0 to 1)
    its broad colours are brought back: so small a network pales them, and colour must not be what gives it away."""

    codec: int
    face_side: float
    noise: float
    cubic: bool
    colour: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Drawing:
        """Raises BlendError where the networks are missing."""
        noise = float(rng.uniform(0.02, 0.15)) * (rng.random() < 0.33)
        codec = int(rng.integers(len(load_codecs())))
        deep = CODECS[codec].depth > 3  # what it draws of a small face is a smear
        side = float(rng.uniform(DEEP_SIDE if deep else FACE_SIDES[0], FACE_SIDES[1]))
        cubic, colour = bool(rng.random() < 0.5), float(rng.uniform(0.5, 1))
        return cls(codec, side, noise, cubic, colour, int(rng.integers(2**31)))

    def __call__(self, image: Image, face_side: float, frame: int = 0) -> Image:
        """The picture (H, W, 3) uint8, whose face is `face_side` pixels large; each `frame` has noise of its own."""
        height, width = image.shape[:2]
        scale = min(self.face_side / face_side, 1.2)
        # Sides divisible by 16, so that no network's grid is cut.
        size = max(16, round(width * scale / 16) * 16), max(16, round(height * scale / 16) * 16)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        given = torch.from_numpy(small).permute(2, 0, 1)[None].float().div_(255)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(self.seed + frame)
            codec = load_codecs()[self.codec]
            drawn = codec(given.contiguous(memory_format=torch.channels_last), self.noise)[0]
        picture = np.ascontiguousarray(drawn.permute(1, 2, 0).numpy())
        lost = given[0].permute(1, 2, 0).numpy() - picture
        sigma = self.face_side / 10
        picture += np.float32(self.colour) * cv2.GaussianBlur(lost, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        back = cv2.INTER_CUBIC if self.cubic else cv2.INTER_LINEAR
        full = cv2.resize(picture, (width, height), interpolation=back)
        return np.clip(np.rint(full * 255), 0, 255).astype(np.uint8)


def rendered(
    part: Part,
    image: Image,
    points: NDArray[np.floating],
    rng: np.random.Generator,
    drawing: Drawing | None = None,
    frame: int = 0,
) -> PseudoFake:
    """A pseudo-fake whose face, one part of it, or whole picture a network drew.

    `image` (H, W, 3) uint8 RGB, landmarks (68 or 81, 2) in its pixels. With "whole" the mask is 1 everywhere: there
    is no boundary to find.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    here = checked(image, points)
    shape = (image.shape[0], image.shape[1])
    side = face_square(here[:68], 1.0)[2]
    drawing = drawing or Drawing.draw(rng)
    if part == "whole":
        whole = np.ones(shape, np.float32)
        return PseudoFake(image, drawing(image, side, frame), whole, here, "rendered_whole")
    for redraws in range(MAX_REDRAWS):
        if part == "face":
            mask = hull_mask(HULLS[int(rng.integers(len(HULLS)))], here, shape)
        else:
            kinds = MOUTH if rng.random() < 0.7 else EYES
            mask = region_mask(kinds[int(rng.integers(len(kinds)))], here, shape, rng)
        changed = augment_source(image, rng) if rng.random() < 0.3 else image
        drawn = drawing(changed, side, frame)
        source, mask = warp(drawn, mask, affine_jitter(shape, rng))  # drawn anew, it does not fit to the pixel
        soft = soften(displace(mask, elastic_field(shape, rng)), rng)
        if soft is not None:
            return PseudoFake(image, blend(source, image, soft), soft, here, f"rendered_{part}", 1.0, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")


def rendered_stream(clip: FaceClip, family: str, rng: np.random.Generator) -> FakeStream:
    """A clip of which one network drew the same part in every frame; one frame at a time.

    Raises:
        BlendError: a family that is not of RENDERED; in the stream, a frame in which nothing can be blended.
    """
    if family not in RENDERED:
        raise BlendError(f"no rendered family {family!r}: there are {', '.join(RENDERED)}")
    part, drawing, seed = RENDERED[family], Drawing.draw(rng), int(rng.integers(2**31))

    def frame(index: int) -> tuple[Image, Mask]:
        # The same region, change of colour and misfit in every frame.
        same = np.random.default_rng(seed)
        pair = rendered(part, clip.frames[index], clip.landmarks[index], same, drawing, index)
        return pair.fake, pair.mask

    return FakeStream(frame, clip.landmarks, family, {"part": part} | asdict(drawing))
