"""The recurrent networks over a sequence of frame features (section 7 of the method's specification)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from detectors.methods.frame_cnn import he_uniform

Model = Literal["lstm", "bidirectional", "temporal_max", "gru", "bidirectional_gru"]
BIDIRECTIONAL = {"bidirectional", "temporal_max", "bidirectional_gru"}
LSTM_MODELS = {"lstm", "bidirectional", "temporal_max"}


class Recurrent(nn.Module):
    """One LSTM or GRU in one direction from a zero state: (B, T, inputs) to every step's state (B, T, units).

    As in Keras there is one bias: PyTorch's second one stays zero, and is not trained. An LSTM's forget bias begins
    at 1.
    """

    def __init__(self, inputs: int, units: int, lstm: bool) -> None:
        super().__init__()
        self.rnn: nn.LSTM | nn.GRU = (nn.LSTM if lstm else nn.GRU)(inputs, units, batch_first=True)
        for name, parameter in self.rnn.named_parameters():
            if name == "weight_ih_l0":
                nn.init.xavier_uniform_(parameter)
            elif name == "weight_hh_l0":
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)
                parameter.requires_grad_(name != "bias_hh_l0")
                if lstm and name == "bias_ih_l0":
                    nn.init.ones_(parameter[units : 2 * units])

    def forward(self, sequence: Tensor) -> Tensor:
        states: Tensor = self.rnn(sequence)[0]
        return states


class Bidirectional(nn.Module):
    """Both directions, concatenated: (B, T, inputs) to (B, T, 2 * units); the second reads from the last valid step."""

    def __init__(self, inputs: int, units: int, lstm: bool) -> None:
        super().__init__()
        self.onward = Recurrent(inputs, units, lstm)
        self.backward_ = Recurrent(inputs, units, lstm)

    def forward(self, sequence: Tensor, length: Tensor) -> Tensor:
        step = torch.arange(sequence.shape[1], device=sequence.device)
        # Packed sequences need lengths on the CPU and cannot be exported: the valid part is turned round by index.
        turned = torch.where(step < length[:, None], length[:, None] - 1 - step, step)
        back = self.backward_(_take(sequence, turned))
        return torch.cat([self.onward(sequence), _take(back, turned)], 2)


class RecurrentHead(nn.Module):
    """Features (B, T, inputs) and how many of the T steps are valid (B,) to two classes (B, 2): fake, real.

    `embedding` (B, D) is what the last, dense layer reads. lstm, gru: 32 units, last state. bidirectional,
    bidirectional_gru: `units` a direction, then 32 units, last state. temporal_max: `units` a direction, the maximum
    over the valid steps. Trained parameters with 512 inputs and 256 units: lstm 69,826, bidirectional 1,644,738,
    temporal_max 1,575,938.
    """

    last_units = 32

    def __init__(self, model: Model, inputs: int, units: int) -> None:
        super().__init__()
        lstm = model in LSTM_MODELS
        self.both = Bidirectional(inputs, units, lstm) if model in BIDIRECTIONAL else None
        width = inputs if self.both is None else 2 * units
        self.last = Recurrent(width, self.last_units, lstm) if model != "temporal_max" else None
        self.output = he_uniform(nn.Linear(width if self.last is None else self.last_units, 2))

    def forward(self, features: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        sequence = features if self.both is None else self.both(features, length)
        if self.last is None:
            step = torch.arange(sequence.shape[1], device=sequence.device)
            embedding = sequence.masked_fill((step >= length[:, None])[..., None], -torch.inf).amax(1)
        else:
            embedding = _take(self.last(sequence), length[:, None] - 1)[:, 0]
        return self.output(embedding), embedding


def _take(sequence: Tensor, steps: Tensor) -> Tensor:
    """Steps (B, S) of (B, T, D) as (B, S, D)."""
    return sequence.gather(1, steps[..., None].expand(-1, -1, sequence.shape[2]))
