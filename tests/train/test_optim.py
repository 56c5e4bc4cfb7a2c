"""Rates by part, parts that stand still, and steps that look for flat places."""

from pathlib import Path

import pytest
import torch
from tiny_training import Pairs, Plain, Small, recipe, run, weights
from torch import nn

from detectors.registry import create
from train.feed import Feed
from train.optim import Freezer, check, lr_factors, optimiser, sharpest, within
from train.ranks import Batches, Ranks
from train.recipe import RECIPES, RecipeError, create_detector, load_recipe

SHIPPED = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]


def test_a_part_learns_at_its_own_rate() -> None:
    settings = recipe(optimiser={"lr": 0.1, "weight_decay": 0.5, "groups": {"body": 0.5, "body.4": 2.0}})
    small = Small()
    made = optimiser(small, settings)
    found = {id(p): (g["factor"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}
    told = {name: found[id(p)] for name, p in small.named_parameters()}
    assert told == {
        "body.0.weight": (0.5, 0.5), "body.0.bias": (0.5, 0.0), "body.1.weight": (0.5, 0.0),
        "body.1.bias": (0.5, 0.0), "body.4.weight": (2.0, 0.5), "body.4.bias": (2.0, 0.0),
    }  # fmt: skip


def test_layers_learn_the_less_the_deeper_they_lie() -> None:
    factors = lr_factors(Small(), recipe(optimiser={"layer_decay": 0.5, "groups": {"body.1": 10.0}}))
    assert [factors[f"body.{i}.weight"] for i in (0, 1, 4)] == [0.25, 5.0, 1.0]
    gend = create_detector(load_recipe("gend-compact"))
    rates = lr_factors(gend, load_recipe("gend-compact", ["optimiser.layer_decay=0.8"]))
    assert rates["head.weight"] == 1.0 and list(rates.values()) == sorted(rates.values())


def test_the_rates_reach_the_weights(tmp_path: Path) -> None:
    """A step of Adam is lr at first: that of each part is told by how far it went."""
    torch.manual_seed(3)
    before = Plain().state_dict()
    settings = recipe(epochs=1, batch=200, optimiser={"lr": 0.01, "schedule": "constant", "groups": {"body.0": 0.1}})
    after = weights(run(tmp_path, settings, kind=Plain))
    went = {name: (after[name] - before[name]).abs().max().item() for name in before}
    assert went["body.0.weight"] == pytest.approx(0.001, rel=1e-3)
    assert went["body.2.weight"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {"groups": {"boddy": 0.5}}}, "optimiser.groups: small has no part 'boddy': did you mean 'body'"),
        ({"freeze": [{"parts": ["body.5"], "epochs": 1}]}, "freeze: small has no part 'body.5': did you mean 'body.4'"),
        ({"freeze": [{"parts": ["xyz"]}]}, "no part 'xyz': its parts: body"),
        ({"freeze": [{"parts": ["body"], "epochs": 1}]}, "nothing is left to learn"),
    ],
)
def test_parts_that_are_none_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(Small(), recipe(**changes))


def test_a_part_is_a_whole_name() -> None:
    assert within("body.1.weight", ["body.1"]) and within("body.1", ["body.1"])
    assert not within("body.10.weight", ["body.1"])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_fits_its_network(name: str) -> None:
    settings = load_recipe(name)
    with torch.device("meta"):
        detector = create(settings.detector, settings.profile)
    freezer = Freezer(detector, settings)
    for_a_while = [rule for rule in settings.freeze if rule.epochs is not None]
    assert len(freezer.learning(0)) < len(freezer.learning(settings.epochs)) or not for_a_while
    held = [p for group in optimiser(detector, settings).param_groups for p in group["params"]]
    assert len(held) == len(freezer.learning(settings.epochs)) > 0


@pytest.mark.parametrize("norms", [True, False])
def test_what_is_frozen_stands_still_for_its_epochs(tmp_path: Path, norms: bool) -> None:
    torch.manual_seed(3)
    states = [Small().state_dict()]
    settings = recipe(epochs=3, freeze=[{"parts": ["body.0", "body.1"], "epochs": 2, "norms": norms}])

    def keep(metrics: object) -> None:
        states.append(torch.load(tmp_path / "last.pt", weights_only=True)["model"])

    run(tmp_path, settings, on_epoch=keep)

    def same(name: str, one: int, other: int) -> bool:
        return torch.equal(states[one][name], states[other][name])

    for name in ("body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"):
        assert same(name, 0, 2) and not same(name, 2, 3), name
    assert not same("body.4.weight", 0, 1) and not same("body.4.weight", 2, 3)
    for name in ("body.1.running_mean", "body.1.running_var"):
        assert same(name, 0, 2) is norms and not same(name, 2, 3)


def test_what_the_detector_keeps_frozen_is_never_woken() -> None:
    small = Small()
    small.body[0].requires_grad_(False)
    freezer = Freezer(small, recipe(freeze=[{"parts": ["body.1"], "epochs": 1}]))
    for epoch in (0, 5):
        freezer.set(epoch)
        assert not small.body[0].weight.requires_grad and small.body[1].weight.requires_grad is (epoch == 5)


def test_sam_looks_where_the_loss_is_highest_and_comes_back_exactly() -> None:
    module = nn.Linear(3, 1)
    module.register_buffer("seen", torch.zeros(()))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.1, -0.7, 0.3]]))
        module.bias.copy_(torch.tensor([0.2]))
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([4.0])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with sharpest(module, rho=0.05):
        torch.testing.assert_close(module.weight.detach(), torch.tensor([[0.1 + 0.05 * 3 / 5, -0.7, 0.3]]))
        torch.testing.assert_close(module.bias.detach(), torch.tensor([0.2 + 0.05 * 4 / 5]))
        module.get_buffer("seen").add_(1)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_step_of_sam_uses_the_gradient_of_the_higher_place(tmp_path: Path) -> None:
    """Against the same written out: gradient, ascent, gradient, SGD; one batch of all."""
    settings = {"name": "sgd", "momentum": 0.0, "lr": 0.5, "schedule": "constant", "sam": 0.2}
    sam = weights(run(tmp_path / "sam", recipe(epochs=1, batch=200, optimiser=settings), kind=Plain))
    without = recipe(epochs=1, batch=200, optimiser={**settings, "sam": None})
    plain = weights(run(tmp_path / "plain", without, kind=Plain))
    torch.manual_seed(3)
    net = Plain()
    batches = Batches(200, 200, Ranks(), 3)
    (batch,) = Feed(Pairs(200, 1), batches, 0, net.targets)

    def gradient(values: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            for p, value in zip(net.parameters(), values, strict=True):
                p.copy_(value)
        loss = net.loss(net(batch.inputs), batch.truth)
        return list(torch.autograd.grad(loss, list(net.parameters())))

    start = [p.detach().clone() for p in net.parameters()]
    first = gradient(start)
    length = torch.stack([(g**2).sum() for g in first]).sum().sqrt()
    second = gradient([p + 0.2 * g / length for p, g in zip(start, first, strict=True)])
    for name, p, g, h in zip(sam, start, first, second, strict=True):
        torch.testing.assert_close(sam[name], p - 0.5 * h)
        torch.testing.assert_close(plain[name], p - 0.5 * g)


def test_sam_sees_each_batch_once_in_running_statistics_and_twice_under_the_same_dropout(tmp_path: Path) -> None:
    masks: list[torch.Tensor] = []

    class Watched(Small):
        def __init__(self) -> None:
            super().__init__()
            self.body[3].register_forward_hook(lambda module, given, out: masks.append((out == 0) & (given[0] != 0)))

    result = run(tmp_path, recipe(epochs=1, optimiser={"lr": 0.02, "sam": 0.05}), kind=Watched)
    steps = result.best.step
    assert weights(result)["body.1.num_batches_tracked"] == steps == 12
    trained = masks[: 2 * steps]
    both = [(a & b).any() for a, b in zip(trained[::2], trained[1::2], strict=True)]
    # Where a ReLU's zero changes sides between the passes, a unit counts in one of them only.
    agree = [((a == b).float().mean()) for a, b in zip(trained[::2], trained[1::2], strict=True)]
    assert all(both) and min(agree) > 0.9
    assert masks[0].shape == masks[2].shape and not torch.equal(masks[0], masks[2])


def test_nadams_momentum_follows_keras_schedule() -> None:
    """PyTorch's momentum_decay of 0.004 is Keras's schedule_decay (metric learning specification, section 5)."""
    made = optimiser(Small(), load_recipe("frame_cnn-paper"))
    assert isinstance(made, torch.optim.NAdam)
    group = made.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["momentum_decay"]) == (2e-3, (0.9, 0.999), 1e-8, 4e-3)
