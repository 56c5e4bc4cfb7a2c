"""LRNet from its authors' landmark files, and from the videos that they belong to.

Landmark files are scored by the reference's rules: clips of the network's length, start < rows - length (which loses a
last whole clip), a video's score the share of clips with a score of at least one half.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.checkpoints import CheckpointError
from detectors.methods.lrnet import LRNet, LRNetConfig, clips
from detectors.store import LoadedDetector
from preprocessing.errors import MediaError
from preprocessing.landmark_files import read_lrnet_txt
from preprocessing.landmarks_command import landmarks
from train.reproduce.media import Scored, add_lines, aggregated
from train.reproduce.protocol import Data, Protocol, Row
from train.reproduce.run import Choice, imported
from train.reproduce.sheet import ReproduceError, Sheet, judged, matched

EXTRACTOR = LRNetConfig().extractor
"""Of the landmarks that are found here."""
FOLDERS = {"Origin": "", "DF": "Deepfakes", "F2F": "Face2Face", "FS": "FaceSwap", "NT": "NeuralTextures"}
"""Of the authors' tree datasets/FOLDER/COMPRESSION/SPLIT/VIDEO.txt, with FaceForensics++'s names."""


def clip_scores(detector: LRNet, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(fake) (n,) of a landmark file's clips; n is 0 for a file without a whole clip."""
    cut = clips(rows, detector.config.length, compat=True)
    if not len(cut):
        return np.zeros(0)
    with torch.inference_mode():
        return torch.sigmoid(detector(detector.prepare(cut.astype(np.float32))).logit.double()).numpy()


# --- the demo set


def demo(protocol: Protocol, choice: Choice, sheet: Sheet) -> None:
    """The reference's demo: its landmark files must give its scores; from its videos, with our own landmarks, the shift
    is told. Raises ReproduceError where no landmark file is there, or weights cannot be read."""
    names = {row.file for row in protocol.rows}
    files = {path.name.split(".")[0]: path for path in _below(choice.data, ".txt") if path.name.split(".")[0] in names}
    if not files:
        places = ", ".join(map(str, choice.data))
        raise ReproduceError(f"--data {places}: none of {', '.join(sorted(names))}.txt is there; {protocol.needs}")
    videos = {path.stem: path for path in _below(choice.data, ".mp4") if path.stem in names}
    loaded = {folder: _weights(folder, choice) for folder in dict.fromkeys(row.weights for row in protocol.rows)}
    sheet.weights = "; ".join(f"{folder} ({one.card.name})" for folder, one in loaded.items() if one is not None)
    own: dict[str, NDArray[np.float32]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for done, (name, path) in enumerate(videos.items()):
            choice.told(f"landmarks of {name}", done, len(videos))
            rows = _own(name, path, choice.save or Path(scratch), sheet)
            if rows is not None:
                own[name] = rows
    for row in protocol.rows:
        weights = loaded[row.weights]
        missing = "" if weights else f"weights missing: {row.weights} below --data, or --weights; {protocol.weights}"
        if weights is not None and row.file not in files:
            missing = f"data missing: {row.file}.txt"
        if weights is None or missing:
            sheet.lines += [
                judged(row.name, key, value, None, "nothing", missing) for key, value in row.published.items()
            ]
            continue
        try:
            scores = clip_scores(_lrnet(weights), read_lrnet_txt(files[row.file]))
        except MediaError as error:
            raise ReproduceError(f"{files[row.file]}: {error}") from error
        _compare(row, "the published landmarks", scores, sheet)
        if row.file in own:
            shift = f"landmarks of {EXTRACTOR}, found and calibrated here, in place of the authors'"
            _compare(row, f"the video, {EXTRACTOR}", clip_scores(_lrnet(weights), own[row.file]), sheet, shift)
    if lost := sorted(names - videos.keys()):
        sheet.notes.append(f"no video of {', '.join(lost)} below --data: the shift with our own landmarks is not told")


def _compare(row: Row, what: str, scores: NDArray[np.float64], sheet: Sheet, shift: str = "") -> None:
    found = f"{what}, {len(scores)} clips"
    for figure, published in row.published.items():
        if published is None or not len(scores):
            sheet.lines.append(judged(row.name, figure, published, None, found, "no clip is long enough"))
            continue
        value = aggregated(scores, "vote" if figure == "vote" else "mean")
        sheet.lines.append(matched(row.name, figure, published, value, row.tolerance, len(scores), found, shift))


def _own(name: str, path: Path, folder: Path, sheet: Sheet) -> NDArray[np.float32] | None:
    """Landmarks of a video as `unmask landmarks` finds and calibrates them, kept in `folder`; None: not to be had."""
    kept = folder / f"{name}.{EXTRACTOR}.txt"
    try:
        if not kept.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            landmarks(path, kept)
        return read_lrnet_txt(kept)
    except (MediaError, ValueError) as error:
        sheet.notes.append(f"no landmarks were found in {path.name}: {error}")
        return None


def _weights(folder: str, choice: Choice) -> LoadedDetector | None:
    """`folder`, from the root of the reference's repository, in one of the data's roots, or the --weights given."""
    places = [choice.weights] if choice.weights else [root / folder for root in choice.data]
    there = [place for place in places if place.exists()]
    if choice.weights and not there:
        raise ReproduceError(f"--weights {choice.weights} does not exist")
    if not there:
        return None
    try:
        return imported("lrnet", sorted(there[0].glob("g[12].*")) or [there[0]])
    except CheckpointError as error:
        raise ReproduceError(f"{there[0]}: {error}") from error


def _lrnet(loaded: LoadedDetector) -> LRNet:
    assert isinstance(loaded.detector, LRNet)
    return loaded.detector


def _below(roots: tuple[Path, ...], suffix: str) -> Iterator[Path]:
    for root in roots:
        yield from sorted(root.rglob(f"*{suffix}"))


# --- FaceForensics++


def tree(protocol: Protocol, loaded: LoadedDetector, choice: Choice, sheet: Sheet) -> None:
    """The test split of the authors' landmark sets. Raises ReproduceError where their folders are not there."""
    roots = [place for root in choice.data for place in (root, root / "datasets") if (place / "Origin").is_dir()]
    if not roots:
        places = ", ".join(map(str, choice.data))
        raise ReproduceError(f"--data {places}: there is no folder Origin/ in it or in its datasets/; {protocol.needs}")
    detector = _lrnet(loaded)
    scored: dict[Path, Scored] = {}
    for row in protocol.rows:
        assert row.data is not None
        videos = []
        for label, path in _files(roots[0], row.data):
            if path not in scored:
                try:
                    scores = clip_scores(detector, read_lrnet_txt(path))
                except MediaError as error:
                    raise ReproduceError(f"{path}: {error}") from error
                # The fake TARGET_SOURCE shows the scene of the original TARGET: no independent evidence.
                scored[path] = Scored(label, path.stem.split("_")[0], scores)
            videos.append(scored[path])
        add_lines(protocol, row.name, row.published, row.level, row.data, videos, sheet)


def _files(root: Path, wanted: Data) -> Iterator[tuple[int, Path]]:
    for folder, method in FOLDERS.items():
        if method and wanted.methods and method not in wanted.methods:
            continue
        for compression in wanted.compressions:
            for path in sorted((root / folder / compression / (wanted.split or "test")).glob("*.txt")):
                yield int(bool(method)), path
