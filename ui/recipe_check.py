"""Whether a recipe can be trained, said by a process of its own: python -m ui.recipe_check RECIPE key=value ...

The recipe's models are torch's neighbours; a page that only asks should not hold torch for that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import train
from ui.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
CHECK_S = 120.0


@dataclass(frozen=True)
class Checked:
    """A recipe that can be trained: resolved, as YAML; the parameters of its network."""

    name: str
    detector: str
    parameters: int
    epochs: int
    resolved: str


def names() -> list[str]:
    """The recipes that come with unmask."""
    return sorted(path.stem for path in (Path(train.__path__[0]) / "recipes").glob("*.yaml"))


def text(name: str) -> str:
    """The recipe's file."""
    return (Path(train.__path__[0]) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def overrides_of(lines: str) -> list[str]:
    """A line each; empty ones and comments are left out. Raises UsageError for one that is not key=value."""
    found = [line.strip() for line in lines.splitlines()]
    found = [line for line in found if line and not line.startswith("#")]
    for line in found:
        key, equals, _ = line.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{line!r} is not of the form key=value", "for example optimiser.lr=3e-4")
    return found


def check(recipe: str, overrides: Sequence[str]) -> Checked:
    """Raises UsageError with what is wrong, the near miss named."""
    if recipe not in names():
        raise UsageError(f"there is no recipe {recipe!r}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "ui.recipe_check", recipe, *overrides]
    try:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CHECK_S
        )
    except subprocess.TimeoutExpired:
        raise UsageError("the recipe was not checked in time", "the machine may be too busy: try again") from None
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        said = lines[-1] if lines else "the recipe could not be checked"
        raise UsageError(said.removeprefix(f"{Path(train.__path__[0]) / 'recipes' / recipe}.yaml: "))
    return Checked(**json.loads(ended.stdout))


def main(arguments: Sequence[str]) -> int:
    """Exit 0 with the recipe as JSON; 2 with what is wrong in one line."""
    from train.monitor import as_yaml
    from train.optim import check as check_optimiser
    from train.recipe import RecipeError, create_detector, data_settings, load_recipe

    try:
        recipe = load_recipe(arguments[0], arguments[1:])
        data_settings(recipe)
        # The backbone's file is where the training is, not here.
        detector = create_detector(recipe.model_copy(update={"backbone": None}))
        check_optimiser(detector, recipe)
    except RecipeError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 2
    count = sum(parameter.numel() for parameter in detector.parameters())
    print(json.dumps(vars(Checked(recipe.name, recipe.detector, count, recipe.epochs, as_yaml(recipe)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
