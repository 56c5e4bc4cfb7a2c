"""Published checkpoints into the user's store, as safetensors with a card that says where they come from.

What a method's files look like stands with the method (`Detector.import_checkpoint`); adding one changes nothing here.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from detectors.base import DetectorConfig, Profile
from detectors.checkpoints import SUFFIXES, CheckpointError, match_state
from detectors.registry import Entry, entry
from detectors.store import WeightCard, save, user_store

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

    `paths`: the file, the files, or one folder of them. `profile`: under which it is found; the card holds the config
    that the file itself implies. Raises CheckpointError, or ValueError for an unknown method.
    """
    found = entry(method)
    files = _files(method, paths)
    config, state = found.cls.import_checkpoint(files)
    detector = found.cls(config)
    match_state(state, detector.state_dict(), f"{method} from {', '.join(f.name for f in files)}")
    detector.load_state_dict(state)
    sources = [f"{f.name} sha256 {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]
    return save(
        detector,
        store or user_store(),
        half=False,
        profile=profile,
        name=name or _name(method, files),
        licence=licence,
        data="as published; not trained here",
        command=f"unmask weights import {method} {' '.join(f.name for f in files)} ({'; '.join(sources)})",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        limits=_limits(found, config),
    )


def _files(method: str, paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"there is no file {path}")
        files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    wrong = [f.name for f in files if f.suffix.lower() not in SUFFIXES]
    if wrong or not files:
        got = ", ".join(wrong) or "none"
        raise CheckpointError(f"{method} is imported from files ending in {', '.join(sorted(SUFFIXES))}; found: {got}")
    return files


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
