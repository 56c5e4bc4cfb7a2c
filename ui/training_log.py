"""A training run's curves and place, read from its log: the one thing that every cluster gives for every run.

The lines are those of train.monitor.Monitor; a test writes them with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf))"
EPOCH = re.compile(
    rf"epoch (\d+): training loss {NUMBER}, validation loss {NUMBER}, AUC {NUMBER} \(([\d:]+), training waited (\d+)%"
)
STEP = re.compile(rf"epoch (\d+)/(\d+)\s+step\s+(\d+)/(\d+)\s+loss\s+{NUMBER}\s+(\d+)\s+samples/s,\s+([\d:]+)\s+left")


@dataclass(frozen=True)
class Epoch:
    """Figures at the end of an epoch, from 1; `wait`: per cent of the training's time spent waiting for data."""

    epoch: int
    train_loss: float
    val_loss: float
    auc: float
    wait: int


@dataclass(frozen=True)
class Place:
    """Where the run is: in epochs, with the fraction of the one under way; the time left as the log says it."""

    epochs_done: float
    epochs: int
    rate: int
    left: str


@dataclass
class Curves:
    """`steps`: (epochs done, loss) within the epochs."""

    epochs: list[Epoch] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)
    place: Place | None = None

    @property
    def best(self) -> Epoch | None:
        """By validation AUC."""
        return max(self.epochs, key=lambda one: one.auc, default=None)


def curves(log: str) -> Curves:
    """What the log says; an epoch that is told again, by a run that was continued, counts once, the last time."""
    found = Curves()
    told = {
        int(match[1]): Epoch(int(match[1]), float(match[2]), float(match[3]), float(match[4]), int(match[6]))
        for match in EPOCH.finditer(log)
    }
    found.epochs = [told[number] for number in sorted(told)]
    for match in STEP.finditer(log):
        epoch, epochs, step, steps = (int(match[number]) for number in (1, 2, 3, 4))
        at = epoch - 1 + step / max(steps, 1)
        found.steps.append((at, float(match[5])))
        found.place = Place(at, epochs, int(match[6]), match[7])
    return found


def tail(log: str, lines: int = 60) -> str:
    """The end of the log, carriage returns (a terminal's progress) as lines."""
    return "\n".join(log.replace("\r", "\n").splitlines()[-lines:])
