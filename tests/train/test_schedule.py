"""Learning rates step by step: those that the papers publish, and those of torch's own schedulers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from train.recipe import load_recipe
from train.schedule import Optimiser, learning_rate, plateaus, waited

EACH = 1000
"""Steps of an epoch."""


def at(settings: Optimiser, epoch: float, epochs: int, falls: int = 0) -> float:
    return learning_rate(settings, round(epoch * EACH), EACH, epochs, falls)


def test_laa_nets_rate_rises_for_25_epochs_from_a_500th_and_falls_in_a_line() -> None:
    """Specification section 5: base 1e-7, boost 500, peak 5e-5 at epoch 25, (100 - e) / 75 after it."""
    recipe = load_recipe("laa_net-paper")
    rates = [at(recipe.optimiser, epoch, 100) for epoch in (0, 24, 25, 99)]
    assert recipe.epochs == 100
    assert rates == pytest.approx([1e-7, 1e-7 + (5e-5 - 1e-7) * 24 / 25, 5e-5, 5e-5 / 75], rel=2e-2)


def test_face_x_rays_rate_falls_to_a_third_at_four_epochs() -> None:
    recipe = load_recipe("face_xray-paper")
    rates = [at(recipe.optimiser, epoch, recipe.epochs) for epoch in (0, 11.9, 12, 16, 20, 25, 29.9)]
    assert rates == pytest.approx([2e-4, 2e-4, 6e-5, 1.8e-5, 5.4e-6, 1.62e-6, 1.62e-6])


def test_fwas_rate_falls_by_a_twentieth_every_thousand_steps() -> None:
    rates = [learning_rate(load_recipe("fwa-paper").optimiser, step, 312, 20) for step in (999, 1000, 2000)]
    assert rates == pytest.approx([1e-3, 0.95e-3, 0.9025e-3])


def test_mesonets_rate_falls_to_a_tenth_every_thousand_steps_down_to_a_millionth() -> None:
    rates = [learning_rate(load_recipe("mesonet-paper").optimiser, step, 100, 99) for step in (0, 1000, 2999, 9000)]
    assert rates == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6])


def test_gends_cosine_starts_again_every_ten_epochs() -> None:
    recipe = load_recipe("gend-paper")
    rates = [at(recipe.optimiser, epoch, recipe.epochs) for epoch in (0, 5, 9.999, 10)]
    assert rates == pytest.approx([3e-4, (3e-4 + 1e-6) / 2, 1e-6, 3e-4], rel=1e-4)


def test_self_blendings_rate_holds_for_three_quarters() -> None:
    settings = Optimiser(lr=1e-3, schedule="linear", hold=0.75)
    assert [at(settings, epoch, 100) for epoch in (0, 74.9, 75, 87.5)] == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])


@pytest.mark.parametrize(
    ("settings", "kind", "options"),
    [
        (Optimiser(lr=0.1, schedule="cosine", min_lr=0.01), "CosineAnnealingLR", {"T_max": 30, "eta_min": 0.01}),
        (Optimiser(lr=0.1, schedule="poly", power=0.9), "PolynomialLR", {"total_iters": 30, "power": 0.9}),
        (Optimiser(lr=0.1, schedule="linear"), "PolynomialLR", {"total_iters": 30, "power": 1.0}),
        (Optimiser(lr=0.1, schedule="step", every=7, gamma=0.3), "StepLR", {"step_size": 7, "gamma": 0.3}),
        (Optimiser(lr=0.1, schedule="exponential", gamma=0.9), "ExponentialLR", {"gamma": 0.9}),
        (Optimiser(lr=0.1, schedule="multistep", milestones=[3, 9], gamma=0.5), "MultiStepLR",
         {"milestones": [3, 9], "gamma": 0.5}),
        (Optimiser(lr=0.1, schedule="constant"), "ConstantLR", {"factor": 1.0}),
    ],
)  # fmt: skip
def test_schedules_are_torchs(settings: Optimiser, kind: str, options: dict[str, object]) -> None:
    """Epochs of one step, as torch's schedulers count."""
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([weight], lr=0.1)
    scheduler = getattr(torch.optim.lr_scheduler, kind)(theirs, **options)
    for step in range(30):
        assert learning_rate(settings, step, 1, 30) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-6)
        theirs.step()
        scheduler.step()


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=30), st.integers(1, 5))
def test_plateaus_are_torchs(merits: list[float], patience: int) -> None:
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, "max", factor=0.5, patience=patience - 1, threshold=0, eps=0
    )
    settings = Optimiser(lr=1.0, schedule="plateau", gamma=0.5, patience=patience)
    for epoch in range(len(merits)):
        scheduler.step(merits[epoch])
        falls = plateaus(merits[: epoch + 1], patience)
        assert learning_rate(settings, epoch + 1, 1, 99, falls) == theirs.param_groups[0]["lr"]


def test_waiting_counts_from_the_first_best_epoch() -> None:
    assert [waited(one) for one in ([], [0.5], [0.5, 0.5], [0.5, 0.4, 0.6], [0.6, 0.5, 0.6, 0.1])] == [0, 0, 1, 0, 3]


def test_no_schedule_leaves_its_bounds() -> None:
    for name in ("cosine", "linear", "poly", "exponential", "plateau"):
        settings = Optimiser(lr=0.1, schedule=name, min_lr=0.01, warmup=0.1, gamma=0.2)
        rates = np.array([learning_rate(settings, step, 10, 10, step // 10) for step in range(10, 100)])
        assert rates.max() <= 0.1 and rates.min() >= 0.01 and (np.diff(rates) <= 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "step"}, "step needs every"),
        ({"schedule": "multistep"}, "multistep needs milestones"),
        ({"schedule": "multistep", "milestones": [0]}, "epochs above 0"),
        ({"schedule": "linear", "restart": 3}, "restart goes with schedule cosine"),
        ({"restart": 3, "warmup": 0.1}, "without warmup"),
        ({"min_lr": 1.0}, "min_lr 1 is above lr"),
        ({"groups": {"body": 0.0}}, "belongs into freeze"),
        ({"shedule": "step"}, "did you mean 'schedule'"),
    ],
)
def test_a_schedule_that_lacks_something_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Optimiser.model_validate(given)
