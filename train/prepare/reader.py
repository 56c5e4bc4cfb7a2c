"""A prepared set as training reads it: samples by number, no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.datasets.items import Item
from preprocessing.landmarks import to_81
from preprocessing.types import Image, Points
from train.prepare.settings import PrepareError
from train.prepare.storage import Store


@dataclass(frozen=True)
class Video:
    """A finished video of the set; `outcome` is done, no_face, no_run or too_short, `record` all that is known."""

    key: str
    item: Item
    outcome: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One face: `image` (H, W, 3) RGB, `landmarks` (68, 2) in pixels of the frame (NaN where none was found).

    `transform` (2, 3) takes the frame's pixels to the crop's. `mask` (H, W) 0..255, manipulated pixels, where the data
    set has one. `calibrated` (136,) int: LRNet's landmarks in its 400 x 400 square, where frames came in runs.
    """

    key: str
    video: Video
    frame: int
    time: float
    track: int
    run: int | None
    box: NDArray[np.float32]
    landmarks: Points
    landmarks_81: Points
    extrapolated: bool
    transform: NDArray[np.float64]
    quality: frozenset[str]
    image: Image
    mask: NDArray[np.uint8] | None
    calibrated: NDArray[np.int64] | None

    @property
    def label(self) -> int:
        """0 real, 1 fake."""
        return self.video.item.label

    def in_crop(self, points: Points) -> Points:
        """Points (N, 2) of the frame in pixels of the crop."""
        return np.asarray(points @ self.transform[:, :2].T + self.transform[:, 2], np.float32)


@dataclass
class PreparedSet:
    """The samples of a set, or of a selection of it: `len(data)`, `data[i]`, `data.labels`, `data.landmarks`.

    Reads the whole index when made (about 2 kB a sample), a crop when asked for it; may be shared by forked workers.
    """

    folder: str | Path
    made_by: dict[str, Any] = field(init=False)
    videos: list[Video] = field(init=False)
    _rows: list[tuple[int, dict[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        """Raises PrepareError where the folder is no prepared set, or one of another form."""
        self._store = Store(str(self.folder))
        self.made_by = self._store.made_by()
        self.videos, self._rows = [], []
        for record in self._store.videos():
            samples = record.pop("samples")
            item = Item.from_dict(record["item"])
            self._rows += [(len(self.videos), sample) for sample in samples]
            self.videos.append(Video(record["video"], item, record["outcome"], record))
        self._rows.sort(key=lambda row: row[1]["key"])
        self._points: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def video(self, index: int) -> Video:
        """The video of a sample, without reading its crop."""
        return self.videos[self._rows[index][0]]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) 0 real, 1 fake."""
        return np.array([self.videos[video].item.label for video, _ in self._rows], np.int64)

    @property
    def landmarks(self) -> Points:
        """(N, 68, 2) float32 in pixels of each sample's frame; NaN where none was found."""
        if self._points is None:
            self._points = np.full((len(self), 68, 2), np.nan, np.float32)
            for index, (_, sample) in enumerate(self._rows):
                if sample["landmarks"] is not None:
                    self._points[index] = sample["landmarks"]
        return self._points

    def select(
        self,
        *,
        split: str | None = None,
        label: int | None = None,
        method: str | None = None,
        dataset: str | None = None,
        compression: str | None = None,
        without: frozenset[str] = frozenset(),
        where: Callable[[Item], bool] | None = None,
    ) -> PreparedSet:
        """The samples with these values; `without`: quality flags that a sample must not have."""
        wanted = {"split": split, "label": label, "method": method, "dataset": dataset, "compression": compression}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        fits = [
            all(getattr(v.item, name) == value for name, value in wanted.items()) and (where is None or where(v.item))
            for v in self.videos
        ]
        chosen = object.__new__(PreparedSet)
        chosen.__dict__.update(self.__dict__)
        chosen._rows = [(v, s) for v, s in self._rows if fits[v] and not without & set(s["quality"])]
        chosen._points = None
        return chosen

    def __getitem__(self, index: int) -> Sample:
        number, row = self._rows[index]
        video = self.videos[number]
        points = np.full((68, 2), np.nan, np.float32)
        if row["landmarks"] is not None:
            points = np.array(row["landmarks"], np.float32)
        forehead = row.get("landmarks_81")
        files = row["files"]
        suffix = "png" if "png" in files else "jpg"
        return Sample(
            row["key"],
            video,
            row["frame"],
            row["time"],
            row["track"],
            row.get("run"),
            np.array(row["box"], np.float32),
            points,
            to_81(points[None])[0] if forehead is None else np.array(forehead, np.float32),
            forehead is None,
            np.array(row["transform"], np.float64),
            frozenset(row["quality"]),
            cv2.cvtColor(self._picture(video, files[suffix], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB),
            self._picture(video, files["mask.png"], cv2.IMREAD_GRAYSCALE) if "mask.png" in files else None,
            np.array(row["calibrated"]) if row.get("calibrated") is not None else None,
        )

    def _picture(self, video: Video, place: tuple[int, int], mode: int) -> NDArray[np.uint8]:
        shard = video.record["shard"]
        data = self._store.bytes_of(shard, *place)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if len(data) == place[1] else None
        if image is None:
            raise PrepareError(
                f"{self._store.url}/shards/{shard}.tar is damaged: delete it and its .jsonl, and run prepare again"
            )
        return np.asarray(image, np.uint8)
