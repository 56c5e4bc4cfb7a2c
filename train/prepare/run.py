"""Preparing a data set: what is to do, done by one process or by Ray, told of, and summed up."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from preprocessing.datasets import (
    DatasetIndex,
    Item,
    Tree,
    find_layout,
    index_dataset,
    split_by_groups,
    split_by_people,
    split_notes,
)
from preprocessing.errors import MediaError
from train.prepare.settings import PrepareError, PrepareSettings, versions
from train.prepare.storage import DiskFull, Store, locked, scratch_is_full

SHARD_VIDEOS = 8
"""Videos of a shard, at most: about 30 MB, and what a kill throws back at most, for each worker."""
SHARDS_A_WORKER = 4
"""At least, so that workers end at about the same time."""


@dataclass(frozen=True)
class Outcome:
    """What became of one video. `status`: done, no_face, no_run, too_short, failed or disk_full."""

    key: str
    path: str
    status: str
    samples: int = 0
    code: str = ""
    reason: str = ""


@dataclass
class Summary:
    """A run's report: `outcomes` of all finished videos and this run's failures, `failures` by cause."""

    videos: int
    already: int
    outcomes: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    videos_per_minute: float | None = None
    notes: list[str] = field(default_factory=list)


Progress = Callable[[int, int, Outcome], None]


class Worker:
    """Prepares shards: one a process or actor."""

    def __init__(self, root: str, out: str, settings: PrepareSettings) -> None:
        from train.prepare.extract import Extractor

        self.store = Store(out)
        self.extract = Extractor(Tree.open(root), settings)

    def shard(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Prepares the items and says what became of each; at the end writes those that could be read as one shard."""
        made = []
        for item in items:
            try:
                prepared = self.extract(item)
            except MediaError as error:
                yield Outcome(item.key, item.path, "failed", 0, error.code, str(error))
            except Exception as error:
                # One video must not end a run of a hundred thousand: it is reported as what it is, a fault.
                if scratch_is_full():
                    room = f"no space is left in {tempfile.gettempdir()}: make room, or set TMPDIR to another folder"
                    yield Outcome(item.key, item.path, "disk_full", 0, "disk_full", room)
                    return
                yield Outcome(item.key, item.path, "failed", 0, "unexpected", f"{type(error).__name__}: {error}")
            else:
                made.append(prepared)
                samples = len(prepared.record["samples"])
                yield Outcome(item.key, item.path, prepared.record["outcome"], samples)
        try:
            if made:
                self.store.save_shard(made)
        except DiskFull as error:
            yield Outcome(items[0].key, items[0].path, "disk_full", 0, "disk_full", str(error))


def index(name: str, root: str, settings: PrepareSettings) -> tuple[DatasetIndex, list[str]]:
    """The data set's items with their splits, and all that should be told of them. Raises DatasetError."""
    found = index_dataset(name, root, official=settings.split == "auto")
    items: Sequence[Item] = found.items
    if settings.split == "own" or (settings.split == "auto" and not find_layout(found.layout).official_split):
        items = split_by_groups(items, settings.seed)
    elif settings.split == "people":
        items = split_by_people(items, settings.seed)
    elif settings.split == "auto" and not any(item.split for item in items):
        items = split_by_groups(items, settings.seed)
    with_splits = DatasetIndex(found.layout, found.root, tuple(items), found.notes)
    return with_splits, [*found.notes, *split_notes(items)]


def choose(
    items: Sequence[Item], methods: Sequence[str] = (), compressions: Sequence[str] = (), limit: int | None = None
) -> list[Item]:
    """The items of these methods ("real" for the real ones) and compressions, at most `limit` of them, evenly."""
    for given, there in (
        (methods, {item.method or "real" for item in items}),
        (compressions, {item.compression for item in items}),
    ):
        if unknown := set(given) - there:
            raise PrepareError(
                f"the data set has no {', '.join(sorted(unknown))}: there are {', '.join(sorted(filter(None, there)))}"
            )
    chosen = [
        item
        for item in items
        if (not methods or (item.method or "real") in methods)
        and (not compressions or item.compression in compressions)
    ]
    if limit is not None and limit < len(chosen):
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    return chosen


def prepare(
    found: DatasetIndex,
    items: Sequence[Item],
    out: str,
    settings: PrepareSettings,
    *,
    local: bool = False,
    workers: int | None = None,
    address: str | None = None,
    shard_videos: int | None = None,
    notes: Sequence[str] = (),
    progress: Progress = lambda done, total, outcome: None,
) -> Summary:
    """Prepare what is not finished yet of `items` into the folder `out`; a killed run is continued by the same call.

    Runs on a Ray of its own with `workers` actors, on the cluster at `address`, or in this process (`local`). Root and
    out must be readable by all nodes of a cluster. Raises PrepareError.
    """
    store = Store(out)
    if (out.startswith("memory://") or found.root.startswith("memory://")) and not local:
        raise PrepareError("memory:// is seen by one process only: run it with --local")
    with locked(store):
        made_by = {"layout": found.layout, "root": found.root, "settings": settings.recorded(), "versions": versions()}
        store.claim(made_by)
        store.clean()
        finished = _finished(store, items)
        waiting = [item for item in items if item.key not in finished]
        summary = Summary(len(items), len(items) - len(waiting), notes=list(notes))
        if shard_videos is None:
            shard_videos = min(SHARD_VIDEOS, max(1, len(waiting) // (SHARDS_A_WORKER * (workers or cores()))))
        batches = [waiting[i : i + shard_videos] for i in range(0, len(waiting), shard_videos)]
        began = time.monotonic()
        failures: list[Outcome] = []
        try:
            if batches:
                _run(found.root, store, batches, settings, local, workers, address, failures, progress)
        finally:
            summary.seconds = round(time.monotonic() - began, 3)
            _sum_up(store, summary, items, failures)
        return summary


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finished(store: Store, items: Sequence[Item]) -> set[str]:
    """Keys of the finished videos. Raises PrepareError where the split has moved one of them since."""
    splits = {item.key: item.split for item in items}
    finished, moved = set(), 0
    for video in store.videos():
        finished.add(video["video"])
        moved += splits.get(video["video"], video["item"]["split"]) != video["item"]["split"]
    if moved:
        raise PrepareError(
            f"the split of {moved} finished videos of {store.url} is another one now, because the data set or its split"
            " files have changed since: choose another --out"
        )
    return finished


def _run(
    root: str,
    store: Store,
    batches: Sequence[Sequence[Item]],
    settings: PrepareSettings,
    local: bool,
    workers: int | None,
    address: str | None,
    failures: list[Outcome],
    progress: Progress,
) -> None:
    total = sum(len(batch) for batch in batches)
    if local:
        outcomes = _in_this_process(root, store, batches, settings)
    else:
        from train.prepare.cluster import on_ray

        outcomes = on_ray(root, store.url, batches, settings, workers, address)
    for done, outcome in enumerate(outcomes, 1):
        if outcome.status == "disk_full":
            raise DiskFull(outcome.reason)
        if outcome.status == "failed":
            failures.append(outcome)
        progress(done, total, outcome)


def _in_this_process(
    root: str, store: Store, batches: Sequence[Sequence[Item]], settings: PrepareSettings
) -> Iterator[Outcome]:
    worker = Worker(root, store.url, settings)
    for batch in batches:
        yield from worker.shard(batch)


def _sum_up(store: Store, summary: Summary, items: Sequence[Item], failures: Sequence[Outcome]) -> None:
    wanted = {item.key for item in items}
    outcomes: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for video in store.videos():
        if video["video"] not in wanted:
            continue
        outcomes[video["outcome"]] += 1
        item = video["item"]
        samples[f"{item['split'] or 'no split'} {'fake' if item['label'] else 'real'}"] += len(video["samples"])
    new = sum(outcomes.values()) - summary.already
    if failures:
        outcomes["failed"] = len(failures)
    summary.outcomes, summary.samples = dict(sorted(outcomes.items())), dict(sorted(samples.items()))
    summary.failures = dict(Counter(failure.code for failure in failures).most_common())
    if new > 0 and summary.seconds > 0:
        summary.videos_per_minute = round(60 * new / summary.seconds, 2)
    lines = [json.dumps(asdict(failure)) for failure in failures]
    report: dict[str, Any] = asdict(summary)
    try:
        store.write("failures.jsonl", "".join(f"{line}\n" for line in lines).encode())
        store.write("summary.json", (json.dumps(report, indent=1) + "\n").encode())
    except DiskFull:
        if new:  # the full disk is what the run reports already; a report of nothing new may be lost
            return
        raise
