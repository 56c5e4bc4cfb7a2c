"""Networks under the frame classifier: timm's Xception and EfficientNet-B0 with Keras' numbers, and MobileNet v1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from detectors.backbone import MobileNetV1

Backbone = Literal["xception", "efficientnet_b0", "mobilenetv1", "mobilenetv1_stride8"]

WIDTHS: dict[Backbone, int] = {
    "xception": 2048,
    "efficientnet_b0": 1280,
    "mobilenetv1": 512,
    "mobilenetv1_stride8": 256,
}
"""Channels of the last map."""

MOBILE: dict[str, int] = {"mobilenetv1": 3, "mobilenetv1_stride8": 2}
"""The stage of MobileNet v1 after which it is cut."""

KERAS_EPSILON = 1e-3
KERAS_MOMENTUM = 0.01
"""Of batch normalisation, the latter in PyTorch's sense; what published Keras statistics were made with."""


class FrameBackbone(nn.Module):
    """Frames (B, 3, size, size) to the last map before pooling (B, C, size / 32, size / 32), C from WIDTHS.

    `keras`: epsilon 1e-3 and "same" padding, which at stride 2 pads only below and on the right where the side is even
    (reference in Keras; section 5 of its specification: 20 -> 10 -> 5 at 160 px). Without it, timm's own numbers, for
    timm's weights. MobileNet v1 always has TensorFlow's padding, and stride 16 or 8.

    Parameters with running statistics, which Keras counts too: Xception 20,861,480, EfficientNet-B0 4,049,564.
    """

    def __init__(self, name: Backbone, keras: bool = True) -> None:
        super().__init__()
        self.name = name
        if name in MOBILE:
            self.net: nn.Module = MobileNetV1(MOBILE[name])
            return
        import timm  # heavy; only where a network is made

        if name == "efficientnet_b0":
            self.net = timm.create_model("tf_efficientnet_b0" if keras else "efficientnet_b0", num_classes=0)
            return
        self.net = timm.create_model("legacy_xception", num_classes=0)
        if keras:
            _as_in_keras(self.net)

    def forward(self, batch: Tensor) -> Tensor:
        if isinstance(self.net, MobileNetV1):
            return self.net(batch)[-1]
        features: Tensor = self.net.forward_features(batch)  # type: ignore[operator]
        return features

    @property
    def last_activation(self) -> nn.Module:
        """The module whose output is the last map; in Xception Keras' `block14_sepconv2_act`."""
        if isinstance(self.net, MobileNetV1):
            return self.net.net.blocks[-1]
        return self.net.get_submodule("act4" if self.name == "xception" else "bn2")


def _as_in_keras(network: nn.Module) -> None:
    from timm.layers import create_pool2d

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = KERAS_EPSILON, KERAS_MOMENTUM
    for number in (1, 2, 3, 12):
        block = network.get_submodule(f"block{number}.rep")
        assert isinstance(block, nn.Sequential) and isinstance(block[-1], nn.MaxPool2d)
        block[-1] = create_pool2d("max", 3, 2, padding="same")
