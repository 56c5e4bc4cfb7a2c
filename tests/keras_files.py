"""Keras HDF5 weight files as Keras 2.3 writes them, and what Keras computes with them, for the tests of importers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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


class Keras:
    """Random layers in Keras' names and array orders, and what Keras computes with them, written layer by layer."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.layers: dict[str, list[NDArray[np.float32]]] = {}
        self.made: dict[str, int] = {}

    def automatic(self, kind: str) -> str:
        """Keras' own name of the next layer of a kind; numbers in a trainer's session need not start at 1."""
        self.made[kind] = self.made.get(kind, 7) + 1
        return f"{kind}_{self.made[kind]}"

    def draw(self, *shape: int, fan: int) -> NDArray[np.float32]:
        return self.random.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)

    def norm(self, name: str, x: Tensor, eps: float = 1e-3, scaled: bool = True) -> Tensor:
        """`scaled`: with gamma."""
        width = x.shape[1]
        r = self.random
        gamma, variance = (r.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(2))
        beta, mean = (r.normal(0, 0.2, width).astype(np.float32) for _ in range(2))
        self.layers[name] = [gamma, beta, mean, variance]
        g, b, m, v = (as_in(x, a)[:, None, None] for a in self.layers[name])
        if not scaled:
            del self.layers[name][0]
            g = torch.ones((), dtype=x.dtype)
        return g * (x - m) / torch.sqrt(v + eps) + b

    def conv(
        self,
        name: str,
        x: Tensor,
        out: int,
        k: int | tuple[int, int],
        stride: int = 1,
        pad: str = "same",
        bias: bool = False,
    ) -> Tensor:
        rows, columns = (k, k) if isinstance(k, int) else k
        kernel = self.draw(rows, columns, x.shape[1], out, fan=rows * columns * x.shape[1])
        arrays = [kernel] + ([self.draw(out, fan=100)] if bias else [])
        self.layers[name] = arrays
        x = same(x, k, stride, 0.0) if pad == "same" else x
        offset = as_in(x, arrays[1]) if bias else None
        return functional.conv2d(x, as_in(x, kernel).permute(3, 2, 0, 1), offset, stride)

    def depthwise(self, kernel: NDArray[np.float32], x: Tensor, k: int, stride: int = 1) -> Tensor:
        weight = as_in(x, kernel).permute(2, 3, 0, 1)
        return functional.conv2d(same(x, k, stride, 0.0), weight, None, stride, groups=x.shape[1])

    def separable(self, name: str, x: Tensor, out: int) -> Tensor:
        deep, point = self.draw(3, 3, x.shape[1], 1, fan=9), self.draw(1, 1, x.shape[1], out, fan=x.shape[1])
        self.layers[name] = [deep, point]
        x = functional.conv2d(self.depthwise(deep, x, 3), as_in(x, point).permute(3, 2, 0, 1))
        return self.norm(f"{name}_bn", x)

    def head(self, x: Tensor) -> Tensor:
        """The two dense layers get automatic names too."""
        x = x.mean((2, 3))
        for name, width in (("dense_7", 512), ("dense_8", 2)):
            kernel, bias = self.draw(x.shape[1], width, fan=x.shape[1]), self.draw(width, fan=200)
            self.layers[name] = [kernel, bias]
            x = x @ as_in(x, kernel) + as_in(x, bias)
            x = x.relu() if width == 512 else x
        return x

    def xception(self, x: Tensor) -> Tensor:
        x = self.norm("block1_conv1_bn", self.conv("block1_conv1", x, 32, 3, 2, "valid")).relu()
        x = self.norm("block1_conv2_bn", self.conv("block1_conv2", x, 64, 3, 1, "valid")).relu()
        # Numbers in a trainer's session need not start at 1, nor sort as text.
        for number, block, widths in (
            (8, 2, (128, 128)),
            (9, 3, (256, 256)),
            (10, 4, (728, 728)),
            (11, 13, (728, 1024)),
        ):
            if block == 13:
                for middle in range(5, 13):
                    shortcut = x
                    for i in (1, 2, 3):
                        x = self.separable(f"block{middle}_sepconv{i}", x.relu(), 728)
                    x = x + shortcut
            shortcut = self.conv(f"conv2d_{number}", x, widths[1], 1, 2)
            shortcut = self.norm(f"batch_normalization_{number}", shortcut)
            for i, width in enumerate(widths, 1):
                x = self.separable(f"block{block}_sepconv{i}", x if (block, i) == (2, 1) else x.relu(), width)
            x = functional.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2) + shortcut
        x = self.separable("block14_sepconv1", x, 1536).relu()
        return self.head(self.separable("block14_sepconv2", x, 2048).relu())


def as_in(x: Tensor, array: NDArray[np.float32]) -> Tensor:
    """The array in the precision of `x`."""
    return torch.from_numpy(array).to(x.dtype)


def same(x: Tensor, kernel: int | tuple[int, int], stride: int, value: float) -> Tensor:
    """TensorFlow's "same": the odd pixel of padding goes below and to the right."""
    margins: list[int] = []
    for side, k in zip(x.shape[:-3:-1], (kernel,) * 2 if isinstance(kernel, int) else kernel[::-1], strict=True):
        total = max((-(-side // stride) - 1) * stride + k - side, 0)
        margins += [total // 2, total - total // 2]
    return functional.pad(x, margins, value=value)
