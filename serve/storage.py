"""Where uploads and artifacts lie: one folder an analysis, so that deleting it deletes everything."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{32}")
_ARTIFACT = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*\.(?:jpg|png|npz)")
TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".npz": "application/octet-stream"}
STALE_UPLOAD_S = 24 * 3600
"""What has been without its analysis for so long lost it with the process that received it."""


def new_id() -> str:
    """The id of an analysis: 32 hexadecimal digits that nobody guesses."""
    return uuid.uuid4().hex


class Storage:
    """`root`/incoming/ID.part while an upload comes in; then `root`/analyses/ID/media and .../artifacts/NAME."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._analyses = root / "analyses"
        for folder in (self._incoming, self._analyses):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _folder(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise ValueError(f"not the id of an analysis: {job_id!r}")
        return self._analyses / job_id

    def incoming(self, job_id: str) -> Path:
        """The file that an upload is written to until it is complete and checked."""
        self._folder(job_id)
        return self._incoming / f"{job_id}.part"

    def keep(self, job_id: str) -> None:
        """Make a complete upload the media of its analysis."""
        folder = self._folder(job_id)
        folder.mkdir(mode=0o700)
        self.incoming(job_id).replace(folder / "media")

    def media(self, job_id: str) -> Path:
        """The media file of an analysis; it is gone after a deletion."""
        return self._folder(job_id) / "media"

    def write_artifacts(self, job_id: str, artifacts: Mapping[str, bytes]) -> None:
        """Write the files that a result names. Raises FileNotFoundError where the analysis was deleted."""
        if not self._folder(job_id).is_dir():
            raise FileNotFoundError(job_id)
        root = self._folder(job_id) / "artifacts"
        for name in artifacts:
            if not _ARTIFACT.fullmatch(name):
                raise ValueError(f"not the name of an artifact: {name!r}")
        for folder in {(root / name).parent for name in artifacts}:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in artifacts.items():
            (root / name).write_bytes(content)

    def artifact(self, job_id: str, name: str) -> Path | None:
        """The file of an artifact; None for a name that is not one of them."""
        if not _ID.fullmatch(job_id) or not _ARTIFACT.fullmatch(name):
            return None
        path = self._folder(job_id) / "artifacts" / name
        return path if path.is_file() and not path.is_symlink() else None

    def delete(self, job_id: str) -> None:
        """Remove everything of an analysis."""
        self.incoming(job_id).unlink(missing_ok=True)
        shutil.rmtree(self._folder(job_id), ignore_errors=True)

    def sweep(self) -> None:
        """Remove uploads that ended long ago with the process that received them."""
        for path in self._incoming.glob("*.part"):
            if _stale(path):
                path.unlink(missing_ok=True)

    def idle(self) -> list[str]:
        """Ids of the folders with media that nothing was written to for long: of ended analyses, and of uploads whose
        process ended before their analysis was stored. Never those with artifacts, which only an analysis has."""
        folders = [path for path in self._analyses.iterdir() if _ID.fullmatch(path.name)]
        return [path.name for path in folders if not (path / "artifacts").exists() and _stale(path)]

    def free_bytes(self) -> int:
        """Free space of the disk that holds the storage."""
        return shutil.disk_usage(self.root).free


def _stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > STALE_UPLOAD_S
    except FileNotFoundError:  # another gateway was faster
        return False
