"""One labelled video, picture or folder of frames of a data set, and what an index of them says."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

REAL, FAKE = 0, 1
SPLITS = ("train", "val", "test")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class DatasetError(ValueError):
    """A folder that cannot be read as the data set: `reason` names what is wrong and where, `hint` the way out."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Item:
    """One unit of work and of labelling: `path` (relative to the root, "/" between folders) has one `label`.

    `kind` "media" is a video or a picture, "frames" a folder of numbered pictures. `cropped`: the pictures are faces
    already. `identities`: every person seen or lent to it, as far as the data set tells, prefixed by the data set.
    `source`: path of the real video that was manipulated ("" where unknown; for a real one its own). `mask`: path of
    the video of manipulated pixels. `split` is train, val, test or "" (none).
    """

    path: str
    label: int
    dataset: str
    method: str = ""
    compression: str = ""
    split: str = ""
    identities: tuple[str, ...] = ()
    source: str = ""
    mask: str = ""
    kind: Literal["media", "frames"] = "media"
    cropped: bool = False

    @property
    def key(self) -> str:
        """A name of letters, digits, - and _ that no other path of the root has."""
        readable = re.sub(r"[^A-Za-z0-9-]+", "_", self.path.rsplit(".", 1)[0])[-48:].strip("_")
        return f"{readable}-{hashlib.sha256(self.path.encode()).hexdigest()[:10]}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "identities": list(self.identities)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Item:
        """The inverse of `as_dict`."""
        return cls(**{**values, "identities": tuple(values["identities"])})


@dataclass(frozen=True)
class DatasetIndex:
    """What was found under `root`: `items` sorted by path, and `notes`, sentences on what is missing or odd."""

    layout: str
    root: str
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Items by data set, method (or real), compression and split."""
        names = (
            " ".join(filter(None, (i.dataset, i.method or ("fake" if i.label else "real"), i.compression, i.split)))
            for i in self.items
        )
        return dict(sorted(Counter(names).items()))


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first few of many names, for a message."""
    listed = sorted(names)
    rest = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + rest


def mostly(names: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Whether more than half of the names match entirely."""
    return bool(names) and sum(pattern.fullmatch(name) is not None for name in names) * 2 > len(names)
