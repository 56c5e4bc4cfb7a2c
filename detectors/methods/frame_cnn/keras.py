"""Keras weight files of the frame classifier: which of our tensors each layer's arrays are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.checkpoints import CheckpointError, KerasLayer, read_keras, tensor

KerasBackbone = Literal["xception", "efficientnet_b0"]
NORM = ("weight", "bias", "running_mean", "running_var")
"""Keras' order: gamma, beta, moving mean, moving variance."""


def read_frame_cnn(path: Path) -> tuple[KerasBackbone, list[KerasLayer]]:
    """The layers of a file, and the backbone that their names tell. Raises CheckpointError for another network's."""
    layers = read_keras(path)
    names = {layer.name for layer in layers}
    if "block14_sepconv2" in names:
        return "xception", layers
    if {"top_conv", "block7a_project_conv"} <= names and "block7b_project_conv" not in names:
        return "efficientnet_b0", layers
    shown = ", ".join(sorted(names)[:4])
    raise CheckpointError(
        f"{path.name} is neither Keras' Xception nor EfficientNet-B0 with all layers at the top level: it has {shown}"
    )


def is_frame_cnn(path: Path) -> bool:
    """The file is of a network that `read_frame_cnn` knows. Raises CheckpointError for one that is no Keras file."""
    names = {layer.name for layer in read_keras(path)}
    return bool(names & {"block14_sepconv2", "top_conv"})


def convert(backbone: KerasBackbone, layers: list[KerasLayer], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state from a file's layers; `expected` is our network's own, for the shapes.

    Layers of the backbone are found by name, the two dense ones by their width. Xception's four shortcuts have
    automatic names, whose numbers follow the order in which they were made. Raises CheckpointError where a layer is
    missing.
    """
    named = {layer.name: layer for layer in layers}
    table = _xception(layers) if backbone == "xception" else _efficientnet(expected)
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


def _norm(module: str) -> tuple[str, ...]:
    return tuple(f"{module}.{part}" for part in NORM)


def _xception(layers: list[KerasLayer]) -> dict[str, tuple[str, ...]]:
    """Keras counts blocks from 1 with the stem; timm's block k is Keras' k + 1, its last two layers are Keras' 14."""
    table: dict[str, tuple[str, ...]] = {}

    def separable(name: str, module: str, norm: str) -> None:
        table[name] = (f"{module}.conv1.weight", f"{module}.pointwise.weight")
        table[f"{name}_bn"] = _norm(norm)

    for number in (1, 2):
        table[f"block1_conv{number}"] = (f"conv{number}.weight",)
        table[f"block1_conv{number}_bn"] = _norm(f"bn{number}")
    for block in range(1, 13):
        # An activation stands before every separable convolution but the very first.
        first = 0 if block == 1 else 1
        for index in range(3 if 4 <= block <= 11 else 2):
            at = first + 3 * index
            separable(f"block{block + 1}_sepconv{index + 1}", f"block{block}.rep.{at}", f"block{block}.rep.{at + 1}")
    separable("block14_sepconv1", "conv3", "bn3")
    separable("block14_sepconv2", "conv4", "bn4")
    for kind, part in (("conv2d", "skip"), ("batch_normalization", "skipbn")):
        automatic = sorted((layer for layer in layers if layer.kind == kind), key=lambda layer: layer.number)
        if len(automatic) != 4:
            raise CheckpointError(f"Xception has 4 shortcuts, and the file {len(automatic)} layers named {kind}")
        for block, layer in zip((1, 2, 3, 12), automatic, strict=True):
            module = f"block{block}.{part}"
            table[layer.name] = (f"{module}.weight",) if part == "skip" else _norm(module)
    return table


def _efficientnet(expected: dict[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Keras names a block by its stage from 1 and a letter; the first stage's blocks have no expansion."""
    table: dict[str, tuple[str, ...]] = {"stem_conv": ("conv_stem.weight",), "stem_bn": _norm("bn1")}
    blocks = sorted({tuple(map(int, key.split(".")[3:5])) for key in expected if ".blocks." in key})
    for stage, index in blocks:
        block, ours = f"block{stage + 1}{chr(ord('a') + index)}", f"blocks.{stage}.{index}"
        convolutions = [("dwconv", "bn", "conv_dw"), ("project_conv", "project_bn", "conv_pw")]
        if stage:
            convolutions[1] = ("project_conv", "project_bn", "conv_pwl")
            convolutions.insert(0, ("expand_conv", "expand_bn", "conv_pw"))
        for number, (layer, norm, module) in enumerate(convolutions, 1):
            table[f"{block}_{layer}"] = (f"{ours}.{module}.weight",)
            table[f"{block}_{norm}"] = _norm(f"{ours}.bn{number}")
        for layer, module in (("se_reduce", "conv_reduce"), ("se_expand", "conv_expand")):
            table[f"{block}_{layer}"] = (f"{ours}.se.{module}.weight", f"{ours}.se.{module}.bias")
    return table | {"top_conv": ("conv_head.weight",), "top_bn": _norm("bn2")}
