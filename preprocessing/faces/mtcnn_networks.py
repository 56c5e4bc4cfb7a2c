"""MTCNN's three networks (Zhang et al., IEEE SPL 2016, fig. 2) with the weights that lie in facenet-pytorch.

The package is not imported: that pulls in torchvision and with it torch's compiler, seconds before the first face.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from preprocessing.models import ModelFileError

INSTALL = (
    "MTCNN needs facenet-pytorch, whose declared requirements are out of date, so it is installed without them:"
    " pip install --no-deps facenet-pytorch==2.6.0"
)
BATCH = 512
"""Candidates that pass a network at once, which bounds the memory of a picture with thousands."""

NetworkName = Literal["pnet", "rnet", "onet"]


class _FlattenByColumns(nn.Module):
    """(N, C, H, W) to (N, W * H * C): the order of the authors' Matlab, in which the dense weights are stored."""

    def forward(self, features: Tensor) -> Tensor:
        return features.transpose(1, 3).flatten(1)


class CascadeNetwork(nn.Module):
    """A chain of layers and on it the two heads `face` and `shift`, under the weight file's names."""

    def __init__(
        self, chain: Mapping[str, nn.Module], face: tuple[str, nn.Module], shift: tuple[str, nn.Module]
    ) -> None:
        super().__init__()
        for name, layer in [*chain.items(), face, shift]:
            self.add_module(name, layer)
        self._chain, self._face, self._shift = list(chain), face[0], shift[0]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in 0..255, (N, 3, H, W) float32, to the probability of a face (N, ...) and the shifts of its box's left,
        top, right and bottom edge as shares of the box (N, 4, ...). P-Net gives both for every place: (N, [4,] h, w).
        """
        features = (pictures - 127.5) / 128
        for name in self._chain:
            features = self.get_submodule(name)(features)
        face = self.get_submodule(self._face)(features).softmax(1)[:, 1]
        return face, self.get_submodule(self._shift)(features)


def _convolution(index: int, inputs: int, outputs: int, kernel: int, pool: int = 0) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {
        f"conv{index}": nn.Conv2d(inputs, outputs, kernel),
        f"prelu{index}": nn.PReLU(outputs),
    }
    # Caffe, in which the networks were trained, lets the last pooling window reach over the edge.
    return layers | ({f"pool{index}": nn.MaxPool2d(pool, 2, ceil_mode=True)} if pool else {})


def _dense(index: int, inputs: int, outputs: int) -> dict[str, nn.Module]:
    layers = {"flatten": _FlattenByColumns(), f"dense{index}": nn.Linear(inputs, outputs)}
    return layers | {f"prelu{index}": nn.PReLU(outputs)}


def _network(name: NetworkName) -> CascadeNetwork:
    if name == "pnet":
        chain = _convolution(1, 3, 10, 3, pool=2) | _convolution(2, 10, 16, 3) | _convolution(3, 16, 32, 3)
        return CascadeNetwork(chain, ("conv4_1", nn.Conv2d(32, 2, 1)), ("conv4_2", nn.Conv2d(32, 4, 1)))
    if name == "rnet":
        chain = _convolution(1, 3, 28, 3, pool=3) | _convolution(2, 28, 48, 3, pool=3) | _convolution(3, 48, 64, 2)
        chain |= _dense(4, 576, 128)
        return CascadeNetwork(chain, ("dense5_1", nn.Linear(128, 2)), ("dense5_2", nn.Linear(128, 4)))
    chain = _convolution(1, 3, 32, 3, pool=3) | _convolution(2, 32, 64, 3, pool=3)
    chain |= _convolution(3, 64, 64, 3, pool=2) | _convolution(4, 64, 128, 2) | _dense(5, 1152, 256)
    return CascadeNetwork(chain, ("dense6_1", nn.Linear(256, 2)), ("dense6_2", nn.Linear(256, 4)))


def package_folder() -> Path | None:
    """Where facenet-pytorch lies, None where it is not installed."""
    spec = importlib.util.find_spec("facenet_pytorch")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def load_network(name: NetworkName) -> CascadeNetwork:
    """P-, R- or O-Net on the CPU, ready to be asked; O-Net without its five landmarks, which nothing here uses.

    Raises:
        ModelFileError: facenet-pytorch or its weight file is missing, or the file holds something else.
    """
    folder = package_folder()
    if folder is None:
        raise ModelFileError(INSTALL)
    network = _network(name)
    try:
        stored: dict[str, Any] = torch.load(folder / "data" / f"{name}.pt", map_location="cpu", weights_only=True)
        network.load_state_dict({key: stored[key] for key in network.state_dict()})
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"facenet-pytorch's data/{name}.pt does not load ({error}). {INSTALL}") from error
    return network.eval().requires_grad_(False)
