"""What the benchmark of training on a GPU counts, tried on the CPU: known layers worked out by hand, a recipe."""

from pathlib import Path

import pytest
import torch
from torch import nn
from training_media import make_pack

from benchmarks.train import measured
from benchmarks.train_gpu import Device, Roofline, steps

ONE = Device("cpu", flops=1e9, bandwidth=1e9)
"""A second for each GFLOP, and for each GB."""


def test_a_layers_arithmetic_and_traffic_are_those_worked_out_by_hand() -> None:
    layer, batch = nn.Linear(64, 32, bias=False), torch.zeros(16, 64)
    with Roofline(ONE) as found:
        out = layer(batch)
    assert found.flop == 2 * 16 * 64 * 32
    assert found.moved == 4 * (16 * 64 + 64 * 32 + 16 * 32)
    assert found.seconds == pytest.approx(found.flop / 1e9), "arithmetic takes longer than traffic here"
    with Roofline(ONE) as back:
        out.sum().backward()
    assert back.flop == 2 * 16 * 64 * 32, "of the weights: the batch needs no gradient"


def test_an_operation_in_place_reads_and_writes_and_a_view_moves_nothing() -> None:
    given = torch.ones(1000)
    with Roofline(ONE) as found:
        given.view(10, 100).add_(1)
        given.expand(50, 1000)
    assert found.moved == 2 * 4000 and found.flop == 0 and found.seconds == pytest.approx(8e-6)


def test_a_recipes_rows_are_those_of_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.train_gpu.WARM", 1)
    pack = make_pack(tmp_path / "faces.npz", 24)
    overrides = [
        "batch=4",
        "data.settings.held_out=0.4",
        "data.settings.validation_items=2",
        "data.settings.degrade=false",
    ]
    rate, wait, share = steps(("mesonet-compact", pack, overrides), ONE, loaders=0, blocks=2, each=2)
    assert rate["unit"] == "samples/s" and rate["n"] == 2 and rate["value"] > 0
    assert 0 < wait["value"] < 1 and wait["baseline"] == 0.05
    # Eight crops of 128 x 128: the first layer alone has more.
    assert share["gflop"] > 0.01 and share["bound_ms"] >= share["gflop"] * 1e3
    assert share["value"] == pytest.approx(share["bound_ms"] / 1e3 * rate["value"] / 8, rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_says_so_at_once() -> None:
    (row,) = measured((), ("gpu",))
    assert row["value"] is None and "torch.cuda is not available" in row["unit"]
