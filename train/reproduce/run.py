"""Runs a protocol: finds data and weights, hands over to what measures, and says what was missing."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectors.checkpoints import CheckpointError
from detectors.importers import import_weights
from detectors.store import LoadedDetector, NoWeights, WeightsError, load
from train.reproduce.protocol import Protocol, load_protocol
from train.reproduce.sheet import ReproduceError, Sheet, judged

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Choice:
    """What was asked for: `data` the roots, `weights` a file or folder, `save` a folder that keeps what was measured
    (a run that is repeated goes on), `limit` of videos a row and class, `overrides` of a recipe, `told` as in
    train.evaluate."""

    data: tuple[Path, ...] = ()
    weights: Path | None = None
    save: Path | None = None
    limit: int | None = None
    overrides: tuple[str, ...] = ()
    told: Told = field(default=lambda what, done, total: None)


def reproduce(name: str, choice: Choice, command: str = "") -> Sheet:
    """The sheet of the protocol `name`; what cannot be run is in it as not reproduced, with the reason.

    Raises ReproduceError for an unknown name, a folder that is not there or not what the protocol needs, or weights
    that cannot be used.
    """
    protocol = load_protocol(name)
    sheet = Sheet(protocol.name, protocol.paper, protocol.table, command, notes=list(protocol.differences))
    for root in choice.data:
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise ReproduceError(f"--data {root} {what}: {protocol.name} needs {protocol.needs}")
    if not choice.data:
        return _without(sheet, protocol, f"data missing: {protocol.needs}")
    from train.reproduce import imbalance, landmarks, media

    if protocol.kind == "lrnet_demo":
        landmarks.demo(protocol, choice, sheet)
    elif protocol.kind == "imbalance":
        imbalance.sweep(protocol, choice, sheet)
    else:
        try:
            networks = load_networks(protocol, choice.weights)
        except NoWeights:
            return _without(sheet, protocol, f"weights missing: {protocol.weights}")
        sheet.weights = "; ".join(f"{one.label} ({one.card.profile}; {one.card.data})" for one in networks)
        if protocol.kind == "landmarks":
            landmarks.tree(protocol, networks[0], choice, sheet)
        else:
            media.run(protocol, networks, choice, sheet)
    return sheet


def _without(sheet: Sheet, protocol: Protocol, why: str) -> Sheet:
    for row in protocol.rows:
        for figure, published in row.published.items():
            sheet.lines.append(
                judged(row.name, figure_name(protocol, row.level, figure), published, None, "nothing", why)
            )
    return sheet


def figure_name(protocol: Protocol, level: str | None, figure: str) -> str:
    """A figure with its level, which decides what it means."""
    return figure if figure in ("vote", "mean") else f"{level or protocol.level} {figure}"


def load_networks(protocol: Protocol, weights: Path | None) -> list[LoadedDetector]:
    """As many as the protocol has: one as `load_weights` takes it, several from what lies in the folder `weights`.

    Raises NoWeights, ReproduceError.
    """
    if protocol.networks == 1:
        return [load_weights(protocol, weights)]
    if weights is None:
        raise NoWeights(protocol.detector)
    found = sorted(path for path in weights.iterdir() if not path.name.startswith(".")) if weights.is_dir() else []
    if len(found) != protocol.networks:
        raise ReproduceError(
            f"--weights {weights} holds {len(found)} networks, {protocol.name} votes with {protocol.networks}: give"
            f" {protocol.weights}"
        )
    return [load_weights(protocol, path) for path in found]


def load_weights(protocol: Protocol, weights: Path | None) -> LoadedDetector:
    """The detector with its weights, uncalibrated, as published: those given, else those that are installed.

    `weights`: our own .safetensors or a folder with their manifest, of either profile; or a published checkpoint, or a
    folder of its files. Raises NoWeights, ReproduceError.
    """
    name, profile = protocol.detector, protocol.profile
    try:
        if weights is None:
            return uncalibrated(load(name, profile))
        if not weights.exists():
            raise ReproduceError(f"--weights {weights} does not exist: give {protocol.weights}")
        if weights.suffix == ".safetensors" or (weights / "manifest.json").is_file():
            try:
                return uncalibrated(load(name, profile, weights))
            except WeightsError:
                return uncalibrated(load(name, "compact", weights))
        return imported(name, [weights])
    except NoWeights:
        raise
    except (WeightsError, CheckpointError) as error:
        raise ReproduceError(f"--weights {weights}: {error}" if weights else str(error)) from error


def imported(name: str, files: Sequence[Path]) -> LoadedDetector:
    """A published checkpoint, converted without leaving a trace. Raises CheckpointError."""
    with tempfile.TemporaryDirectory() as folder:
        import_weights(name, files, store=Path(folder))
        return uncalibrated(load(name, "paper", Path(folder)))


def uncalibrated(loaded: LoadedDetector) -> LoadedDetector:
    """Its scores are the network's own: a threshold of 1/2 is the authors'."""
    return dataclasses.replace(loaded, card=loaded.card.model_copy(update={"calibration": None}))
