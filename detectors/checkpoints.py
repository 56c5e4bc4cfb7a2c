"""Readers of foreign checkpoints. None of them runs code from the file: PyTorch's weights-only unpickler and HDF5.

TensorFlow's are read by detectors/tf_checkpoint.py.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TORCH_SUFFIXES = frozenset({".pth", ".pt", ".tar", ".ckpt", ".bin"})
KERAS_SUFFIXES = frozenset({".h5", ".hdf5"})
INDEX_SUFFIX = ".index"
"""Of a TensorFlow checkpoint; detectors/tf_checkpoint.py reads it."""
SUFFIXES = TORCH_SUFFIXES | KERAS_SUFFIXES | {".safetensors", INDEX_SUFFIX}

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_state")


_ASIDE: ContextVar[list[str] | None] = ContextVar("_ASIDE", default=None)


class CheckpointError(ValueError):
    """A checkpoint that cannot be converted; the message says why and what would work."""


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a Keras file: its name and its arrays, in the order of the file."""

    name: str
    weights: tuple[NDArray[np.float32], ...]

    @property
    def kind(self) -> str:
        """The name without its number: conv2d_12 -> conv2d."""
        return re.sub(r"_\d+$", "", self.name)

    @property
    def number(self) -> int:
        """The number in the name, which follows the order in which the layers were made; a name without one is 0."""
        found = re.search(r"_(\d+)$", self.name)
        return int(found[1]) if found else 0


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch state dict on the CPU, `module.` prefixes removed; one level of wrapping is opened.

    Raises CheckpointError for a file that is damaged, or that holds anything but tensors and plain containers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to load it unsafely; only the name of the refused object is passed on.
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(
            f"{path.name} is refused: it is not a plain state dict but a pickle of "
            f"{refused[1] if refused else 'Python objects'}, which could run code; where you trust its publisher, "
            "save `model.state_dict()` in their program and import that"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read, or was cut off: {error.strerror or error}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, BadZipFile):
        raise CheckpointError(f"{path.name} is damaged, cut off, or no PyTorch state dict") from None
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path.name} holds {_describe(loaded)}, not a state dict of tensors")
    return {
        str(k).removeprefix("module."): v.detach().float() if v.is_floating_point() else v for k, v in loaded.items()
    }


def read_keras(path: Path, weightless: bool = False) -> list[KerasLayer]:
    """The layers of a Keras HDF5 file (weights alone or a whole model), in the file's order; `weightless`: also those
    without weights."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            layers = []
            for name in root.attrs["layer_names"]:
                group = root[_text(name)]
                arrays = tuple(np.asarray(group[_text(w)], np.float32) for w in group.attrs["weight_names"])
                if arrays or weightless:
                    layers.append(KerasLayer(_text(name), arrays))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path.name} cannot be read as Keras weights: {_first_line(error)}") from None
    if not any(layer.weights for layer in layers):
        raise CheckpointError(f"{path.name} has no layer with weights")
    return layers


def match_state(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str, ignore: Iterable[str] = ()
) -> None:
    """Raise CheckpointError, naming keys and shapes, unless `found` has exactly the tensors of `expected`."""
    skip = set(ignore)
    missing = [k for k in expected if k not in found and k not in skip]
    unexpected = [k for k in found if k not in expected and k not in skip]
    shapes = [
        f"{k} is {tuple(found[k].shape)} and should be {tuple(expected[k].shape)}"
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    parts = [
        f"{label}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
        if names
    ]
    if parts:
        raise CheckpointError(f"{what} does not fit; {'; '.join(parts)}")


def set_aside(*names: str) -> None:
    """Tell whoever gathers them (`gathering`) which tensors of a file an importer leaves out on purpose."""
    gathered = _ASIDE.get()
    if gathered is not None:
        gathered += names


@contextmanager
def gathering() -> Iterator[list[str]]:
    """The names that importers set aside while it is open, in the list that it gives."""
    names: list[str] = []
    token = _ASIDE.set(names)
    try:
        yield names
    finally:
        _ASIDE.reset(token)


def one_file(paths: Sequence[Path], method: str) -> Path:
    """The only path of `paths`; CheckpointError where there are several, because the method's weights are one file."""
    if len(paths) != 1:
        names = ", ".join(p.name for p in paths) or "none"
        raise CheckpointError(
            f"{method} is imported from one file, not from {len(paths)} ({names}); name the one you want"
        )
    return paths[0]


def tensor(array: NDArray[np.float32]) -> Tensor:
    """A contiguous float32 copy as a tensor."""
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, list(value)[:5])) or 'no entries'}"
    return f"a {type(value).__name__}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
