"""MobileNet v1 as the image backbone of the compact profiles: one small network that ImageNet weights exist for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
"""Its input is RGB in -1..1."""
WIDTHS = (64, 128, 256, 512, 1024)
"""Channels after each stage; the strides there are 2, 4, 8, 16 and 32."""
STEM = "conv_stem.weight"


class MobileNetV1(nn.Module):
    """timm's mobilenetv1_100 (Howard et al. 2017, arXiv 1704.04861), cut after one of its five stages.

    Parameters up to stage 2 (stride 8, 256 channels): 134,208; to stage 3 (16, 512): 1,613,120; to stage 4 (32, 1024):
    3,206,976.
    """

    def __init__(self, last: int = 3) -> None:
        super().__init__()
        import timm  # heavy; only where a network is made

        self.net = timm.create_model(
            "mobilenetv1_100", features_only=True, out_indices=tuple(range(last + 1)), pad_type="same", bn_eps=1e-3
        )
        self.net.blocks = self.net.blocks[: last + 1]  # timm keeps the rest
        self.widths = WIDTHS[: last + 1]

    def forward(self, batch: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in -1..1 to the feature maps after each stage, shallow to deep."""
        maps: list[Tensor] = self.net(batch)
        return maps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take what fits of a mobilenetv1_100 state dict in timm's names, or of a trained detector that holds one.

        The ImageNet weights that we have lack the last pointwise convolution, which then stays as it was initialised.
        Raises ValueError for any other network's.
        """
        stems = [name for name in state if name.endswith(STEM)]
        if len(stems) == 1:
            before = stems[0].removesuffix(STEM)
            state = {k.removeprefix(before): v.float() for k, v in state.items() if k.startswith(before)}
        wanted = self.net.state_dict()
        found = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}
        allowed = {"blocks.4.1.conv_pw.weight"}
        missing = sorted(k for k in wanted if k not in found and k not in allowed and "num_batches" not in k)
        if missing:
            raise ValueError(f"these are not weights of mobilenetv1_100: {', '.join(missing[:4])} are missing")
        self.net.load_state_dict(found, strict=False)
