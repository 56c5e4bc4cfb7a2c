"""Where a network's weights start from: another network's file, by the names and shapes that both have."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Size, Tensor, nn
from torch.nn import functional

FULL = 0.8
"""Share of a part's tensors that a file must fill: less is another network."""


@dataclass(frozen=True)
class Started:
    """`part` of the detector (a module's name, "" the whole), `filled` and `missing` tensors of it."""

    part: str
    filled: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        rest = f", {len(self.missing)} start anew ({', '.join(self.missing[:3])})" if self.missing else ""
        return f"{self.part or 'the network'}: {self.filled} tensors taken{rest}"


def start_from(detector: nn.Module, path: Path) -> list[Started]:
    """Take what the file (safetensors, or a run's best.pt) has for parts of the detector; what was taken.

    A part with a `load_imagenet` of its own decides itself (its names differ from the published ones). Otherwise the
    part is found by names: timm's and torchvision's ImageNet weights fit the detectors that are made of their
    networks, and a trained detector's fit another that holds the same network.

    Raises:
        OSError, ValueError: no such file, no weights, or weights of another network.
    """
    state = read_state(path)
    own: list[tuple[str, Any]] = [(n, m) for n, m in detector.named_modules() if hasattr(m, "load_imagenet")]
    if own:
        for _, module in own:
            module.load_imagenet(state)
        return [Started(name, len(module.state_dict()), ()) for name, module in own]
    there, here = _prefixes(state, detector.state_dict())
    wanted = {k: v for k, v in detector.state_dict().items() if k.startswith(here)}
    given = {here + k.removeprefix(there): v for k, v in state.items() if k.startswith(there)}
    given = {k: _inflated(v, wanted[k].shape) if k in wanted else v for k, v in given.items()}
    found = {k: v for k, v in given.items() if k in wanted and v.shape == wanted[k].shape}
    missing = tuple(sorted(k for k in wanted if k not in found and not k.endswith("num_batches_tracked")))
    if len(found) < FULL * (len(found) + len(missing)):
        part = here.rstrip(".") or "the network"
        raise ValueError(
            f"these are another network's weights: of {len(found) + len(missing)} tensors of {part} they fill"
            f" {len(found)}; missing are {', '.join(missing[:3])}"
        )
    detector.load_state_dict({k: v.to(wanted[k].dtype) for k, v in found.items()}, strict=False)
    return [Started(here.rstrip("."), len(found), missing)]


def _inflated(kernel: Tensor, shape: Size) -> Tensor:
    """A kernel of one moment (O, I, 1, h, w) in the middle of one over time, which is 0 elsewhere; others as they are.

    A picture that stands still then gives what it gave (inflation: Carreira and Zisserman, CVPR 2017, 2.4.2).
    """
    if kernel.ndim != 5 or len(shape) != 5 or kernel.shape[2] != 1 or shape[2] % 2 == 0:
        return kernel
    side = shape[2] // 2
    return functional.pad(kernel, (0, 0, 0, 0, side, side))


def read_state(path: Path) -> dict[str, Tensor]:
    """Of a safetensors file or of a run's best.pt. Raises OSError, ValueError."""
    if path.suffix != ".pt":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"no safetensors: {error}") from error
    import torch

    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"no weights of a run: {str(error)[:100]}") from error
    return state


def _prefixes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[str, str]:
    """What stands before the names that both share, in the file and in the detector: the pair that most tensors of one
    shape agree on. Raises ValueError where nothing fits."""
    alike = defaultdict(list)
    for key, value in given.items():
        alike[key.rsplit(".", 3)[-1], tuple(value.shape)].append(key)
    votes: Counter[tuple[str, str]] = Counter()
    for key, value in wanted.items():
        for other in alike[key.rsplit(".", 3)[-1], tuple(value.shape)]:
            votes[_stripped(other, key)] += 1
    if not votes:
        raise ValueError("these are another network's weights: no tensor has a name and shape of this detector's")
    return max(votes, key=lambda pair: (votes[pair], -len(pair[0]) - len(pair[1])))


def _stripped(one: str, other: str) -> tuple[str, str]:
    """Both names without the parts at the end that they share."""
    first, second = one.split("."), other.split(".")
    while first and second and first[-1] == second[-1]:
        first.pop()
        second.pop()
    return ".".join([*first, ""]) if first else "", ".".join([*second, ""]) if second else ""
