"""Keras weight files of the frame classifier, whatever its backbone: which network one is of, and its tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.checkpoints import CheckpointError, KerasLayer, read_keras, tensor
from detectors.methods.frame_cnn.backbones import KerasBackbone
from detectors.methods.frame_cnn.keras_tables import table_of

OLD_RESNET, OLD_EPSILON, NEW_EPSILON = "res2a_branch2a", 1e-3, 1.001e-5
"""keras_applications' first ResNet50 has Keras' default under the root of its norms."""
_MARKS: dict[str, KerasBackbone] = {
    "block14_sepconv2": "xception",
    "conv_7b": "inception_resnet_v2",
    "conv2_block1_1_conv": "resnet50",
    OLD_RESNET: "resnet50",
    "normal_conv_1_0": "nasnet_large",
}
"""A layer by which a network is known."""
_TOPS: dict[int, KerasBackbone] = {1280: "efficientnet_b0", 2048: "efficientnet_b5"}
"""The channels of an EfficientNet's last convolution."""
_DEPTHS: dict[int, KerasBackbone] = {16: "efficientnet_b0", 39: "efficientnet_b5"}
"""The depthwise convolutions of an EfficientNet."""
_INCEPTION_V3 = 94
"""Its convolutions."""


def read_frame_cnn(path: Path) -> tuple[KerasBackbone, list[KerasLayer]]:
    """The layers of a file, and the backbone that they tell. Raises CheckpointError for another network's."""
    every = read_keras(path, weightless=True)
    layers = [layer for layer in every if layer.weights]
    backbone = _backbone(layers)
    if backbone is None:
        shown = ", ".join(sorted(layer.name for layer in layers)[:4])
        raise CheckpointError(
            f"{path.name} is none of Keras' Xception, InceptionV3, InceptionResNetV2, ResNet50, NASNetLarge, "
            f"EfficientNet-B0 and EfficientNet-B5 with all layers at the top level: it has {shown}"
        )
    _check_padding(backbone, {layer.name for layer in every}, path.name)
    return backbone, layers


def is_frame_cnn(path: Path) -> bool:
    """The file is of a network that `read_frame_cnn` knows. Raises CheckpointError for one that is no Keras file."""
    return _backbone(read_keras(path)) is not None


def _backbone(layers: Sequence[KerasLayer]) -> KerasBackbone | None:
    names = {layer.name: layer for layer in layers}
    for mark, backbone in _MARKS.items():
        if mark in names:
            return backbone
    if "top_conv" in names:
        return _TOPS.get(names["top_conv"].weights[0].shape[-1])
    kinds = [layer.kind for layer in layers]
    if "depthwise_conv2d" in kinds:
        return _DEPTHS.get(kinds.count("depthwise_conv2d"))
    return "inception_v3" if kinds.count("conv2d") == _INCEPTION_V3 else None


def _check_padding(backbone: KerasBackbone, names: Collection[str], what: str) -> None:
    """Two networks were padded otherwise in early versions of Keras, with the same weights; layers without weights
    tell. Raises CheckpointError."""
    needed = {"resnet50": "pool1_pad", "nasnet_large": "reduction_pad_1_stem_1"}.get(backbone)
    if needed and needed not in names:
        raise CheckpointError(
            f"{what} is refused: its {backbone} has no layer {needed}, so that an early version of Keras made it, "
            "whose pools see another border; these weights would give other scores here"
        )


def convert(backbone: KerasBackbone, layers: list[KerasLayer], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state from a file's layers; `expected` is our network's own, for the shapes.

    Layers of the backbone are found by name, or by their order where Keras named them; the two dense ones by their
    width. Raises CheckpointError where a layer is missing, or too many.
    """
    named = {layer.name: layer for layer in layers}
    table = table_of(backbone, layers, expected)
    dense = [layer for layer in layers if layer.weights[0].ndim == 2]
    if len(dense) != 2:
        raise CheckpointError(f"the file has {len(dense)} dense layers; the head has 2, of 512 and 2 units")
    dense.sort(key=lambda layer: -layer.weights[0].shape[1])
    missing = [name for name in table if name not in named]
    if missing:
        rest = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        raise CheckpointError(f"Keras' {backbone} lacks the layers {', '.join(missing[:4])}{rest}")
    unexpected = sorted(set(named) - set(table) - {layer.name for layer in dense})
    if unexpected:
        raise CheckpointError(f"layers that the network does not have: {', '.join(unexpected[:4])}")
    state: dict[str, Tensor] = {}
    for name, keys in table.items():
        state |= _arrays(named[name], tuple(f"backbone.net.{key}" for key in keys), expected)
    if OLD_RESNET in named:
        # The root is of variance + epsilon: what the variance gains, a smaller epsilon may lack.
        for key in state:
            if key.endswith("running_var"):
                state[key] += OLD_EPSILON - NEW_EPSILON
    for prefix, layer in zip(("fc1", "output"), dense, strict=True):
        state |= _arrays(layer, (f"{prefix}.weight", f"{prefix}.bias"), expected)
    state |= {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    return state


def _arrays(layer: KerasLayer, keys: tuple[str, ...], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    if len(layer.weights) != len(keys):
        raise CheckpointError(f"layer {layer.name} has {len(layer.weights)} arrays, not {len(keys)}")
    return {key: _in_our_order(array, expected[key]) for key, array in zip(keys, layer.weights, strict=True)}


def _in_our_order(array: NDArray[np.float32], target: Tensor) -> Tensor:
    if array.ndim == 4:
        depthwise = target.shape[1] == 1
        return tensor(array.transpose(2, 3, 0, 1) if depthwise else array.transpose(3, 2, 0, 1))
    return tensor(array.T)
