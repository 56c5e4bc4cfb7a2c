"""Keras HDF5 weight files, written as Keras 2.3 writes them, for the importers' tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Layers = Mapping[str, Sequence[NDArray[np.float32]]]


def write_keras(path: Path, layers: Layers, whole_model: bool = False) -> Path:
    """`layers`: each layer's arrays in Keras' order; a whole model keeps its weights one group deeper."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/array_{i}:0".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}/array_{i}:0"] = array
    return path
