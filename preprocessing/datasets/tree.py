"""A folder on any file system that fsspec knows, read one listing at a time."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from preprocessing.datasets.items import DatasetError


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of an address or a local path, and the path in it. Raises ImportError, ValueError."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    found: tuple[Any, str] = url_to_fs(url)
    return found


def is_local(fs: Any) -> bool:
    """Whether its files are this machine's."""
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,))


class Tree:
    """The folder `url`: a local path, or file://, memory://, s3:// and others whose fsspec driver is installed.

    Paths given to and coming from its methods are relative to it. Listings are kept, so each folder is asked for once.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root.rstrip("/") or "/"
        self._listed: dict[str, dict[str, bool]] = {}

    @classmethod
    def open(cls, url: str) -> Tree:
        """Raises DatasetError where there is no such folder, or no driver for the scheme."""
        try:
            fs, root = file_system(url)
            found = fs.isdir(root)
        except (ImportError, ValueError, OSError) as error:
            raise DatasetError(f"{url} cannot be opened: {error}", "give a folder that this machine can read") from None
        if not found:
            what = "is a file, not a folder" if fs.exists(root) else "does not exist"
            raise DatasetError(f"{url} {what}", "give the folder that holds the data set")
        return cls(fs, root)

    @property
    def url(self) -> str:
        """The full address, the same however the folder was given."""
        return str(self.fs.unstrip_protocol(self.root))

    @property
    def name(self) -> str:
        """The folder's own name."""
        return posixpath.basename(self.root)

    @property
    def local(self) -> bool:
        """Whether its files are this machine's."""
        return is_local(self.fs)

    def full(self, path: str) -> str:
        """The path that the file system itself takes."""
        return posixpath.join(self.root, path) if path else self.root

    def _entries(self, path: str) -> dict[str, bool]:
        if path not in self._listed:
            try:
                found = self.fs.ls(self.full(path), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                found = []
            except PermissionError:
                raise DatasetError(f"{self.full(path)} cannot be listed: permission denied") from None
            entries = {posixpath.basename(e["name"].rstrip("/")): e["type"] == "directory" for e in found}
            # Hidden files (._x of macOS, .DS_Store) are nobody's data.
            self._listed[path] = {name: entries[name] for name in sorted(entries) if name and not name.startswith(".")}
        return self._listed[path]

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders in `path`, sorted; empty where it does not exist."""
        return [name for name, folder in self._entries(path).items() if folder]

    def names(self, path: str = "", suffixes: Sequence[str] = ()) -> list[str]:
        """Names of the files in `path`, sorted; `suffixes` (lower case) chooses."""
        return [
            name
            for name, folder in self._entries(path).items()
            if not folder and (not suffixes or name.lower().endswith(tuple(suffixes)))
        ]

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        folder, name = posixpath.split(path)
        return name in self._entries(folder)

    def has_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        folder, name = posixpath.split(path)
        return self._entries(folder).get(name, False)

    def files(self, path: str = "", suffixes: Sequence[str] = ()) -> Iterator[str]:
        """Every file below `path`, as paths from the root, folder by folder in order."""
        yield from (posixpath.join(path, name) for name in self.names(path, suffixes))
        for name in self.folders(path):
            yield from self.files(posixpath.join(path, name), suffixes)

    def text(self, path: str) -> str:
        """A small UTF-8 file. Raises DatasetError."""
        try:
            return str(self.fs.cat_file(self.full(path)).decode("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self.full(path)} cannot be read: {error}") from None

    def child(self, name: str) -> Tree:
        """The folder `name` in this one."""
        return Tree(self.fs, posixpath.join(self.root, name))

    def parent(self) -> Tree | None:
        """The folder above, None at the top."""
        above = posixpath.dirname(self.root)
        return None if above in ("", self.root) else Tree(self.fs, above)
