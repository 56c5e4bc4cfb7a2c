"""Frame encoders: a face crop to one vector, by ResNet, MobileNet, a vision transformer, both, or DCT frequencies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MEAN as MOBILENET_MEAN
from detectors.backbone import STD as MOBILENET_STD
from detectors.backbone import WIDTHS, MobileNetV1
from detectors.methods.dual_level.dct import Frequencies, FrequencyGate, Subset

Triple = tuple[float, float, float]


class Encoder(nn.Module):
    """(N, 3, S, S), normalised by `mean` and `std`, to frame vectors (N, width)."""

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    width: int

    def features(self, batch: Tensor) -> Tensor:
        """The last map, (N, width, h, w)."""
        raise NotImplementedError

    def forward(self, batch: Tensor) -> Tensor:
        return self.features(batch).mean((2, 3))

    def cam_layer(self) -> nn.Module:
        """The layer whose map, (N, C, h, w) with h, w of 4 at 64 px where there is one, Grad-CAM looks at."""
        raise NotImplementedError


_STEM = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
"""torchvision's names of a ResNet's parts, and their places in the reference's sequence, which `net` has too."""


class ResNetEncoder(Encoder):
    """torchvision's ResNet without pooling and classifier; depth 50, 101 or 152, 2048 channels."""

    width = 2048

    def __init__(self, depth: int) -> None:
        super().__init__()
        import torchvision  # heavy; only where a network is made

        whole = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        self.net = nn.Sequential(*list(whole.children())[:-2])

    def features(self, batch: Tensor) -> Tensor:
        found: Tensor = self.net(batch)
        return found

    def cam_layer(self) -> nn.Module:
        return self.net[6]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take a torchvision ResNet's state dict. Raises RuntimeError where it is another network's."""
        named = {}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if part in _STEM:
                named[f"{_STEM[part]}.{rest}"] = value
        self.net.load_state_dict(named)


class MobileNetEncoder(Encoder):
    """MobileNet v1 up to stride 16, 512 channels: the compact profile's."""

    mean, std = MOBILENET_MEAN, MOBILENET_STD
    width = WIDTHS[3]

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV1(3)

    def features(self, batch: Tensor) -> Tensor:
        return self.backbone(batch)[-1]

    def cam_layer(self) -> nn.Module:
        last: nn.Module = self.backbone.net.blocks[-1]
        return last


class Block(nn.Module):
    """A transformer block, normed after each sum; linear maps of the attention have no bias."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.attended = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.thought = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = self.attended(tokens + self.project(mixed))
        return self.thought(tokens + self.mlp(tokens))


class Transformer(nn.Module):
    """Tokens (N, grid * grid, width) to the class token (N, width) after six blocks of four heads."""

    def __init__(self, width: int, grid: int, hidden: int, depth: int = 6, heads: int = 4) -> None:
        super().__init__()
        self.grid = grid
        self.start = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 1 + grid * grid, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth - 1)))
        self.map = nn.Identity()
        self.last = Block(width, heads, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = torch.cat([self.start.expand(tokens.shape[0], -1, -1), tokens], 1) + self.position
        tokens = self.blocks(tokens)
        # The last block reads the tokens from a map, so that Grad-CAM has one to look at.
        grid = self.map(tokens[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        tokens = torch.cat([tokens[:, :1], grid.flatten(2).transpose(1, 2)], 1)
        return self.last(tokens)[:, 0]


class ViTEncoder(Encoder):
    """A vision transformer on patches of 16 px, width 512, MLP 1024 (Dosovitskiy et al., ICLR 2021, post-norm here).

    A token is a contiguous block of pixels. `strided`: as in the reference, whose token (y, x) gathers every (S/16)-th
    pixel from row y and column x on, all over the picture.
    """

    width = 512
    PATCH = 16

    def __init__(self, size: int, strided: bool = False) -> None:
        super().__init__()
        self.strided = strided
        self.grid = size // self.PATCH
        self.embed = nn.Linear(3 * self.PATCH**2, self.width)
        self.transformer = Transformer(self.width, self.grid, 1024)

    def patches(self, batch: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, grid * grid, 768), a vector in the order row, column, channel."""
        within, across = self.PATCH, self.grid
        if self.strided:
            cut = batch.unflatten(3, (within, across)).unflatten(2, (within, across)).permute(0, 3, 5, 2, 4, 1)
        else:
            cut = batch.unflatten(3, (across, within)).unflatten(2, (across, within)).permute(0, 2, 4, 3, 5, 1)
        return cut.flatten(3).flatten(1, 2)

    def forward(self, batch: Tensor) -> Tensor:
        token: Tensor = self.transformer(self.embed(self.patches(batch)))
        return token

    def cam_layer(self) -> nn.Module:
        return self.transformer.map


class ResViTEncoder(Encoder):
    """ResNet-50 up to layer1 (256 channels, stride 4), each position a token of a transformer of width and MLP 256."""

    width = 256

    def __init__(self, size: int) -> None:
        super().__init__()
        import torchvision  # heavy

        whole = torchvision.models.resnet50(weights=None)
        self.net = nn.Sequential(*list(whole.children())[:5])
        self.embed = nn.Linear(256, self.width)
        self.transformer = Transformer(self.width, size // 4, 256)

    def forward(self, batch: Tensor) -> Tensor:
        token: Tensor = self.transformer(self.embed(self.net(batch).flatten(2).transpose(1, 2)))
        return token

    def cam_layer(self) -> nn.Module:
        return self.transformer.map


class DCTEncoder(Encoder):
    """ResNet-50 without its stem on DCT coefficients (DCTNet).

    All 192 channels enter by 3 x 3 convolutions without padding, as in the reference, a subset by 1 x 1 convolutions.
    The reference normalises by 192 constants; here a batch norm without weights measures them in training.
    """

    width = 2048
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, subset: Subset, gate: bool) -> None:
        super().__init__()
        import torchvision  # heavy

        self.frequencies = Frequencies(subset)
        count = self.frequencies.count
        self.norm = nn.BatchNorm2d(count, affine=False)
        self.gate = FrequencyGate(count) if gate else nn.Identity()
        whole = torchvision.models.resnet50(weights=None)
        kernel = 3 if count == 192 else 1
        first = whole.layer1[0]
        first.conv1 = nn.Conv2d(count, 64, kernel, bias=False)
        first.downsample[0] = nn.Conv2d(count, 256, kernel, bias=False)
        if kernel == 3:
            # The bottleneck's own 3 x 3 is padded, so both of its paths keep the 6 x 6 that is left of 8 x 8.
            for convolution in (first.conv1, first.downsample[0]):
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.net = nn.Sequential(*list(whole.children())[4:8])

    def features(self, batch: Tensor) -> Tensor:
        coefficients = self.norm(self.frequencies(batch))
        found: Tensor = self.net(self.gate(coefficients))
        return found

    def cam_layer(self) -> nn.Module:
        return self.net[0]
