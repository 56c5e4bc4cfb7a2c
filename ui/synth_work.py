"""The work of `unmask synth`: faces loaded, fakes made of them one after another, files written."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.blending import BlendError, PartnerIndex, make, sample_rng
from preprocessing.blending import Face as Partner
from preprocessing.blending.clips import FaceClip
from preprocessing.blending.masks import Mask
from preprocessing.blending.registry import generator
from preprocessing.blending.swap_families import FAMILIES
from preprocessing.blending.swap_video import MAX_FRAMES, TrackedFace, fake_clip, load_face, write_fake_video
from preprocessing.blending.targets import face_xray
from preprocessing.errors import MediaError
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.types import Image
from ui.contact_sheet import ContactSheet
from ui.errors import describe
from ui.synth_faces import MARGIN, Face, shape_gap, still_faces, thinned, write_png

FOLDERS = ("fakes", "reals", "masks", "xrays")
DEFAULT_COUNT = 64
READ_FRAMES = 64
POOL = 32
"""Faces among which a partner is looked for, where there are as many."""


@dataclass
class Outcome:
    """What was made, and what failed by its cause."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)


class Work:
    """One call: loads faces, makes fakes of them, writes what comes out."""

    def __init__(
        self,
        method: str,
        out: Path,
        count: int | None,
        seed: int,
        outcome: Outcome,
        told: Callable[[str, int, int], None],
        debug: bool,
    ) -> None:
        self.method, self.out, self.count, self.seed = method, out, count, seed
        self.outcome, self.told, self.debug = outcome, told, debug
        self.predictor = create_landmark_predictor()
        self.sheet: ContactSheet = ContactSheet(f"{method}, seed {seed}")

    def sampled(self, files: Sequence[Path]) -> list[Path]:
        """All inputs, or an even sample where there are more than are needed."""
        wanted = max(self.count or DEFAULT_COUNT, POOL)
        if len(files) <= wanted:
            return list(files)
        self.outcome.notes.append(f"took {wanted} of {len(files)} inputs, evenly; a larger --count takes more")
        return [files[index] for index in _in_turn(len(files), wanted)]

    def load(self, path: Path, done: int, total: int, frames: int) -> TrackedFace | None:
        """The face of an input; None where there is none, which is told at the end."""
        self.told(f"finding the face in {path.name}", done, total)
        found: TrackedFace | None = self.tried(
            str(path), partial(load_face, path, predictor=self.predictor, frames=frames)
        )
        return found

    def tried(self, name: str, work: Callable[[], Any]) -> Any:
        """The work's result; None where it failed, which is told at the end."""
        try:
            return work()
        except (MediaError, BlendError, ValueError) as error:
            self.outcome.failures[str(error)].append(name)
        except Exception as error:
            if self.debug:
                raise
            self.outcome.failures[f"unexpected {describe(error)}; please report it (--debug)"].append(name)
        return None

    def pictures(self, inputs: Sequence[Path]) -> None:
        """Fakes of still faces: image families."""
        files = self.sampled(inputs)
        faces: list[Face] = []
        for number, path in enumerate(files):
            tracked = self.load(path, number, len(files), READ_FRAMES)
            faces += [] if tracked is None else still_faces(path, tracked)
        total = (self.count or min(len(faces), DEFAULT_COUNT)) if faces else 0
        partners: PartnerIndex | None = None
        if generator(self.method).needs_partner and faces:
            if len({face.path for face in faces}) < 2:
                reason = f"{self.method} blends two people, and there is a face in one input only"
                self.outcome.failures[f"{reason}; give a folder with several"] += [str(face.path) for face in faces[:1]]
                return
            partners = PartnerIndex(
                np.stack([face.framed() for face in faces]),
                [str(face.path) for face in faces],
                keep=max(len(faces) // 5, 3),
            )
        for index, which in enumerate(_in_turn(len(faces), total)):
            face = faces[which]
            self.told(f"{self.method}: {face.path.name}", index, total)
            rng = sample_rng(self.seed, 0, index)
            other = faces[partners.draw(which, rng)] if partners is not None else None
            partner = Partner(*other.in_framing_of(face)) if other is not None else None
            fake = self.tried(face.name, partial(make, self.method, face.image, face.points, rng, partner))
            if fake is None:
                continue
            name = f"{index:05d}_{_stem(face.path)}"
            self._write(name, fake.real, fake.fake, fake.mask)
            self.sheet.add(fake.real, fake.fake, fake.mask, face.path.name)
            parameters = {"ratio": fake.ratio, "redraws": fake.redraws, "margin": MARGIN}
            given = {"partner": other.origin()} if other is not None else {}
            self._row(name, ".png", face.origin(), fake.family, index, parameters, given)

    def clips(self, inputs: Sequence[Path], donor: Path | None) -> None:
        """Clip families, swaps and reenactments: whole videos of videos, crops of pictures; one input at a time."""
        files = self.sampled(inputs)
        swaps = self.method in FAMILIES and FAMILIES[self.method].source == "donor"
        donors: list[tuple[Path, TrackedFace]] = []
        if swaps:
            givers = [donor] if donor is not None else files
            for number, path in enumerate(givers):
                found = self.load(path, number, len(givers), READ_FRAMES)
                donors += [] if found is None else [(path, thinned(found))]
            # A file without a face is told of once.
            files = files if donor is not None else [path for path, _ in donors]
        total = self.count or min(len(files), DEFAULT_COUNT)
        turns = _in_turn(len(files), total) if files else []
        for which in sorted(set(turns)):
            path = files[which]
            tracked = self.load(path, turns.index(which), total, MAX_FRAMES)
            if tracked is None:
                continue
            if not tracked.complete:
                length = len(tracked.clip)
                self.outcome.notes.append(f"{path.name}: its first {length} frames with a face were taken")
            others = [one for one in donors if one[0] != path or donor is not None]
            if swaps and not others:
                reason = f"{self.method} shows another person's face, and there is none"
                self.outcome.failures[f"{reason}; give a folder with several, or --donor"].append(str(path))
                continue
            for index in [turn for turn, face in enumerate(turns) if face == which]:
                self.told(f"{self.method}: {path.name}", index, total)
                self._clip(index, path, tracked, others)
        self.outcome.rows.sort(key=lambda row: int(row["index"]))

    def _clip(self, index: int, path: Path, tracked: TrackedFace, others: list[tuple[Path, TrackedFace]]) -> None:
        rng = sample_rng(self.seed, 0, index)
        other = self._donor(tracked, others, rng)
        name = f"{index:05d}_{_stem(path)}"
        make = self._video if tracked.info.kind == "video" else self._still
        donor = other[1].clip if other is not None else None
        made = self.tried(str(path), partial(make, name, path, tracked, rng, donor))
        if made is None:
            return
        suffix, parameters = made
        origin = {"source": str(path), "sha256": tracked.info.sha256, "frame": None}
        partner = {"source": str(other[0]), "sha256": other[1].info.sha256, "frame": None} if other else None
        self._row(name, suffix, origin, self.method, index, parameters, {"partner": partner} if partner else {})

    def _donor(
        self, tracked: TrackedFace, others: Sequence[tuple[Path, TrackedFace]], rng: np.random.Generator
    ) -> tuple[Path, TrackedFace] | None:
        """One of the third whose landmarks fit best: a profile makes no frontal face."""
        if not others:  # the method shows nobody else
            return None
        gaps = [shape_gap(one, tracked) for _, one in others]
        nearest = np.argsort(gaps, kind="stable")[: max(len(others) // 3, 1)]
        return others[int(rng.choice(nearest))]

    def _video(
        self, name: str, path: Path, tracked: TrackedFace, rng: np.random.Generator, donor: FaceClip | None
    ) -> tuple[str, dict[str, Any]]:
        places = {folder: self.out / folder / f"{name}.mp4" for folder in ("fakes", "masks", "xrays", "reals")}
        shown = {len(tracked.clip) // 4, len(tracked.clip) // 2, 3 * len(tracked.clip) // 4}
        fake = write_fake_video(
            path,
            places["fakes"],
            self.method,
            rng,
            target=tracked,
            donor=donor,
            masks=places["masks"],
            xrays=places["xrays"],
            reals=places["reals"],
        )
        for index in sorted(shown):
            image, mask = fake.frame(index)
            self.sheet.add(tracked.clip.frames[index], image, mask, f"{path.name} {int(tracked.frames[index])}")
        span = {"first_frame": int(tracked.frames[0]), "frames": len(tracked.clip)}
        return ".mp4", span | fake.parameters

    def _still(
        self, name: str, path: Path, tracked: TrackedFace, rng: np.random.Generator, donor: FaceClip | None
    ) -> tuple[str, dict[str, Any]]:
        face = next(still_faces(path, tracked))
        fake = fake_clip(self.method, FaceClip([face.image], face.points[None]), rng, donor)
        image, mask = fake.frames[0], fake.masks[0]
        self._write(name, face.image, image, mask)
        self.sheet.add(face.image, image, mask, path.name)
        return ".png", {"margin": MARGIN} | fake.parameters

    def _write(self, name: str, real: Image, fake: Image, mask: Mask) -> None:
        for folder, picture in (("fakes", fake), ("reals", real), ("masks", mask), ("xrays", face_xray(mask))):
            write_png(self.out / folder / f"{name}.png", picture)

    def _row(
        self,
        name: str,
        suffix: str,
        origin: dict[str, Any],
        family: str,
        index: int,
        parameters: dict[str, Any],
        more: dict[str, Any],
    ) -> None:
        parts = (("fake", "fakes"), ("real", "reals"), ("mask", "masks"), ("xray", "xrays"))
        files = {part: f"{folder}/{name}{suffix}" for part, folder in parts}
        drawn = {"method": self.method, "family": family, "seed": self.seed, "index": index, "parameters": parameters}
        self.outcome.rows.append(files | origin | drawn | more)

    def finish(self) -> None:
        """The index and the contact sheet; where nothing was made, the folder is left as it was: empty."""
        if not self.outcome.rows:
            for folder in FOLDERS:
                if not any((self.out / folder).iterdir()):
                    (self.out / folder).rmdir()
            return
        lines = "".join(json.dumps(row) + "\n" for row in self.outcome.rows)
        (self.out / "index.jsonl").write_text(lines, encoding="utf-8")
        self.sheet.save(self.out / "contact.jpg")


def _in_turn(there: int, wanted: int) -> list[int]:
    """Which of `there` faces the `wanted` fakes show: an even sample of them, or all again and again."""
    if wanted < there:
        return [int(index) for index in np.linspace(0, there - 1, wanted).round()]
    return [index % there for index in range(wanted)]


def _stem(path: Path) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in path.stem)
    return kept[:60] or "face"
