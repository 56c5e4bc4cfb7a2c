"""Published checkpoints into the user's store, as safetensors with a card that says where they come from.

What a method's files look like stands with the method (`Detector.import_checkpoint`); adding one changes nothing here.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from detectors.base import DetectorConfig, Profile
from detectors.checkpoints import INDEX_SUFFIX, SUFFIXES, CheckpointError, gathering, match_state
from detectors.registry import Entry, entry
from detectors.store import WeightCard, save, user_store
from detectors.tf_checkpoint import index_file, open_bundle

UNKNOWN_LICENCE = "unknown: see the publisher's terms"


def import_weights(
    method: str,
    paths: Sequence[Path],
    name: str | None = None,
    store: Path | None = None,
    licence: str = UNKNOWN_LICENCE,
    profile: Profile = "paper",
) -> WeightCard:
    """Convert a published checkpoint and keep it, float32, in the user's store (or `store`), without calibration.

    `paths`: the file, the files, or one folder of them; of a TensorFlow checkpoint its index or its prefix.
    `profile`: under which it is found; the card holds the config that the file itself implies. Raises CheckpointError,
    or ValueError for an unknown method. `data` of the card tells what found its place and what was left out.
    """
    found = entry(method)
    files = _files(method, paths)
    with gathering() as aside:
        config, state = found.cls.import_checkpoint(files)
    detector = found.cls(config)
    match_state(state, detector.state_dict(), f"{method} from {', '.join(f.name for f in files)}")
    detector.load_state_dict(state)
    sources = [f"{part.name} sha256 {_sha256(part)}" for file in files for part in _parts(file)]
    return save(
        detector,
        store or user_store(),
        half=False,
        profile=profile,
        name=name or _name(method, files),
        licence=licence,
        data=f"as published; not trained here. {_report(state, aside)}",
        command=f"unmask weights import {method} {' '.join(f.name for f in files)} ({'; '.join(sources)})",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        limits=_limits(found, config),
    )


def _report(state: Mapping[str, Tensor], aside: Sequence[str]) -> str:
    """What mapped and what did not; that nothing of the network is missing was tested before."""
    filled = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    said = f"{len(filled)} tensors, {sum(v.numel() for v in filled):,} numbers, make the whole network"
    if not aside:
        return f"{said}; nothing in the file was left out"
    rest = f" and {len(aside) - 6} more" if len(aside) > 6 else ""
    return f"{said}; left out, having no part in its answer: {', '.join(aside[:6])}{rest}"


def _files(method: str, paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(index_file, paths):
        if not path.exists():
            raise CheckpointError(f"there is no file {path}")
        files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    wrong = [f.name for f in files if f.suffix.lower() not in SUFFIXES]
    if wrong or not files:
        got = ", ".join(wrong) or "none"
        raise CheckpointError(f"{method} is imported from files ending in {', '.join(sorted(SUFFIXES))}; found: {got}")
    return files


def _parts(file: Path) -> list[Path]:
    """The file, and the data files of a TensorFlow index."""
    return [file, *open_bundle(file).shards] if file.suffix.lower() == INDEX_SUFFIX else [file]


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _name(method: str, files: Sequence[Path]) -> str:
    """A name that tells two imports of one method apart: the file's own where it is one, else a digest of them all."""
    if len(files) == 1:
        return f"{method}-{re.sub(r'[^A-Za-z0-9._-]+', '-', files[0].stem)}"
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    return f"{method}-{files[0].suffix.lower().lstrip('.')}-{digest[:8]}"


def _limits(found: Entry, config: DetectorConfig) -> str:
    said = "Not calibrated on data of this project: its scores do not compare with other detectors'."
    extractor = getattr(config, "extractor", None)
    if extractor and extractor != getattr(found.profiles["compact"], "extractor", None):
        said += f" Its landmarks came from {extractor}: scores on other landmarks are out of its domain."
    return said
