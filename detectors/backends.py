"""Opt-in runtimes for a detector's forward pass. PyTorch is the default; ONNX Runtime is faster on a CPU.

    from detectors.backends import on_onnx
    from detectors.store import load
    faster = on_onnx(load("mesonet"))     # its label, the `weights` of every result, says +onnx

Heatmaps stay with PyTorch, whose gradients Grad-CAM needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from detectors.base import DetectorOutput
from detectors.onnx_export import INPUT, OPSET, ExportError, NoPackage, open_onnx, sample_shape, to_onnx
from detectors.store import LoadedDetector
from preprocessing.settings import Backend

TOLERANCE = 1e-4
"""Largest change of a logit. A backend that moved it further would need a calibration of its own, and is refused."""

log = logging.getLogger(__name__)


def on_backend(
    loaded: Mapping[str, LoadedDetector], backend: Backend, told: Callable[[str], None] = log.warning
) -> dict[str, LoadedDetector]:
    """The same detectors on another runtime; what it cannot run stays on PyTorch, as its label says, and `told` hears.

    Raises NoPackage where the runtime is not installed.
    """
    moved = dict(loaded)
    for name, one in loaded.items() if backend == "onnx" else ():
        try:
            moved[name] = on_onnx(one, told)
        except NoPackage:
            raise
        except ExportError as error:
            told(f"{name} stays on PyTorch: {error}")
    return moved


def on_onnx(loaded: LoadedDetector, told: Callable[[str], None] = log.warning) -> LoadedDetector:
    """The detector with ONNX Runtime for its logits and embeddings, on as many threads as torch has, on the CPU.

    The network is exported once for each file of weights (seconds) and kept in the platform's cache folder. Raises
    NoPackage, and ExportError for a network that cannot be exported or moves a logit by more than TOLERANCE on noise.
    """
    with _cache() as folder:
        path = folder / f"{loaded.card.name}-{_digest(loaded)}.onnx"
        if path.is_file():
            with contextlib.suppress(ExportError):  # damaged, or of another version's code: made again
                return _checked(loaded, path)
        told(f"{loaded.card.name} is exported for ONNX Runtime, once")
        return _checked(loaded, to_onnx(loaded, path, ("logit", "embedding")))


class _Network:
    """An exported detector, called as the detector itself is."""

    def __init__(self, path: Path) -> None:
        self._session = open_onnx(path, torch.get_num_threads())
        self._names: list[str] = [output.name for output in self._session.get_outputs()]

    def __call__(self, batch: Tensor) -> DetectorOutput:
        found = self._session.run(self._names, {INPUT: batch.contiguous().numpy()})
        tensors = {name: torch.from_numpy(value) for name, value in zip(self._names, found, strict=True)}
        return DetectorOutput(tensors["logit"], embedding=tensors.get("embedding"))


def _checked(loaded: LoadedDetector, path: Path) -> LoadedDetector:
    network = _Network(path)
    noise = np.random.default_rng(0).standard_normal((2, *sample_shape(loaded.detector)), np.float32)
    with torch.inference_mode():
        batch = torch.from_numpy(noise)
        moved = float((loaded.detector(batch).logit - network(batch).logit).abs().max())
    if not moved <= TOLERANCE:
        raise ExportError(f"ONNX Runtime moves a logit of {loaded.card.name} by {moved:.1g}, more than {TOLERANCE:g}")
    return dataclasses.replace(loaded, network=network, backend="onnx")


@contextlib.contextmanager
def _cache() -> Iterator[Path]:
    """The folder of exported networks, for this process alone; where it cannot be written, one that is removed."""
    folder = Path(platformdirs.user_cache_dir("unmask")) / "onnx"
    with contextlib.ExitStack() as kept:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept.enter_context(FileLock(folder / ".lock"))
        except OSError:
            folder = Path(kept.enter_context(tempfile.TemporaryDirectory()))
        yield folder


def _digest(loaded: LoadedDetector) -> str:
    facts = [loaded.card.sha256, loaded.card.config, torch.__version__, OPSET]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
