"""Where a run's figures go while it runs: the terminal, TensorBoard's files, and MLflow where one is set."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from train.checkpoint import writable, write
from train.loop import EpochMetrics, Progress
from train.recipe import Recipe, RecipeError

LINE_S = 10.0
"""Between two lines of progress where the output is no terminal."""
CURVE_S = 1.0
"""Between two points of the curves within an epoch."""


class Monitor:
    """Tells of a run; `folder` (None: nowhere) gets `tensorboard/`. A context: leaving it closes what it opened.

    MLflow is used where MLFLOW_TRACKING_URI is set. Raises RecipeError where it is set and mlflow is not installed.
    """

    def __init__(self, recipe: Recipe, folder: Path | None) -> None:
        from rich.console import Console

        self.recipe, self.folder = recipe, folder
        self.console = Console(stderr=True, highlight=False)
        self._told = self._drawn = float("-inf")
        self._seen: set[int] = set()
        self._writer: Any = None
        self._mlflow = _mlflow(recipe)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._mlflow is not None:
            self._mlflow.end_run("FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED")

    def say(self, line: str) -> None:
        """A line for the person who waits."""
        self.console.print(line, markup=False, soft_wrap=True)

    def progress(self, p: Progress) -> None:
        """Within an epoch: loss, rate and time left."""
        now, last = time.monotonic(), p.step == p.steps
        terminal = self.console.is_terminal
        if terminal or last or now - self._told >= LINE_S:
            self._told = now
            at = f"epoch {p.epoch}/{p.epochs} step {p.step}/{p.steps} loss {p.loss:.4f}"
            rest = f"{p.rate:.0f} samples/s, {span(p.left_s)} left"
            self.console.print(f"{at} {rest}", end="\r" if terminal else "\n")
        if last or now - self._drawn >= CURVE_S:
            self._drawn = now
            # Two groups: TensorBoard opens the first two, and leaves the others closed.
            told = {"train/loss_in_epoch": p.loss, "train/samples_per_s": p.rate}
            self._draw(told, (p.epoch - 1) * p.steps + p.step)

    def epoch(self, m: EpochMetrics) -> None:
        """At the end of an epoch; one told again, by a run that went back to its last checkpoint, counts once."""
        if m.epoch in self._seen:
            return
        self._seen.add(m.epoch)
        losses = f"training loss {m.train_loss:.4f}, validation loss {m.val_loss:.4f}, AUC {m.auc:.4f}"
        self.say(f"epoch {m.epoch + 1}: {losses} ({span(m.seconds)}, training waited {m.wait:.0%} for data)")
        values = {"train/loss": m.train_loss, "validation/loss": m.val_loss, "validation/auc": m.auc, "train/lr": m.lr}
        self._draw({**values, "train/wait": m.wait, "train/epoch": float(m.epoch + 1)}, m.step)

    def _draw(self, values: dict[str, float], step: int) -> None:
        if self.folder is not None:
            with writable(self.folder):
                if self._writer is None:
                    self._writer = Curves(self.folder / "tensorboard", step)
                self._writer.add(values, step)
        if self._mlflow is not None:
            try:
                self._mlflow.log_metrics(values, step=step)
            except Exception as error:  # whatever its client and the way there raise: hours of training outlive it
                self.say(f"MLflow takes no more figures ({type(error).__name__}: {str(error)[:200]}); training goes on")
                self._mlflow = None


class Curves:
    """TensorBoard's file of a run, written in this thread: tensorboardX's own writer hands all to another by a queue,
    which a Ctrl-C at the wrong moment leaves so that its end is waited for without end.

    From `step` on what an earlier, killed run wrote is dropped by TensorBoard. Raises RecipeError without tensorboardX.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]
            from tensorboardX.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]
        except ImportError:
            raise RecipeError(
                "tensorboardX, which writes TensorBoard's files, is missing: pip install tensorboardX"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self._write(step, session_log=SessionLog(status=SessionLog.START))

    def add(self, values: dict[str, float], step: int) -> None:
        """On the disk when it returns."""
        from tensorboardX.summary import scalar  # type: ignore[import-untyped]

        for name, value in values.items():
            self._write(step, summary=scalar(name, value))
        self._file.flush()

    def close(self) -> None:
        """What was added stays."""
        self._file.close()

    def _write(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write_event(Event(wall_time=time.time(), step=step, **what))


def keep(recipe: Recipe, summary: dict[str, Any], folder: Path) -> None:
    """recipe.yaml and data.json: what the weights in `folder` come from.

    Written with the first checkpoint, so that a folder which a run is refused keeps what it holds. Raises RecipeError
    where the disk is full or the folder cannot be written.
    """
    write(as_yaml(recipe), folder / "recipe.yaml")
    write(json.dumps(summary, indent=1, default=str) + "\n", folder / "data.json")


def as_yaml(recipe: Recipe) -> str:
    """The resolved recipe, which `python -m train` takes again."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def span(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _mlflow(recipe: Recipe) -> Any:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        return None
    if importlib.util.find_spec("mlflow") is None:
        raise RecipeError(
            "MLFLOW_TRACKING_URI is set, but mlflow is not installed: pip install mlflow-skinny, or unset it"
        )
    import mlflow

    try:
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "unmask"))
        mlflow.start_run(run_name=recipe.name)
        mlflow.log_params(dict(_flat(recipe.model_dump(mode="json"))))
    except Exception as error:  # a client of many transports, each with errors of its own
        raise RecipeError(f"MLflow at {address}: {str(error)[:300]}; unset MLFLOW_TRACKING_URI") from error
    return mlflow


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
