"""Evaluations that a page starts, follows, stops and opens again: each a folder, each run a child process.

The child is `unmask evaluate` as anybody would type it, so the dashboard's process needs no torch and what a page shows
is what the command says. A lock that the child inherits tells, for this and any later dashboard, whether it still runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import FileLock
from pydantic import Field, ValidationError

from preprocessing.settings import Strict
from ui import evaluation_words as texts
from ui.errors import UsageError
from ui.labelled_sets import NAMES

ROOT = Path(__file__).resolve().parents[1]
State = Literal["running", "done", "partial", "failed"]
_ID = re.compile(r"[0-9a-f]{16}")
LOG_BYTES = 20_000
STOP_S = 3.0
"""Asked to stop again after so long, a run is killed: its first Ctrl-C was heard."""


class Asked(Strict):
    """What is evaluated: `data` is a folder or manifest, None where it was uploaded. `by`: who asked."""

    name: str = Field(min_length=1, max_length=120)
    data: str | None = None
    detectors: tuple[str, ...] = ()
    perturb: str = ""
    limit: int | None = Field(default=None, ge=1)
    allow_fitted: bool = False
    by: str = ""
    created: float = 0.0
    left_out: int = 0


class Progress(Strict):
    """As `unmask evaluate --progress` keeps it."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Evaluation:
    """One, in its folder."""

    folder: Path
    asked: Asked

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def data(self) -> Path:
        """What is evaluated."""
        return Path(self.asked.data) if self.asked.data is not None else self.folder / "media"

    @property
    def command(self) -> list[str]:
        """Without the interpreter: as one would type it, given the paths."""
        asked, here = self.asked, self.folder
        return [
            "evaluate", "--data", str(self.data), "--json", str(here / "result.json"),
            "--report", str(here / "report.html"), "--save", str(here / "kept"),
            "--progress", str(here / "progress.json"),
            *(["--detectors", ",".join(asked.detectors)] if asked.detectors else []),
            *(["--perturb", asked.perturb] if asked.perturb else []),
            *(["--limit", str(asked.limit)] if asked.limit else []),
            *(["--allow-fitted"] if asked.allow_fitted else []),
        ]  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether its process lives, whoever started it."""
        try:
            with (self.folder / "running").open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # deleted meanwhile
            return False
        return False

    @property
    def progress(self) -> Progress:
        """How far it is."""
        try:
            return Progress.model_validate_json((self.folder / "progress.json").read_bytes())
        except (OSError, ValidationError):
            return Progress(what="starting", done=0, total=0)

    @property
    def has_result(self) -> bool:
        return (self.folder / "result.json").is_file()

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The evaluation's JSON (docs/evaluation.md); None where there is none."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "result.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found

    @property
    def names(self) -> dict[str, str]:
        """What an upload called its files."""
        try:
            found: dict[str, str] = json.loads((self.folder / "media" / NAMES).read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def report(self) -> str | None:
        """The HTML page, where it was written."""
        try:
            return (self.folder / "report.html").read_text(encoding="utf-8")
        except OSError:
            return None

    def said(self) -> str:
        """The end of what the command said on standard error: where it failed, why."""
        try:
            with (self.folder / "log").open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - LOG_BYTES, 0))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def state(self) -> State:
        """Running; done; partial: stopped, with figures of what was done by then; failed: without figures."""
        if self.running:
            return "running"
        if self.result is None:
            return "failed"
        return "partial" if self.result.get("partial") else "done"

    def stop(self) -> None:
        """As Ctrl-C does: what was done by then is reported. Asked again after a moment, it ends at once."""
        if not self.running:
            return
        asked = self.folder / "stopped"
        again = asked.exists() and time.time() - asked.stat().st_mtime > STOP_S
        asked.touch()
        with suppress(OSError, ValueError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL if again else signal.SIGTERM)


class Evaluations:
    """All that are kept in a folder; by default the platform's for the user's data."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(platformdirs.user_data_dir("unmask")) / "evaluations"

    def all(self) -> list[Evaluation]:
        """The newest first; what is no evaluation is passed over."""
        found = [self.get(path.name) for path in self.folder.glob("*") if _ID.fullmatch(path.name)]
        return sorted((one for one in found if one is not None), key=lambda one: -one.asked.created)

    def get(self, evaluation: str) -> Evaluation | None:
        """None where there is none of that id."""
        if not _ID.fullmatch(evaluation):
            return None
        folder = self.folder / evaluation
        try:
            return Evaluation(folder, Asked.model_validate_json((folder / "asked.json").read_bytes()))
        except (OSError, ValidationError):
            return None

    def start(self, asked: Asked, unpack: Callable[[Path], int] | None = None) -> Evaluation:
        """A new one, running. `unpack` fills the folder of an upload and says how many files it left out.

        Raises UsageError: one runs already, the named data are not there, the upload is none, the disk is full.
        """
        if asked.data is not None and not Path(asked.data).exists():
            reason, hint = texts.NO_DATA
            raise UsageError(reason.format(data=asked.data), hint)
        folder = self.folder / secrets.token_hex(8)
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise UsageError(texts.NOT_WRITTEN.format(folder=self.folder, error=error.strerror)) from None
        try:
            left_out = unpack(folder / "media") if unpack else 0
            kept = asked.model_copy(update={"created": time.time(), "left_out": left_out})
            (folder / "asked.json").write_text(kept.model_dump_json(indent=1), encoding="utf-8")
            made = Evaluation(folder, kept)
            self.run(made)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made

    def run(self, evaluation: Evaluation) -> None:
        """Start its process, or start it again: it goes on from the files that it has measured. Raises UsageError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "starting.lock"):
            if busy := next((one for one in self.all() if one.running), None):
                raise UsageError(texts.BUSY_WITH.format(name=busy.asked.name), texts.BUSY_START_HINT)
            _launch(evaluation)

    def allow_fitted(self, evaluation: Evaluation) -> None:
        """Start it again, files that calibration or fusion were fitted on included. Raises UsageError."""
        asked = evaluation.asked.model_copy(update={"allow_fitted": True})
        (evaluation.folder / "asked.json").write_text(asked.model_dump_json(indent=1), encoding="utf-8")
        self.run(Evaluation(evaluation.folder, asked))

    def delete(self, evaluation: Evaluation) -> None:
        """All of it. Raises UsageError while it runs."""
        if evaluation.running:
            raise UsageError(texts.BUSY_WITH.format(name=evaluation.asked.name), texts.BUSY_DELETE_HINT)
        shutil.rmtree(evaluation.folder, ignore_errors=True)


def _launch(evaluation: Evaluation) -> None:
    folder = evaluation.folder
    for old in ("result.json", "report.html", "progress.json", "stopped"):
        (folder / old).unlink(missing_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
    with (folder / "log").open("wb") as log, (folder / "running").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # In the dashboard's process group: what ends the dashboard and all below it ends this too.
        child = subprocess.Popen(
            [sys.executable, "-m", "ui.cli", *evaluation.command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(lock.fileno(),),
        )
        (folder / "pid").write_text(str(child.pid))
    threading.Thread(target=child.wait, daemon=True).start()  # so that it does not stay as a zombie
