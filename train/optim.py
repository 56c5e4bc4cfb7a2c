"""The optimiser of a network: parameter groups with rates of their own, parts that are frozen, and SAM."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from detectors.base import Detector
from train.recipe import Freeze, Recipe, RecipeError


def optimiser(detector: Detector, recipe: Recipe) -> torch.optim.Optimizer:
    """Over all parameters that the detector and the recipe ever let learn. Each group has `factor`, of the recipe's lr.

    Raises:
        RecipeError: `optimiser.groups` names a prefix that no parameter has (with the near miss).
    """
    settings, factors = recipe.optimiser, lr_factors(detector, recipe)
    still = [part for rule in recipe.freeze if rule.epochs is None for part in rule.parts]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad and not within(name, still):
            # Weight decay is for weights: on biases and norms it only shrinks what the layer's scale depends on.
            groups.setdefault((factors[name], parameter.ndim > 1), []).append(parameter)
    given = [
        {"params": members, "weight_decay": settings.weight_decay * decayed, "factor": factor}
        for (factor, decayed), members in groups.items()
    ]
    if settings.name == "sgd":  # fused, it fails on weights that wake after its first step
        return torch.optim.SGD(given, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
    if settings.name == "nadam":
        return torch.optim.NAdam(given, lr=settings.lr)
    # One pass over the weights instead of one for each operation: a third of the time on a CPU.
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[settings.name](given, lr=settings.lr, fused=True)


def check(detector: Detector, recipe: Recipe) -> None:
    """Raises RecipeError for names of parts that the detector has not, before any data is read."""
    lr_factors(detector, recipe)
    Freezer(detector, recipe)


def lr_factors(detector: Detector, recipe: Recipe) -> dict[str, float]:
    """Each parameter's factor of lr: that of the longest prefix in `groups`, times `layer_decay` for each layer above.

    A layer is the part of a name up to its first number (`encoder.blocks.3`), or the module that holds the parameter;
    layers count in the order in which the network holds them, the last one's factor is 1 (as Bao et al., BEiT, ICLR
    2022, fine-tune).
    """
    settings = recipe.optimiser
    check_parts(settings.groups, detector, f"recipe {recipe.name}, optimiser.groups")
    names = [name for name, _ in detector.named_parameters()]
    layers = list(dict.fromkeys(_layer(name) for name in names))
    depth = {layer: len(layers) - 1 - number for number, layer in enumerate(layers)}
    found = {}
    for name in names:
        prefix = max((p for p in settings.groups if within(name, [p])), key=len, default=None)
        decay = 1.0 if settings.layer_decay is None else settings.layer_decay ** depth[_layer(name)]
        found[name] = decay * (1.0 if prefix is None else settings.groups[prefix])
    return found


def _layer(name: str) -> str:
    parts = name.split(".")
    number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[:-1] if number is None else parts[: number + 1]) or name


def within(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a module or parameter is one of these or lies in one: `body.1` holds `body.1.weight`, not `body.10`."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def check_parts(prefixes: Iterable[str], detector: Detector, where: str) -> None:
    """Raises RecipeError for a prefix that is no module or parameter of the detector, with the near miss."""
    parameters = [name for name, _ in detector.named_parameters()]
    modules = [name for name, module in detector.named_modules() if name and any(True for _ in module.parameters())]
    known = dict.fromkeys([*modules, *parameters])
    for prefix in prefixes:
        if prefix not in known:
            near = difflib.get_close_matches(prefix, known, n=1)
            tops = dict.fromkeys(name.partition(".")[0] for name in parameters)
            hint = f"did you mean {near[0]!r}?" if near else f"its parts: {', '.join(tops)}"
            raise RecipeError(f"{where}: {detector.name} has no part {prefix!r}: {hint}")


class Freezer:
    """Holds parts of a network still for their epochs, as `freeze` of the recipe says."""

    def __init__(self, detector: Detector, recipe: Recipe) -> None:
        """Raises RecipeError: a part that the detector has not (with the near miss), or nothing is left to learn."""
        self.detector, self.rules = detector, recipe.freeze
        self._learns = {name for name, p in detector.named_parameters() if p.requires_grad}
        for rule in self.rules:
            check_parts(rule.parts, detector, f"recipe {recipe.name}, freeze")
        if not self.learning(0):
            raise RecipeError(f"recipe {recipe.name}, freeze: nothing is left to learn in the first epoch")

    def learning(self, epoch: int) -> set[str]:
        """Names of the parameters that learn in `epoch` (from 0)."""
        return {name for name in self._learns if not any(within(name, rule.parts) for rule in self._now(epoch))}

    def set(self, epoch: int) -> None:
        """To be called after `detector.train()`, which wakes the norms of frozen parts."""
        learning = self.learning(epoch)
        for name, parameter in self.detector.named_parameters():
            parameter.requires_grad_(name in learning)
        still = [rule for rule in self._now(epoch) if rule.norms]
        for name, module in self.detector.named_modules():
            norms = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if norms and any(within(name, rule.parts) for rule in still):
                module.eval()

    def _now(self, epoch: int) -> list[Freeze]:
        return [rule for rule in self.rules if rule.epochs is None or epoch < rule.epochs]


@contextmanager
def sharpest(module: nn.Module, rho: float) -> Iterator[None]:
    """Within, the weights stand where the loss is highest nearby, rho along their gradient; after it, as before.

    Sharpness-aware minimisation (Foret et al., ICLR 2021, equation 2, p = 2, over all parameters together): the
    gradient that is made within is the one to step by. Buffers are put back too, so that running
    statistics see each batch once, at the weights that are kept.
    """
    moved = [p for p in module.parameters() if p.grad is not None]
    gradients = [p.grad for p in moved if p.grad is not None]
    kept = [p.detach().clone() for p in moved]
    buffers = list(module.buffers())
    before = [buffer.clone() for buffer in buffers]
    scale = rho / (norm(gradients) + 1e-12)
    with torch.no_grad():
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for place, value in zip([*moved, *buffers], [*kept, *before], strict=True):
                place.copy_(value)


def norm(gradients: Iterable[Tensor]) -> Tensor:
    """L2 norm of all together, a scalar tensor."""
    return torch.nn.utils.get_total_norm(list(gradients))
