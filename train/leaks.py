"""Leaks: a person, a video or a picture that two splits share, so that a figure on one repeats what the other taught.

`python -m train.leaks A [B] [--json F] [--allow-leaks]` compares two of: a pack of faces or clips, a prepared set, a
folder or manifest of media. A alone is compared within: a pack's split, the splits of a prepared set or a manifest.
Training does the same when it starts. Near-duplicates are found by train/fingerprints.py; mirror images are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from train.fingerprints import NEAR, Fingerprints, joined, near_pairs
from train.leak_sides import as_item, of_faces, of_items, sides_of, whole
from train.recipe import RecipeError

if TYPE_CHECKING:
    from train.clip_pack import ClipPack
    from train.faces import FacePack
    from train.labelled import Item as Labelled

ALLOW = "train although training and validation share people, videos or pictures; the run's data.json says so"
SHOWN = 5
"""Leaks that a message lists."""

Kind = Literal["identity", "source", "near-duplicate"]


@dataclass(frozen=True)
class Leak:
    """One thing that two sides share: `what` (the person, the file's sha256 or path, or "N of 255 bits apart"), a file
    of each side that shows it, and how many faces or pairs of faces do."""

    kind: Kind
    sides: tuple[str, str]
    what: str
    files: tuple[str, str]
    count: int

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: {self.files[0]} ({self.sides[0]}) and {self.files[1]} ({self.sides[1]})"


@dataclass(frozen=True)
class Report:
    """What was compared (`faces` by side) and what was found; `allowed`: it stops nothing."""

    faces: dict[str, int]
    leaks: list[Leak]
    allowed: bool = False

    def __str__(self) -> str:
        sides = " and ".join(f"{name} ({count} faces)" for name, count in self.faces.items())
        if not self.leaks:
            return f"{sides} share no person, video or picture"
        listed = "; ".join(map(str, self.leaks[:SHOWN]))
        rest = f"; and {len(self.leaks) - SHOWN} more" if len(self.leaks) > SHOWN else ""
        return f"{len(self.leaks)} leaks between {sides}: {listed}{rest}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"faces": self.faces, "allowed": self.allowed, "leaks": [asdict(leak) for leak in self.leaks]}

    def summary(self) -> dict[str, Any]:
        """For the summary of a run's data: nothing where nothing leaks."""
        return (
            {"leaks": {"allowed": len(self.leaks), "first": list(map(str, self.leaks[:SHOWN]))}} if self.leaks else {}
        )


class LeakError(RecipeError):
    """Splits that share something; `report` has it all."""

    def __init__(self, report: Report, way_out: str) -> None:
        super().__init__(f"{report}. {way_out}")
        self.report = report


def find(one: Fingerprints, other: Fingerprints, limit: int = NEAR) -> list[Leak]:
    """What two sides share: people first, then videos and files, then pictures that differ by at most `limit` bits."""
    sides = (one.name, other.name)
    found: list[Leak] = []
    for kind, columns in (("identity", ("people",)), ("source", ("source", "sha256"))):
        for column in columns:
            ours, theirs = _places(getattr(one, column)), _places(getattr(other, column))
            for what in sorted(ours.keys() & theirs.keys()):
                rows, others = ours[what], theirs[what]
                files = (str(one.file[rows[0]]), str(other.file[others[0]]))
                found.append(Leak(kind, sides, what, files, len(rows) + len(others)))  # type: ignore[arg-type]
    pairs: dict[tuple[str, str], list[int]] = {}
    for row, place, bits in zip(
        *(column.tolist() for column in near_pairs(one.hashes, other.hashes, limit)), strict=True
    ):
        pairs.setdefault((str(one.file[row]), str(other.file[place])), []).append(bits)
    for files, distances in pairs.items():
        found.append(Leak("near-duplicate", sides, f"{distances[0]} of 255 bits apart", files, len(distances)))
    return found


def _places(column: NDArray[np.str_]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, text in enumerate(column.tolist()):
        for one in filter(None, text.split(";")):
            found.setdefault(one, []).append(row)
    return found


WAY_OUT = (
    "Split by people (unmask prepare --split people), or say --allow-leaks (data.settings.allow_leaks=true) and call"
    " the figures optimistic"
)


def check(*sides: Fingerprints, allow: bool = False, limit: int = NEAR, way_out: str = WAY_OUT) -> Report:
    """Compares each side with each other one. Raises LeakError where they share anything, unless `allow`."""
    found = [leak for one, other in combinations(sides, 2) for leak in find(one, other, limit)]
    report = Report({side.name: len(side) for side in sides}, found, allow and bool(found))
    if found and not allow:
        raise LeakError(report, way_out)
    return report


def check_rows(faces: Fingerprints, train: NDArray[np.int64], validation: NDArray[np.int64], allow: bool) -> Report:
    """`check` of a pack's rows to train on and rows to validate on."""
    way_out = (
        "Pack anew, or `python -m train.leaks PACK --join`: what shows the same picture then counts as one source and"
        " stays on one side; or say --allow-leaks (data.settings.allow_leaks=true)"
    )
    return check(faces.select(train, "train"), faces.select(validation, "validation"), allow=allow, way_out=way_out)


def between(one: Path, other: Path, allow: bool = False, split: str | None = None) -> Report:
    """`check` of all that is in one place, or the `split` of it, against all that is in another.

    An evaluation set against what was trained on. Raises LeakError, unless `allow`; RecipeError.
    """
    sides = [whole(sides_of(place, split=wanted), str(place)) for place, wanted in ((one, split), (other, None))]
    return check(*sides, allow=allow, way_out="Leave what is shared out of one of them, or say --allow-leaks")


def of_evaluation(items: Sequence[Labelled], trained_on: Path, allow: bool = False) -> Report:
    """`check` of the files of an evaluation against what was trained on. Raises as `between`."""
    root = Path.cwd()
    tested = whole(of_items("evaluated", root, [as_item(one, root) for one in items]), "evaluated")
    trained = whole(sides_of(trained_on), str(trained_on))
    return check(
        tested, trained, allow=allow, way_out="Leave what is shared out (--without, --split), or --allow-leaks"
    )


def join(path: Path) -> int:
    """Give the sources of a pack that show the same picture one name, in place; how many changed."""
    from train.clip_pack import ClipPack, with_joined_sources
    from train.faces import FacePack

    pack: FacePack | ClipPack
    if ClipPack.is_in(path):
        pack = ClipPack.load(path)
        changed: FacePack | ClipPack = with_joined_sources(pack)
    else:
        pack = FacePack.load(path)
        changed = replace(pack, source=joined(pack.source, of_faces(pack, path).hashes))
    count = len(np.unique(pack.source[pack.source != changed.source]))
    if count:
        changed.save(path)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 nothing is shared, or it is allowed; 1 something is; 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m train.leaks", description="What splits or data sets share.")
    parser.add_argument("places", nargs="+", type=Path, metavar="PLACE", help="a pack, prepared set, folder, manifest")
    parser.add_argument("--json", metavar="FILE|-", help="write all that was found")
    parser.add_argument("--allow-leaks", action="store_true", help="exit 0 all the same; the report says so")
    parser.add_argument("--split", help="of the first place, only this split")
    parser.add_argument("--seed", type=int, default=1, help="a pack's split: the recipe's seed (default 1)")
    parser.add_argument("--held-out", type=float, default=0.1, help="a pack's split: the recipe's share (default 0.1)")
    parser.add_argument("--join", action="store_true", help="in a pack, one source for what shows one picture")
    given = parser.parse_args(arguments)
    if len(given.places) > 2 or (given.join and len(given.places) > 1):
        parser.error("give one place, or two to compare; --join takes one pack")
    try:
        if given.join:
            print(f"{given.places[0]}: {join(given.places[0])} sources show a picture of another one and count as that")
            return 0
        if len(given.places) == 2:
            report = between(given.places[0], given.places[1], allow=True, split=given.split)
        else:
            report = check(*sides_of(given.places[0], given.seed, given.held_out, given.split), allow=True)
        report = replace(report, allowed=given.allow_leaks and bool(report.leaks))
        if given.json and given.json != "-":
            Path(given.json).write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    except (RecipeError, OSError) as error:
        print(f"python -m train.leaks: {error}", file=sys.stderr)
        return 2
    if given.json == "-":
        json.dump(report.as_dict(), sys.stdout, indent=1)
        print()
    else:
        print(f"{report}{' (allowed)' if report.allowed else ''}")
    return 1 if report.leaks and not report.allowed else 0


if __name__ == "__main__":
    raise SystemExit(main())
