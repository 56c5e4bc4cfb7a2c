"""`unmask synth`: pseudo-fakes of the faces in pictures and videos, with masks, X-rays, contact sheet and index."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from preprocessing.errors import MediaMissing
from ui.errors import UsageError
from ui.synth_work import FOLDERS, Outcome, Work

MAX_COUNT = 1000
"""Fakes of one call: their faces are held in memory, at most 0.8 MB each."""


def methods() -> dict[str, str]:
    """Every method with what it does, in a few words."""
    from preprocessing.blending import families
    from preprocessing.blending.clips import CLIP_FAMILIES
    from preprocessing.blending.swap_families import FAMILIES

    image = dict.fromkeys(families(), "a pseudo-fake of a still face")
    clips = {name: f"{part} blended in each frame, {jitter}" for name, (part, jitter) in CLIP_FAMILIES.items()}
    return image | clips | {name: family.what for name, family in FAMILIES.items()}


def check_method(name: str) -> None:
    """Raises UsageError with the nearest name."""
    known = methods()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"--method: no method {name!r}", f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        )


def inputs_of(source: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder (its subfolders too), or the file itself; and what to tell.

    Raises MediaMissing where there is nothing.
    """
    from ui.scan import expand

    if not source.exists():
        raise MediaMissing("no such file or folder", "check the path")
    files, notes = expand([source], recursive=True)
    if not files:
        raise MediaMissing("no pictures or videos in this folder", "unmask makes fakes from files such as .jpg or .mp4")
    return files, notes


def run(
    source: Path,
    method: str,
    out: Path,
    *,
    count: int | None = None,
    seed: int = 0,
    donor: Path | None = None,
    debug: bool = False,
) -> Outcome:
    """Make the fakes and write fakes/, reals/, masks/, xrays/, contact.jpg and index.jsonl into the folder `out`.

    `count` fakes in all, in turn over the faces (default: one for each picture; of a video, one of the whole or, by a
    method of pictures, one for each of 8 frames; at most DEFAULT_COUNT). `donor`: whose face swaps show; without it
    another input's. An input that fails costs its own fakes only. Raises UsageError or MediaMissing.
    """
    from preprocessing.blending import families
    from preprocessing.blending.swap_families import FAMILIES

    check_method(method)
    if count is not None and not 1 <= count <= MAX_COUNT:
        raise UsageError(f"--count {count}: it takes 1 to {MAX_COUNT}")
    outcome = Outcome()
    files, outcome.notes = inputs_of(source)
    _make_folder(out)
    with _progress() as told:
        work = Work(method, out, count, seed, outcome, told, debug)
        try:
            if method in families() and method not in FAMILIES:
                work.pictures(files)
            else:
                work.clips(files, donor)
            work.finish()
        except OSError as error:
            raise UsageError(f"--out: {out} cannot be written: {error.strerror or error}") from None
    return outcome


def _make_folder(out: Path) -> None:
    try:
        if out.is_dir() and any(out.iterdir()):
            raise UsageError(f"--out: {out} is not empty", "name a new folder")
        for name in FOLDERS:
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: {out} cannot be written: {error.strerror or error}") from None


class _progress:
    """A bar on stderr where that is a terminal: called with what is done, how many are, of how many."""

    def __enter__(self) -> Callable[[str, int, int], None]:
        from rich.markup import escape

        from ui.words import printable

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(32), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bar.start()
        task = self._bar.add_task("", total=None)

        def told(what: str, done: int, total: int) -> None:
            self._bar.update(task, description=escape(printable(what)[:60]), completed=done, total=total)

        return told

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def report(outcome: Outcome, out: Path) -> None:
    """What was made, and on stderr what failed by cause."""
    from ui.words import printable

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in outcome.notes:
        errors.print(printable(note), markup=False)
    for cause, names in outcome.failures.items():
        listed = ", ".join(printable(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
        errors.print(f"{len(names)} failed: {printable(cause)}: {listed}", markup=False)
    made = len(outcome.rows)
    if made:
        Console(highlight=False, soft_wrap=True).print(
            f"{made} {'fake' if made == 1 else 'fakes'} in {out}: fakes, reals, masks, xrays, index.jsonl, contact.jpg",
            markup=False,
        )
    else:
        errors.print("no fake was made", markup=False)
