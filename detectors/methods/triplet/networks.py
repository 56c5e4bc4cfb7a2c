"""A face to a vector, and that vector to the space of the triplets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from detectors.backbone import MobileNetV1
from detectors.checkpoints import CheckpointError, match_state, read_keras, read_torch, set_aside, tensor

FaceBackbone = Literal["inception_resnet_v1", "mobilenetv1"]


class FaceNet(nn.Module):
    """InceptionResnetV1 of facenet-pytorch: (B, 3, 160, 160) to FaceNet's embeddings (B, 512) of unit norm.

    Keys are facenet-pytorch's under `net.`. Raises ValueError where that package is not installed.
    """

    width = 512

    def __init__(self) -> None:
        super().__init__()
        try:
            from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
        except ImportError as error:
            raise ValueError(
                f"FaceNet's architecture comes with facenet-pytorch, which is not installed ({error}):"
                " pip install --no-deps facenet-pytorch==2.6.0"
            ) from None
        self.net = InceptionResnetV1()

    def forward(self, batch: Tensor) -> Tensor:
        found: Tensor = self.net(batch)
        return found

    @property
    def last_activation(self) -> nn.Module:
        """The last map before pooling, (B, 1792, 3, 3) at 160 px."""
        return self.net.block8


class MobileFace(nn.Module):
    """MobileNet v1 to stride 16, averaged: (B, 3, size, size) to (B, 512)."""

    width = 512

    def __init__(self) -> None:
        super().__init__()
        self.net = MobileNetV1(3)

    def forward(self, batch: Tensor) -> Tensor:
        last: Tensor = self.net(batch)[-1]
        return last.mean((2, 3))

    @property
    def last_activation(self) -> nn.Module:
        """The last map before pooling, stride 16."""
        return self.net.net.blocks[-1]


class TripletNetwork(nn.Sequential):
    """Dense layers with ReLU and dropout, the last one linear: (B, inputs) to (B, widths[-1]), not normalised.

    Published: 512 -> 256, 256, 128, 64 with dropout 0.1; 238,272 parameters.
    """

    def __init__(self, inputs: int = 512, widths: Sequence[int] = (256, 256, 128, 64), dropout: float = 0.1) -> None:
        layers: list[nn.Module] = []
        for before, width in zip((inputs, *widths), widths, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(*layers[:-2])
        linear = [layer for layer in self if isinstance(layer, nn.Linear)]
        for layer in linear:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(linear[-1].weight)


def read_facenet(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """facenet-pytorch's state dict, less the identity classifier that its published files end in, as FaceNet's."""
    expected = FaceNet().state_dict()
    # Older files do not count the batches that the statistics come from.
    counts = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    set_aside(*(key for key in state if key.startswith("logits.")))
    kept = counts | {f"net.{key}": value for key, value in state.items() if not key.startswith("logits.")}
    match_state(kept, expected, name)
    return kept


def facenet(path: Path) -> FaceNet:
    """FaceNet in evaluation mode with facenet-pytorch's weights, such as 20180402-114759-vggface2.pt, in `path`.

    Raises CheckpointError for another network's file.
    """
    state = read_facenet(read_torch(path), path.name)
    network = FaceNet()
    network.load_state_dict(state)
    return network.eval()


def read_triplet_network(path: Path) -> dict[str, Tensor]:
    """The published Keras model (triplets_semi_hard_sacred_model.hdf5) or its weights as TripletNetwork's state.

    Raises CheckpointError for another network's file.
    """
    arrays = [array for layer in read_keras(path) for array in layer.weights]
    kernels = [array for array in arrays if array.ndim == 2]
    if len(arrays) != 2 * len(kernels) or [a.ndim for a in arrays] != [2, 1] * len(kernels) or not kernels:
        raise CheckpointError(f"{path.name} is no triplet network: its layers are not all dense")
    network = TripletNetwork(kernels[0].shape[0], [kernel.shape[1] for kernel in kernels])
    keys = list(network.state_dict())
    state = {key: tensor(array.T) for key, array in zip(keys, arrays, strict=True)}
    match_state(state, network.state_dict(), path.name)
    return state
