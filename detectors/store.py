"""Trained weights: safetensors listed in manifests with where they come from; found, checked and loaded, never made up.

Looked up in this order: an explicit path; the user's store (UNMASK_WEIGHTS, else the platform's cache folder); the
weights shipped in detectors/weights/; a download, where a card names an address. Each folder has a manifest.json, a
list of WeightCard.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import platformdirs
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from detectors.aggregate import Aggregation
from detectors.backbone import fold_norms, is_folded
from detectors.base import Detector, DetectorOutput, Profile
from detectors.checkpoints import CheckpointError, match_state
from detectors.registry import entry, names
from preprocessing.settings import Backend, Strict

SHIPPED = Path(__file__).parent / "weights"
DOWNLOAD_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 30.0


class WeightsError(Exception):
    """Weights that cannot be used; the message says which file and what to do."""


class NoWeights(WeightsError):
    """There are no trained weights for a detector, so it has no score."""


Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=10, max_length=10)]
"""By tenths of the score; they sum to 1."""


class Calibration(Strict):
    """score = sigmoid(a * logit + b), fitted on `n` items that no training saw, under an even prior.

    `saw`: sha256 over the sorted sha256 of these media, a line each (train.calibrate.digest). `aggregation`: how a
    track's samples become its logit; None is the method's own way. `shares`: of these reals and of these fakes, the
    share of the calibrated scores in each tenth from 0 to 1, which serve.drift compares with what comes later.
    """

    a: float = Field(ge=0)
    b: float
    fitted_on: str
    n: int = Field(ge=1)
    reals: int | None = None
    fakes: int | None = None
    method: Literal["platt", "temperature"] = "platt"
    saw: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    aggregation: Aggregation | None = None
    shares: tuple[Shares, Shares] | None = None


class Metric(Strict):
    """One measured figure with its 95 % interval where there is one."""

    set: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    note: str = ""
    perturbation: str = Field(default="", description="the step of preprocessing.perturb that was done, as jpeg-4")


class WeightCard(Strict):
    """Everything known of one file of weights. `config` is the detector's, `data` and `command` how it was made."""

    detector: str
    profile: Profile
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)
    licence: str
    data: str
    command: str
    seed: int | None = None
    date: str
    config: dict[str, Any]
    calibration: Calibration | None = None
    metrics: tuple[Metric, ...] = ()
    limits: str = ""
    url: str | None = Field(default=None, pattern=r"^https?://")


@dataclass(frozen=True)
class Located:
    """A card and the folder whose manifest lists it; the file itself may still have to be downloaded."""

    card: WeightCard
    folder: Path

    @property
    def path(self) -> Path:
        """Where the weights are, or would be."""
        return self.folder / self.card.file


@dataclass(frozen=True)
class LoadedDetector:
    """A detector with its trained weights, in evaluation mode, and what runs it where that is not PyTorch."""

    detector: Detector
    card: WeightCard
    network: Callable[[Tensor], DetectorOutput] | None = None
    backend: Backend = "torch"

    def run(self, batch: Tensor) -> DetectorOutput:
        """What `Detector.prepare` gave, (B, ...), to logits and embeddings; another backend gives nothing else."""
        return (self.network or self.detector)(batch)

    def score(self, logit: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits of any shape to calibrated probabilities of fake; without calibration the plain sigmoid."""
        a, b = (self.card.calibration.a, self.card.calibration.b) if self.card.calibration else (1.0, 0.0)
        return 1 / (1 + np.exp(-np.clip(a * np.asarray(logit, np.float64) + b, -700, 700)))

    @property
    def label(self) -> str:
        """NAME@SHA, the first 12 digits of the sha256 of the weights; NAME+BACKEND@SHA where it is not PyTorch."""
        backend = "" if self.backend == "torch" else f"+{self.backend}"
        return f"{self.card.name}{backend}@{self.card.sha256[:12]}"


def user_store() -> Path:
    """The folder of the user's own weights; it need not exist."""
    configured = os.environ.get("UNMASK_WEIGHTS")
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("unmask")) / "weights"


def read_manifest(folder: Path) -> list[WeightCard]:
    """The cards of a folder, none where it has no manifest. Raises WeightsError for one that cannot be read."""
    path = folder / "manifest.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(listed, list):
            raise ValueError("it is not a list of cards")
        return [WeightCard.model_validate(item) for item in listed]
    except FileNotFoundError:
        return []
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise WeightsError(f"the manifest {path} is wrong at {where or 'a card'}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"the manifest {path} cannot be read: {error}; repair it or remove it") from None


def located() -> list[Located]:
    """Every card that is known, in the order in which they are looked up: the user's newest first, then the shipped."""
    return [Located(card, folder) for folder in (user_store(), SHIPPED) for card in reversed(read_manifest(folder))]


def find(name: str, profile: Profile = "compact", weights: Path | None = None) -> Located:
    """The weights that `load` would use. Raises NoWeights, or WeightsError for an explicit path without a card."""
    entry(name)
    if weights is not None:
        return _explicit(name, profile, weights)
    for found in located():
        if (found.card.detector, found.card.profile) == (name, profile) and (found.path.is_file() or found.card.url):
            return found
    others = sorted({f"{f.card.name} ({f.card.profile})" for f in located() if f.card.detector == name})
    there = f"there are {', '.join(others)}; " if others else ""
    raise NoWeights(
        f"no trained weights for {name} ({profile}); {there}import published ones with "
        f"`unmask weights import {name} FILE`, train it with `unmask train`, or give a path"
    )


def _explicit(name: str, profile: Profile, weights: Path) -> Located:
    folder = weights if weights.is_dir() else weights.parent
    if not weights.exists():
        raise WeightsError(f"there are no weights at {weights}")
    if not weights.is_dir() and weights.suffix != ".safetensors":
        raise WeightsError(
            f"{weights.name} is not safetensors; convert it with `unmask weights import {name} {weights}`"
        )
    cards = [card for card in reversed(read_manifest(folder)) if card.detector == name]
    chosen = [card for card in cards if (card.profile == profile if weights.is_dir() else card.file == weights.name)]
    if not chosen:
        asked = f"for {name} ({profile})" if weights.is_dir() else f"of {name} for {weights.name}"
        raise WeightsError(f"{folder / 'manifest.json'} has no card {asked}; weights are only read with their card")
    return Located(chosen[0], folder)


def load(name: str, profile: Profile = "compact", weights: Path | None = None) -> LoadedDetector:
    """The detector with trained weights, float32, on the CPU, ready to predict.

    `weights`: a .safetensors file, or a folder with a manifest. Raises NoWeights where there are none, WeightsError
    where their sha256, their keys or their card are wrong.
    """
    return open_weights(find(name, profile, weights))


def open_weights(found: Located) -> LoadedDetector:
    """Load exactly these weights. Raises WeightsError."""
    card = found.card
    content = _content(found)
    method = entry(card.detector)
    try:
        config = type(method.profiles[card.profile]).model_validate(card.config)
        detector = method.cls(config)
        state = safetensors.torch.load(content)
        match_state(state, detector.state_dict(), card.file)
    except ValidationError as error:
        raise WeightsError(f"the card {card.name} has a wrong config: {error.errors()[0]['msg']}") from None
    except (SafetensorError, CheckpointError) as error:
        raise WeightsError(f"the weights {card.name} cannot be loaded: {error}") from None
    detector.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    fold_norms(detector.eval())
    return LoadedDetector(detector, card)


def _content(found: Located) -> bytes:
    """The file's bytes, downloaded first where it must be; they are what the card's sha256 says, or WeightsError."""
    path, card = found.path, found.card
    if not path.is_file() and card.url:
        path = _download(card)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be read: {error.strerror or error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise WeightsError(
            f"{path} is not the file that its card describes: sha256 {digest[:12]}, expected {card.sha256[:12]}; "
            "it was changed or damaged: remove it and get it again"
        )
    return content


def _download(card: WeightCard) -> Path:
    path = user_store() / card.file
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256:
        return path
    assert card.url is not None
    try:
        with urllib.request.urlopen(card.url, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            content = answer.read(card.bytes + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise WeightsError(
            f"the weights {card.name} could not be downloaded from {card.url}: {getattr(error, 'reason', error)}; "
            f"without a network, put the file at {path}"
        ) from None
    if len(content) != card.bytes or hashlib.sha256(content).hexdigest() != card.sha256:
        raise WeightsError(f"{card.url} gave another file than the card {card.name} describes; nothing was kept")
    _write(path, content)
    return path


def available(profile: Profile = "compact") -> dict[str, WeightCard]:
    """The card that `load` would use for each detector that has weights in this profile; nothing is downloaded."""
    cards = {}
    for name in names():
        try:
            cards[name] = find(name, profile).card
        except NoWeights:
            continue
    return cards


def load_available(profile: Profile = "compact") -> dict[str, LoadedDetector]:
    """Every detector that has weights in this profile. Raises WeightsError where some are damaged."""
    return {name: load(name, profile) for name in available(profile)}


def save(detector: Detector, folder: Path, *, half: bool = True, **card: Any) -> WeightCard:
    """Write a detector's weights as `folder/NAME.safetensors` and its card into the folder's manifest, both atomically.

    `card`: the fields of WeightCard that are not known here (profile, name, licence, data, command, date, ...); a card
    of the same name is replaced. `half` stores matrices in float16; vectors stay float32, since running variances
    leave float16's range. Raises WeightsError for weights that are not finite, and for a detector that `load` made.
    """
    if is_folded(detector):
        raise WeightsError(
            f"{detector.name} was loaded for use, and is no more what was trained: `export` copies its file"
        )
    state = {}
    for key, value in detector.state_dict().items():
        kept = value.detach().cpu().contiguous()
        if kept.is_floating_point():
            kept = kept.to(torch.float16 if half and kept.ndim > 1 else torch.float32)
            if not bool(torch.isfinite(kept).all()):
                raise WeightsError(f"{key} is not finite{' in float16' if half else ''}: these weights cannot be saved")
        state[key] = kept
    content = safetensors.torch.save(state, {"format": "pt", "detector": detector.name})
    made = WeightCard.model_validate(
        {
            "detector": detector.name,
            "file": f"{card.get('name')}.safetensors",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "config": detector.config.model_dump(mode="json"),
            **card,
        }
    )
    _write(folder / made.file, content)
    _edit(folder, lambda cards: [*(c for c in cards if c.name != made.name), made])
    return made


def set_calibration(name: str, profile: Profile, calibration: Calibration | None) -> WeightCard:
    """Replace the calibration in the manifest of the weights that `load(name, profile)` uses; the weights stay."""
    return _set(name, profile, calibration=calibration)


def set_metrics(name: str, profile: Profile, metrics: Sequence[Metric]) -> WeightCard:
    """Replace the figures in that manifest, in the same way."""
    return _set(name, profile, metrics=tuple(metrics))


def _set(name: str, profile: Profile, **changes: Any) -> WeightCard:
    found = find(name, profile)
    changed = found.card.model_copy(update=changes)
    _edit(found.folder, lambda cards: [changed if c.name == changed.name else c for c in cards])
    return changed


def verify(found: Located) -> None:
    """Raise WeightsError unless the file is there, is what its card says, and fits the network that the card names."""
    open_weights(found)


def export(name: str, profile: Profile, out: Path) -> WeightCard:
    """Copy the weights that `load` would use into the folder `out`, with a manifest, so that they load from there."""
    found = find(name, profile)
    _write(out / found.card.file, _content(found))
    _edit(out, lambda cards: [*(c for c in cards if c.name != found.card.name), found.card])
    return found.card


def _edit(folder: Path, change: Callable[[list[WeightCard]], list[WeightCard]]) -> None:
    """Read, change and replace a manifest under a lock, because two trainings may finish at once."""
    try:
        with FileLock(folder / ".manifest.lock", timeout=LOCK_TIMEOUT_S):
            cards = change(read_manifest(folder))
            text = json.dumps([card.model_dump(mode="json") for card in cards], indent=1) + "\n"
            _write(folder / "manifest.json", text.encode())
    except (OSError, Timeout) as error:
        raise WeightsError(f"the manifest in {folder} cannot be changed: {error}") from None


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from None
