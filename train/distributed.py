"""Any number of workers: Ray Train around the plain loop.

A checkpoint is a whole run folder (recipe.yaml, data.json, metrics.jsonl, last.pt, best.pt), so that a worker group
that lost a worker, another number of workers, or `python -m train --local --resume` goes on from it.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.checkpoint import room
from train.loop import EpochMetrics, Progress, train
from train.monitor import Monitor, keep
from train.prepare.cluster import connected, prepare_environment
from train.prepare.settings import PrepareError
from train.ranks import Ranks
from train.recipe import DataSplits, Recipe, RecipeError, build_data, create_detector

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""What Ray Train keeps of a run's checkpoints, in the run's folder."""
POLL_S = 0.5
GRACE_S = 20.0
"""For the other workers to end, and for Ray to keep the last checkpoint, once one has been refused."""
WAIT_S = 900.0
"""For a running cluster to get what it lacks: machines that an autoscaler orders are there in minutes."""


@dataclass(frozen=True)
class Workers:
    """How many train together and where.

    `most` above `least` lets Ray Train start, and go on after a loss, with any number between; every `resize_s` seconds
    it looks whether more have come, which go on from the last finished epoch. `address`: a running cluster's; None
    starts an own one on this machine.
    """

    least: int = 1
    most: int = 1
    gpu: bool = False
    address: str | None = None
    max_failures: int = 3
    resize_s: float = 60.0

    @classmethod
    def parse(cls, text: str) -> tuple[int, int]:
        """`4`, or `2-4`. Raises ValueError."""
        least, _, most = text.partition("-")
        found = int(least), int(most or least)
        if not 1 <= found[0] <= found[1]:
            raise ValueError(text)
        return found


class Storage:
    """The folder of a run on any file system that fsspec knows. Raises RecipeError where there is no such."""

    def __init__(self, url: str, name: str) -> None:
        from preprocessing.datasets.tree import file_system, is_local

        try:
            self.fs, parent = file_system(url)
            self.fs.makedirs(parent, exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise RecipeError(f"--storage-path {url} cannot be used: {error}") from None
        self.local = is_local(self.fs)
        self.parent, self.name = parent.rstrip("/"), name
        self.root = posixpath.join(self.parent, name)
        if self.fs.isfile(self.root):
            raise RecipeError(f"{self.url} is a file, not the folder of a run: name another with --out")

    @property
    def url(self) -> str:
        """As a person would give it."""
        return self.root if self.local else str(self.fs.unstrip_protocol(self.root))

    def holds(self, name: str) -> bool:
        """Whether the run's folder has that file."""
        return bool(self.fs.exists(posixpath.join(self.root, name)))

    def arrow(self) -> Any:
        """As Ray takes it; None for this machine's files."""
        import pyarrow.fs  # type: ignore[import-untyped]

        return None if self.local else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.fs))

    def put(self, folder: Path) -> None:
        """The run's files beside its checkpoints, where `python -m train.export` and `--local --resume` expect them.

        Each is there whole or not at all: the previous one stays until the new one is. Raises RecipeError.
        """
        try:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    self._put(path, posixpath.join(self.root, path.relative_to(folder).as_posix()))
        except OSError as error:
            raise RecipeError(
                f"{self.url} cannot be written ({error.strerror or error}); what was saved before is whole: see to it"
                " and continue with --resume"
            ) from error

    def _put(self, path: Path, target: str) -> None:
        part = f"{target}.part"
        self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
        try:
            self.fs.put_file(str(path), part)
            self.fs.mv(part, target)
        except BaseException:
            with suppress(OSError):
                self.fs.rm_file(part)
            raise


def on_ray(recipe: Recipe, data: Path | None, storage: Storage, workers: Workers, resume: bool) -> EpochMetrics:
    """Train on `workers` until the recipe's end; the best epoch. The run's folder is `storage`.

    A worker that dies is replaced, and all go on after the last finished epoch, `max_failures` times.

    Raises:
        RecipeError: what is wrong with recipe, data or cluster, or more failures than allowed.
        KeyboardInterrupt: Ctrl-C; the finished epochs are kept.
    """
    if not resume and (storage.holds(SNAPSHOT) or storage.holds("last.pt")):
        raise RecipeError(f"{storage.url} already holds a run: continue it with --resume, or name another folder")
    prepare_environment()
    try:
        import ray
        import ray.train
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise RecipeError(
            f"Ray Train is not installed ({error}): install unmask-forensics[serve], or use --local"
        ) from None
    address = workers.address
    each = 1 + recipe.workers
    local = Path(storage.root) if storage.local else Path(tempfile.mkdtemp(prefix="unmask-train-"))
    with _whatever_happened(lambda: _brought(storage, local)):
        try:
            with Monitor(recipe, local) as monitor, connected(ray, workers.most * each, address):
                _check(ray, workers, each, monitor)
                # On another node, which may be on spot or be scaled away, their loss would end the run.
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
                board = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
                loop = {
                    "recipe": recipe.model_dump(mode="json"),
                    "data": str(data.resolve()) if data else None,
                    "cwd": str(Path.cwd()),
                    "gpu": workers.gpu,
                    "kept": storage.url,
                    "board": board,
                    "start": ray.train.Checkpoint(storage.root, storage.arrow()) if storage.holds("last.pt") else None,
                }
                fit = ray.remote(_fit).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
                with _whatever_happened(lambda: _collect(storage)):
                    running = fit.remote(loop, workers, storage, each)
                    try:
                        found = _followed(ray, running, board, monitor, lambda: _lacking(ray, workers, each))
                    except KeyboardInterrupt:
                        ray.cancel(running, force=True)
                        raise
        except PrepareError as error:
            raise RecipeError(str(error)) from error
    if "refused" in found:
        raise RecipeError(found["refused"])
    return EpochMetrics(**found["best"])


@contextmanager
def _whatever_happened(last: Callable[[], None]) -> Iterator[None]:
    """`last` is done in the end; where something failed before, that is what is raised, and what `last` met is told."""
    try:
        yield
    except BaseException:
        try:
            last()
        except Exception as error:  # of whatever file system
            print(f"after that, too: {last_line(error)}", file=sys.stderr)
        raise
    last()


def _lacking(ray: Any, workers: Workers, each: int) -> str:
    """What the cluster has too little of; "" where it has enough."""
    there = ray.cluster_resources()
    wanted = {"CPU": workers.least * each, "GPU": workers.least if workers.gpu else 0}
    return ", ".join(
        f"{count} {kind} (now {there.get(kind, 0):g})" for kind, count in wanted.items() if there.get(kind, 0) < count
    )


def _check(ray: Any, workers: Workers, each: int, monitor: Monitor) -> None:
    lacking = _lacking(ray, workers, each)
    if workers.address is None and "GPU" in lacking:
        raise RecipeError(_too_few_gpus(workers, int(ray.cluster_resources().get("GPU", 0))))
    if lacking:
        monitor.say(f"waiting until the cluster has {lacking}, {WAIT_S / 60:.0f} minutes at most")


def check_gpus(workers: Workers) -> None:
    """Raises RecipeError where an own Ray on this machine could never have the GPUs that are asked for."""
    import torch

    if workers.gpu and workers.address is None and torch.cuda.device_count() < workers.least:
        raise RecipeError(_too_few_gpus(workers, torch.cuda.device_count()))


def _too_few_gpus(workers: Workers, there: int) -> str:
    return (
        f"{workers.least} workers want a GPU each and this machine has {there}: give fewer --workers, leave --gpu out,"
        " or name a cluster with --address"
    )


def _followed(ray: Any, running: Any, board: Any, monitor: Monitor, lacking: Callable[[], str] = str) -> dict[str, Any]:
    """What the run came to, its news shown meanwhile. Raises RecipeError, also where after WAIT_S something is still
    `lacking`."""
    done: list[Any] = []
    refused: dict[str, Any] = {}
    until, patience = float("inf"), time.monotonic() + WAIT_S
    while True:
        try:
            told = board.get_nowait_batch(board.qsize())
        except ray.exceptions.RayError as error:
            ray.cancel(running, force=True)
            raise RecipeError(f"Ray could not go on: {last_line(error)}; continue with --resume") from error
        for news in told:
            if "refused" in news:
                refused, until = dict(news), min(until, time.monotonic() + GRACE_S)
            elif "auc" in news:
                monitor.epoch(EpochMetrics(**news))
            else:
                monitor.progress(Progress(**news))
        if done:
            break
        if time.monotonic() > until:
            ray.cancel(running, force=True)
            return refused
        if time.monotonic() > patience:
            if missing := lacking():
                ray.cancel(running, force=True)
                raise RecipeError(
                    f"the cluster did not get {missing} within {WAIT_S / 60:.0f} minutes: start such machines, give"
                    " fewer --workers, or leave --gpu out"
                )
            patience = float("inf")
        done, _ = ray.wait([running], timeout=POLL_S)
    try:
        found: dict[str, Any] = ray.get(running)
    except ray.exceptions.RayError as error:
        raise RecipeError(f"Ray could not go on: {last_line(error)}") from error
    if found.get("early"):
        monitor.say(f"stopped early (patience {monitor.recipe.patience})")
    return refused or found


def _fit(loop: dict[str, Any], workers: Workers, storage: Storage, each: int) -> dict[str, Any]:
    """Runs as a task, so that the process that asked can show the news and be stopped."""
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    number = workers.least if workers.least == workers.most else (workers.least, workers.most)
    trainer = TorchTrainer(
        _worker,
        train_loop_config=loop,
        scaling_config=ScalingConfig(
            num_workers=number,
            use_gpu=workers.gpu,
            elastic_resize_monitor_interval_s=workers.resize_s,
            resources_per_worker={"CPU": each, **({"GPU": 1} if workers.gpu else {})},
        ),
        run_config=RunConfig(
            name=storage.name,
            storage_path=storage.parent,
            storage_filesystem=storage.arrow(),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            # The best by validation, and Ray keeps the last as well.
            checkpoint_config=CheckpointConfig(
                num_to_keep=1,
                checkpoint_score_attribute=loop["recipe"]["watch"],
                checkpoint_score_order="max" if loop["recipe"]["watch"] == "auc" else "min",
            ),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        found: dict[str, Any] = trainer.fit().return_value
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        what = "; ".join(f"worker {rank}: {last_line(one)}" for rank, one in sorted(failures.items()))
        return {"refused": f"training failed {workers.max_failures + 1} times, last: {what or last_line(error)}"}
    return found


def _worker(loop: dict[str, Any]) -> dict[str, Any]:
    """One rank, started by Ray Train in a torch process group."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    if Path(loop["cwd"]).is_dir():
        os.chdir(loop["cwd"])
    context = ray.train.get_context()
    first, board = context.get_world_rank() == 0, loop["board"]
    recipe = Recipe.model_validate(loop["recipe"])
    with tempfile.TemporaryDirectory(prefix="unmask-train-") as scratch:
        folder = Path(scratch)
        checkpoint = ray.train.get_checkpoint() or loop["start"]
        if checkpoint is not None:
            checkpoint.to_directory(folder)
        try:
            torch.manual_seed(recipe.seed)
            detector = create_detector(recipe)
            given = Path(loop["data"]) if loop["data"] else None
            splits = _in_turn(context.get_local_rank(), lambda: build_data(recipe, detector, given))

            def on_epoch(metrics: EpochMetrics) -> None:
                if first:
                    keep(recipe, splits.summary, folder)
                made = ray.train.Checkpoint.from_directory(folder) if first else None
                with room(loop["kept"]):  # a full disk stays full: the run is not started again for it
                    ray.train.report(asdict(metrics), checkpoint=made)
                if first:  # only what is kept is told; as plain values, so that the board need not import torch
                    board.put(asdict(metrics))

            result = train(
                detector,
                splits,
                recipe,
                folder,
                resume=True,
                device=str(get_device()),
                progress=_throttled(board.put),
                on_epoch=on_epoch,
            )
        except RecipeError as error:  # would come again after a restart: no failure to recover from
            # Where one alone is refused (memory, disk) the others wait for it: this news ends the run.
            board.put({"refused": str(error)})
            return {"refused": str(error)}
    return {"best": asdict(result.best), "early": result.early}


def _in_turn(local_rank: int, build: Callable[[], DataSplits]) -> DataSplits:
    """Building may pack faces into a file that all of a machine then share: its first rank goes first.

    Raises RecipeError on every rank where one cannot build, so that none waits for it.
    """
    ranks = Ranks.here("cpu")
    made: DataSplits | None = None
    for turn in (True, False):
        refused = None
        if (local_rank == 0) is turn:
            try:
                made = build()
            except RecipeError as error:
                refused = str(error)
        told = [message for message in ranks.gathered(refused) if message]
        if told:
            raise RecipeError(told[0])
    assert made is not None
    return made


def _throttled(put: Callable[[dict[str, Any]], None]) -> Callable[[Progress], None]:
    told = float("-inf")

    def progress(p: Progress) -> None:
        nonlocal told
        if p.step == p.steps or time.monotonic() - told >= POLL_S:
            told = time.monotonic()
            put(asdict(p))

    return progress


def _brought(storage: Storage, local: Path) -> None:
    """The curves, which were written on this machine, to where the run is kept. Raises RecipeError."""
    if not storage.local:
        try:
            storage.put(local)
        finally:
            shutil.rmtree(local, ignore_errors=True)


def _collect(storage: Storage) -> None:
    """The last checkpoint's files into the run's folder, however the run ended. Raises RecipeError."""
    if not storage.holds(SNAPSHOT):
        return
    from ray.train import Result

    last = Result.from_path(storage.root, storage_filesystem=storage.arrow()).checkpoint
    if last is not None:
        with last.as_directory() as folder:
            storage.put(Path(folder))


def last_line(error: BaseException) -> str:
    """What Ray's long messages end with, 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
