"""Networks under the frame classifier: timm's, with Keras' numbers where that is wanted, and MobileNet v1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbone import MobileNetV1

REFERENCE_NAMES = {
    "iv3": "inception_v3",
    "irv2": "inception_resnet_v2",
    "resnet": "resnet50",
    "nasnet": "nasnet_large",
    "ef0": "efficientnet_b0",
    "ef5": "efficientnet_b5",
}
"""The reference's short names (section 5 of the specification), which a config takes too."""

KerasBackbone = Literal[
    "xception",
    "inception_v3",
    "inception_resnet_v2",
    "resnet50",
    "nasnet_large",
    "efficientnet_b0",
    "efficientnet_b5",
]
Backbone = Annotated[
    KerasBackbone | Literal["mobilenetv1"],
    BeforeValidator(lambda name: REFERENCE_NAMES.get(name, name) if isinstance(name, str) else name),
]


@dataclass(frozen=True)
class Published:
    """One of timm's networks: its name, with Keras' numbers and without; `last`, the module that gives the last map.

    `as_keras` makes of the former what Keras has; `smallest` is the side that its unpadded layers need, in pixels.
    """

    timm_name: str
    last: str
    as_keras: Callable[[nn.Module], None]
    without: str = ""
    smallest: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)


def _norms(network: nn.Module, epsilon: float = 1e-3, momentum: float = 0.01, scaled: bool = True) -> None:
    """Keras' batch norms; `momentum` in PyTorch's sense. Not `scaled`: there is no gamma."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = epsilon, momentum
            if not scaled:
                module.register_parameter("weight", None)


def _xception(network: nn.Module) -> None:
    """Pools at stride 2 pad below and on the right only, where the side is even: 20 -> 10 -> 5 at 160 px."""
    from timm.layers import create_pool2d

    _norms(network)
    for number in (1, 2, 3, 12):
        block = network.get_submodule(f"block{number}.rep")
        assert isinstance(block, nn.Sequential) and isinstance(block[-1], nn.MaxPool2d)
        block[-1] = create_pool2d("max", 3, 2, padding="same")


def _inception_v3(network: nn.Module) -> None:
    """Average pools leave the padding out of the mean."""
    _norms(network, scaled=False)
    for name, module in network.named_modules():
        if name.endswith(".branch_pool"):
            module.register_forward_pre_hook(_mean_of_pixels)


def _mean_of_pixels(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
    """3 x 3 means over a border of zeros to means over the pixels that there are."""
    (pooled,) = given
    share = functional.avg_pool2d(torch.ones_like(pooled[:1, :1]), 3, 1, 1)
    return (pooled / share,)


def _inception_resnet_v2(network: nn.Module) -> None:
    _norms(network, scaled=False)


def _resnet50(network: nn.Module) -> None:
    """Convolutions have biases, and a stage halves the map in its first 1 x 1 convolution, not in the 3 x 3."""
    _norms(network, epsilon=1.001e-5)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    for stage in (2, 3, 4):
        reduce, convolve = (network.get_submodule(f"layer{stage}.0.conv{number}") for number in (1, 2))
        assert isinstance(reduce, nn.Conv2d) and isinstance(convolve, nn.Conv2d)
        reduce.stride, convolve.stride = convolve.stride, reduce.stride


class ZeroPaddedMaxPool(nn.MaxPool2d):
    """3 x 3 at stride 2 over a border of zeros, which win over negative numbers; "same" where it lies."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (1 - side % 2 for side in x.shape[-2:])
        return super().forward(functional.pad(x, (1 - width, 1, 1 - height, 1)))


def _nasnet_large(network: nn.Module) -> None:
    """Pools of reduction cells see a border of zeros; timm's average pools do already."""
    _norms(network, momentum=0.0003)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, ZeroPaddedMaxPool())


def _efficientnet(network: nn.Module) -> None:
    """timm's `tf_` networks have Keras' epsilon and padding."""


NETWORKS: dict[KerasBackbone, Published] = {
    "xception": Published("legacy_xception", "act4", _xception),
    "inception_v3": Published("inception_v3", "Mixed_7c", _inception_v3, smallest=80),
    "inception_resnet_v2": Published("inception_resnet_v2", "conv2d_7b", _inception_resnet_v2, smallest=80),
    "resnet50": Published("resnet50", "layer4", _resnet50),
    "nasnet_large": Published("nasnetalarge", "act", _nasnet_large),
    "efficientnet_b0": Published("tf_efficientnet_b0", "bn2", _efficientnet, "efficientnet_b0"),
    "efficientnet_b5": Published("tf_efficientnet_b5", "bn2", _efficientnet, "efficientnet_b5"),
}

WIDTHS: dict[Backbone, int] = {
    "xception": 2048,
    "inception_v3": 2048,
    "inception_resnet_v2": 1536,
    "resnet50": 2048,
    "nasnet_large": 4032,
    "efficientnet_b0": 1280,
    "efficientnet_b5": 2048,
    "mobilenetv1": 512,
}
"""Channels of the last map."""

MOBILE: dict[str, int] = {"mobilenetv1": 3}
"""The stage of MobileNet v1 after which it is cut."""


class FrameBackbone(nn.Module):
    """Frames (B, 3, size, size) to the last map before pooling (B, C, size / 32, size / 32), C from WIDTHS.

    The two Inceptions, whose layers are partly unpadded, give a map that is smaller by 2 or so. `keras`: the network
    of keras.applications, whose padding at stride 2 is only below and on the right where the side is even (section 5
    of the specification: 20 -> 10 -> 5 at 160 px). Without it, timm's own numbers, for timm's weights. MobileNet v1
    always has TensorFlow's padding, and stride 16.

    Parameters with running statistics, as Keras counts: Xception 20,861,480, InceptionV3 21,802,784, InceptionResNetV2
    54,336,736, ResNet50 23,587,712, NASNetLarge 84,916,818, EfficientNet-B0 4,049,564, EfficientNet-B5 28,513,520.
    """

    def __init__(self, name: Backbone, keras: bool = True) -> None:
        super().__init__()
        self.name = name
        if name == "mobilenetv1":
            self.net: nn.Module = MobileNetV1(MOBILE[name])
            return
        import timm  # heavy; only where a network is made

        known = NETWORKS[name]
        timm_name = known.timm_name if keras or not known.without else known.without
        self.net = timm.create_model(timm_name, num_classes=0, **known.options)
        if keras:
            known.as_keras(self.net)

    def forward(self, batch: Tensor) -> Tensor:
        if isinstance(self.net, MobileNetV1):
            return self.net(batch)[-1]
        features: Tensor = self.net.forward_features(batch)  # type: ignore[operator]
        return features

    @property
    def last_activation(self) -> nn.Module:
        """The module whose output is the last map; in Xception Keras' `block14_sepconv2_act`."""
        if self.name == "mobilenetv1":
            assert isinstance(self.net, MobileNetV1)
            return self.net.net.blocks[-1]
        return self.net.get_submodule(NETWORKS[self.name].last)


def check_size(name: Backbone, size: int) -> None:
    """Raise ValueError where frames of `size` pixels are too small for the network."""
    if name != "mobilenetv1" and size < NETWORKS[name].smallest:
        raise ValueError(f"size: {name} needs at least {NETWORKS[name].smallest} pixels, not {size}")
