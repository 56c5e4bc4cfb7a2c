"""Makes the gallery of reference embeddings (detectors/gallery.py) from public-domain portraits.

    python -m train.gallery --data DATA [--sets civilservice_us-house,civilservice_us-senate] [NAME ...]

Takes portraits that were reserved from training, and of each a pseudo-fake of every family in turn. Kept are
principal components of the detectors' embeddings: no picture, and nothing that recognises a person.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from detectors.gallery import FILE, REAL, principal
from detectors.predict import predict
from detectors.store import WeightsError, available, load
from preprocessing.blending import Face, make, sample_rng
from preprocessing.blending.pseudofake import BlendError
from preprocessing.crops import face_input
from preprocessing.errors import MediaError
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import to_81
from preprocessing.types import Image, Points
from train.faces import FaceFinder
from train.packs import media_files
from train.recipe import RecipeError

SETS = "civilservice_us-house,civilservice_us-senate"
FAMILIES = (
    "sbi",
    "mouth",
    "resolution",
    "swap_triangles",
    "swap_lowres",
    "reenact_face",
    "rendered_face",
    "rendered_whole",
)
COMPONENTS = 16


@dataclass(frozen=True)
class Reference:
    """A portrait or a pseudo-fake of it, with its landmarks (81, 2)."""

    kind: str
    image: Image
    points: Points


def references(portraits: Sequence[tuple[Image, Points]], per_face: int = 2) -> Iterator[Reference]:
    """Each portrait and `per_face` pseudo-fakes of it, the families taking turns."""
    turn = 0
    for number, (image, points) in enumerate(portraits):
        yield Reference(REAL, image, points)
        other = Face(*portraits[(number + 1) % len(portraits)])
        for _ in range(per_face):
            family, turn = FAMILIES[turn % len(FAMILIES)], turn + 1
            try:
                yield Reference(family, make(family, image, points, sample_rng(0, 0, turn), other).fake, points)
            except BlendError as error:
                print(f"{family}: {error}", file=sys.stderr)


def portraits_of(root: Path, sets: Sequence[str], most: int, reserved: str = "01") -> list[tuple[Image, Points]]:
    """Reserved portraits of those sets. Raises RecipeError where there are fewer than two."""
    finder = FaceFinder()
    found: list[tuple[Image, Points]] = []
    for dataset, path in media_files(root):
        if (
            dataset not in sets
            or hashlib.sha256(path.read_bytes()).hexdigest()[0] not in reserved
            or len(found) == most
        ):
            continue
        try:
            faces = [one for one in finder(path, 1) if one is not None]
        except MediaError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        found += [(image, to_81(points[None])[0]) for image, points in faces]
    if len(found) < 2:
        raise RecipeError(f"{root} has no reserved portraits of {', '.join(sets)}: name sets of its own by --sets")
    return found


def embeddings(name: str, given: Sequence[Reference]) -> tuple[str, NDArray[np.float32]]:
    """First digits of the weights' sha256, and (N, D). Raises WeightsError, RecipeError for one without embeddings."""
    loaded = load(name)
    spec = loaded.detector.input
    if not isinstance(spec, FaceInput):
        raise RecipeError(f"{name} takes no single faces")
    crops = np.stack([face_input(one.image, (0, 0), one.points[:68], spec) for one in given])
    found = predict(loaded, crops).embeddings
    if found is None:
        raise RecipeError(f"{name} has no embedding")
    return loaded.card.sha256[:12], found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 after a message."""
    parser = argparse.ArgumentParser(prog="python -m train.gallery", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="detectors; default: all of pictures that have weights"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", default=SETS, help=f"default {SETS}")
    parser.add_argument("--most", type=int, default=64, help="portraits; default 64")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(arguments)
    try:
        shown = list(references(portraits_of(given.data, given.sets.split(","), given.most)))
        tensors: dict[str, NDArray[np.float16]] = {}
        about = {}
        for name in given.names or sorted(available()):
            try:
                weights, vectors = embeddings(name, shown)
            except RecipeError as error:
                if given.names:
                    raise
                print(f"left out: {error}", file=sys.stderr)
                continue
            mean, axes = principal(vectors, COMPONENTS)
            places = np.asarray((vectors - mean) @ axes.T, np.float32)
            parts: dict[str, NDArray[np.float32]] = {"points": places, "mean": mean, "axes": axes}
            tensors |= {f"{name}.{part}": value.astype(np.float16) for part, value in parts.items()}
            about[name] = {"weights": weights, "kinds": [one.kind for one in shown]}
    except (RecipeError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2
    save_file(tensors, str(given.out), {"galleries": json.dumps(about)})
    given.out.chmod(0o644)
    print(f"{given.out.name}: {len(about)} detectors, {len(shown)} references, {given.out.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
