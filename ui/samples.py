"""The bundled samples, labelled as what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "samples"
MEDIA = frozenset({".jpg", ".jpeg", ".png", ".webp", ".mp4"})


@dataclass(frozen=True)
class Sample:
    """`label` is what it is: real, fake, ... as labels.json says; `title` and `note` are for people."""

    path: Path
    title: str
    label: str
    note: str


def samples(folder: Path = FOLDER) -> list[Sample]:
    """The folder's media files with what labels.json, {file: {label, what, title?}}, says of them, in its order."""
    listed = folder / "labels.json"
    labels = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    found = []
    order = list(labels)
    for path in sorted(
        folder.glob("*"), key=lambda p: (order.index(p.name) if p.name in order else len(order), p.name)
    ):
        if path.suffix.lower() in MEDIA:
            said = labels.get(path.name, {})
            said = said if isinstance(said, dict) else {"label": str(said)}
            title = said.get("title", path.stem.replace("-", " ").capitalize())
            found.append(Sample(path, title, said.get("label", ""), said.get("what", "")))
    return found
