"""Curves read from a run's log, which the run's own monitor writes here."""

from __future__ import annotations

import io

from rich.console import Console

from train.loop import EpochMetrics, Progress
from train.monitor import Monitor
from train.recipe import load_recipe
from ui.operator_plots import auc_figure, losses_figure
from ui.training_log import curves, tail


def written(epochs: int = 3, steps: int = 1_000_000) -> str:
    """The log of a run as a job's: no terminal, 80 columns."""
    out = io.StringIO()
    with Monitor(load_recipe("lrnet-compact"), None) as monitor:
        monitor.console = Console(file=out, width=80, highlight=False)
        for epoch in range(epochs):
            monitor._told = float("-inf")
            monitor.progress(Progress(epoch + 1, 100, steps // 2, steps, 0.71 - 0.1 * epoch, 12_345, 360_000))
            auc = 0.6 + (0.2, 0.3, 0.25)[epoch]
            monitor.epoch(EpochMetrics(epoch, 9, 0.7 - 0.1 * epoch, 0.69, auc, 1e-3, 75.0, wait=0.04))
    return out.getvalue()


def test_the_monitors_own_lines_give_the_curves_and_the_place() -> None:
    found = curves(written())
    assert [(one.epoch, one.train_loss, one.val_loss, one.wait) for one in found.epochs] == [
        (1, 0.7, 0.69, 4), (2, 0.6, 0.69, 4), (3, 0.5, 0.69, 4)
    ]  # fmt: skip
    assert found.best is not None and (found.best.epoch, found.best.auc) == (2, 0.9)
    assert [at for at, _ in found.steps] == [0.5, 1.5, 2.5] and found.steps[0][1] == 0.71
    assert found.place is not None and (found.place.epochs_done, found.place.epochs) == (2.5, 100)
    assert found.place.left == "100:00:00"


def test_an_epoch_that_is_told_again_counts_once_and_other_lines_not_at_all() -> None:
    log = written()
    assert curves(f"(pid=1) loss of interest\n{log}\n{log}").epochs == curves(log).epochs
    assert curves("").place is None and curves("").best is None
    nan = "epoch 1: training loss nan, validation loss 0.5000, AUC 0.5000 (0:01, training waited 0% for data)"
    assert curves(nan).epochs[0].train_loss != curves(nan).epochs[0].train_loss


def test_the_figures_show_every_epoch_and_tell_lines_apart_without_colour() -> None:
    found = curves(written())
    losses, area = losses_figure(found), auc_figure(found)
    assert [trace.name for trace in losses.data] == ["steps", "training", "validation"]
    assert list(losses.data[1].y) == [0.7, 0.6, 0.5] and losses.data[1].marker.symbol != losses.data[2].marker.symbol
    assert "best: 0.900 in epoch 2" in [trace.name for trace in area.data]


def test_the_end_of_a_log_turns_a_terminals_progress_into_lines() -> None:
    assert tail("a\rb\rc\nd", 2) == "c\nd"
