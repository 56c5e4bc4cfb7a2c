"""An object store for tests: `bucket://`, a driver of fsspec that keeps its objects in the folder $UNMASK_TEST_BUCKET.

As in S3 there are no folders, only names with slashes: making one does nothing, and one without an object is not there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

FOLDER = "UNMASK_TEST_BUCKET"


class BucketFileSystem(DirFileSystem):
    """By its protocol no file system of this machine's files."""

    protocol = "bucket"

    def __init__(self, **options: Any) -> None:
        super().__init__(os.environ[FOLDER], LocalFileSystem(auto_mkdir=True), **options)

    def mkdir(self, path: str, *given: Any, **options: Any) -> None:
        """There are no folders."""

    def makedirs(self, path: str, *given: Any, **options: Any) -> None:
        """There are no folders."""

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is an object of that name, or one below it."""
        return bool(self.find(path))


def installed(folder: Path) -> dict[str, str]:
    """The environment of processes, and of theirs, that have the driver installed, as `pip install s3fs` does it."""
    about = folder / "bucket_store-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bucket-store\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[fsspec.specs]\nbucket = bucket_store:BucketFileSystem\n")
    objects = folder / "objects"
    objects.mkdir()
    paths = [str(folder), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {FOLDER: str(objects), "PYTHONPATH": os.pathsep.join(paths)}
