"""A detector as an ONNX file, for runtimes other than PyTorch (needs the extra `onnx`).

Input `batch`: what `Detector.prepare` gives, float32, normalised; its first dimension may be of any size from 1.
Outputs: `logit` (B,), above 0 means fake, before calibration, and, where the method draws its own map, `heatmap`
(B, H, W) in 0..1. What turns a picture into a batch, and a logit into a score, stands in the file's metadata.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.base import Detector
from detectors.store import LoadedDetector
from preprocessing.inputs import ClipInput, FaceInput

OPSET = 18
INPUT = "batch"


class ExportError(RuntimeError):
    """A detector that cannot be exported or run; the message says why and what would work."""


class NoPackage(ExportError):
    """A package of the extra `onnx` is not installed."""


class _Outputs(nn.Module):
    """A detector that answers with tensors alone."""

    def __init__(self, detector: Detector, names: Sequence[str]) -> None:
        super().__init__()
        self.detector = detector
        self.names = names

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(batch)
        return tuple(getattr(output, name) for name in self.names)


def to_onnx(loaded: LoadedDetector, path: Path, kinds: Sequence[str] = ("logit", "heatmap")) -> Path:
    """Write the detector to `path`, whole or not at all, and return it; weights above 2 GB go to a file beside it.

    `kinds`: the outputs, fields of DetectorOutput; those that the method has none of are left out.

    By torch.onnx's exporter from the traced graph, opset 18. The metadata has `detector`, `weights` (name and sha256),
    `licence`, `config`, `input` (kind, sizes, mean, std) and `calibration` (score = sigmoid(a * logit + b)), each as
    JSON. Raises NoPackage, or ExportError where the network cannot be traced.
    """
    for package in ("onnx", "onnxscript"):
        _package(package)
    detector = copy.deepcopy(loaded.detector).float().cpu().eval()
    example = torch.zeros(2, *sample_shape(detector))
    with torch.inference_mode():
        output = detector(example)
    names = [kind for kind in kinds if getattr(output, kind) is not None]
    with _quiet():
        traced = _trace(detector, example, names)
        try:
            program = torch.onnx.export(
                traced, input_names=[INPUT], output_names=names, opset_version=OPSET, dynamo=True, verbose=False
            )
        except RuntimeError as error:
            raise ExportError(f"{detector.name} could not be exported to ONNX: {_first_line(error)}") from error
    assert program is not None
    program.model.metadata_props.update(_metadata(loaded))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        program.save(Path(folder) / path.name)
        # The weights' file first: the graph names it.
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)
    return path


def run_onnx(path: Path, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The outputs of an exported detector on a prepared batch, by name, from ONNX Runtime on the CPU.

    Raises what `open_onnx` does, ValueError for a batch of another shape.
    """
    session = open_onnx(path)
    expected = session.get_inputs()[0].shape[1:]
    if list(batch.shape[1:]) != expected:
        raise ValueError(f"{path.name} takes (B, {', '.join(map(str, expected))}), not {batch.shape}")
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {INPUT: np.asarray(batch, np.float32)}), strict=True))


def open_onnx(path: Path, threads: int = 0) -> Any:
    """An exported file as ONNX Runtime's InferenceSession on the CPU; 0 threads: as many as there are cores.

    Raises NoPackage, or ExportError for a file that the runtime cannot read.
    """
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base of its own
        raise ExportError(f"{path} cannot be read by ONNX Runtime: {_first_line(error)}") from None


def _trace(detector: Detector, example: Tensor, names: Sequence[str]) -> torch.export.ExportedProgram:
    """The graph for any number of samples; torch.onnx's own tracing would silently fix it to the example's."""
    shapes = ({0: torch.export.Dim("samples", min=1)},)
    network = _Outputs(detector, names)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
    except RuntimeError:
        # Reading the code instead of running it also follows `len(batch)`, and takes longer.
        try:
            return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=True)
        except RuntimeError as error:
            raise ExportError(f"{detector.name} could not be traced for ONNX: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def sample_shape(detector: Detector) -> tuple[int, ...]:
    """Of one sample of what `Detector.prepare` gives."""
    spec = detector.input
    if isinstance(spec, FaceInput):
        return (3, spec.size, spec.size)
    if isinstance(spec, ClipInput):
        return (spec.length, 3, spec.face.size, spec.face.size)
    return (spec.length, 136)


def _metadata(loaded: LoadedDetector) -> dict[str, str]:
    card, spec = loaded.card, loaded.detector.input
    calibration = {"a": card.calibration.a, "b": card.calibration.b} if card.calibration else None
    facts: dict[str, Any] = {
        "detector": loaded.detector.name,
        "weights": {"name": card.name, "sha256": card.sha256},
        "licence": card.licence,
        "config": loaded.detector.config.model_dump(mode="json"),
        "input": {"kind": type(spec).__name__, **dataclasses.asdict(spec)},
        "calibration": calibration,
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NoPackage(
            f"ONNX needs the package {name}, which is not installed: pip install 'unmask-forensics[onnx]'"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of each of its steps, and of operators of packages that it does not know."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
