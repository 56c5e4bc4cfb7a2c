"""Keras weight files of the recurrent networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from detectors.checkpoints import CheckpointError, KerasLayer, match_state, read_keras, tensor
from detectors.methods.cnn_recurrent.head import Model, RecurrentHead

SHAPES: dict[tuple[int, ...], Model] = {(3, 2): "lstm", (6, 3, 2): "bidirectional", (6, 2): "temporal_max"}
"""Arrays of each layer in the file's order: an LSTM has 3, both directions 6, a dense layer 2."""


def read_head(path: Path, inputs: int) -> tuple[Model, int, dict[str, Tensor]]:
    """The model, its units a direction and RecurrentHead's state from a Keras file. Raises CheckpointError."""
    layers = read_keras(path)
    model = SHAPES.get(tuple(len(layer.weights) for layer in layers))
    if model is None:
        names = ", ".join(layer.name for layer in layers[:5])
        raise CheckpointError(f"{path.name} is no lstm, bidirectional or temporal_max network: its layers are {names}")
    *recurrent, dense = layers
    units = recurrent[0].weights[1].shape[0] if model != "lstm" else 256
    state: dict[str, Tensor] = {}
    for layer in recurrent:
        if len(layer.weights) == 6:
            state |= _lstm(layer, 0, "both.onward.rnn") | _lstm(layer, 3, "both.backward_.rnn")
        else:
            state |= _lstm(layer, 0, "last.rnn")
    kernel, bias = dense.weights
    state |= {"output.weight": tensor(kernel.T), "output.bias": tensor(bias)}
    with torch.device("meta"):
        expected = RecurrentHead(model, inputs, units).state_dict()
    match_state(state, expected, path.name)
    return model, units, state


def _lstm(layer: KerasLayer, first: int, prefix: str) -> dict[str, Tensor]:
    """Keras' gates stand in columns i, f, c, o, which is PyTorch's order of rows."""
    kernel, recurrent, bias = layer.weights[first : first + 3]
    return {
        f"{prefix}.weight_ih_l0": tensor(kernel.T),
        f"{prefix}.weight_hh_l0": tensor(recurrent.T),
        f"{prefix}.bias_ih_l0": tensor(bias),
        f"{prefix}.bias_hh_l0": torch.zeros(len(bias)),
    }
