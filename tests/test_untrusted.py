"""Nothing in the product runs what a file says: no pickles, no unsafe YAML, no eval, no shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("preprocessing", "detectors", "train", "serve", "ui", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NEVER = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle",
    "torch.hub.load", "torch.jit.load",
}  # fmt: skip


def dangers(source: str) -> list[str]:
    """What in a module would run code that a file brings, as `line: what`."""
    found = []
    tree = ast.parse(source)
    imported = {alias.asname: alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names if alias.asname}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):  # for pickle's name of its error, as it is called, `import pickle` may stand
            named = [alias.name for alias in node.names if alias.name != "pickle" or alias.asname]
            found += [f"{node.lineno}: imports {name}" for name in named if name.split(".")[0] in PICKLING]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLING:
            found.append(f"{node.lineno}: imports from {node.module}")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node.attr != "UnpicklingError":
            found.append(f"{node.lineno}: pickle.{node.attr}")
        elif isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            name = imported.get(first, first) + dot + rest
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name in NEVER or given.get("shell") == "True" or given.get("allow_pickle") == "True":
                found.append(f"{node.lineno}: {name}")
            elif name == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{node.lineno}: torch.load without weights_only=True")
    return found


def aliases(source: str) -> list[str]:
    """Imports that would hide a dangerous call behind another name."""
    return [
        f"{node.lineno}: from {node.module} import {alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in NEVER | {"torch.load", "numpy.load"}
    ]


@pytest.mark.parametrize("check", [dangers, aliases])
def test_no_module_runs_what_a_file_says(check: object) -> None:
    assert SOURCES
    found = {str(path.relative_to(ROOT)): check(path.read_text()) for path in SOURCES}  # type: ignore[operator]
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "sample",
    [
        "import pickle\npickle.loads(data)",
        "import pickle as safe",
        "import pickle\nread = pickle.Unpickler",
        "from joblib import load",
        "def f(p):\n    import dill as d\n    return d.load(p)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusting)",
        "import torch as t\nt.load(path)",
        "def f(p):\n    import torch.jit as j\n    return j.load(p)",
        "import pandas as pd\npd.read_pickle(path)",
        "import os as system\nsystem.popen(command)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
    ],
)
def test_the_check_catches(sample: str) -> None:
    assert dangers(sample)


@pytest.mark.parametrize(
    "sample", ["from torch import load", "from yaml import load as read", "from numpy import load"]
)
def test_a_call_cannot_hide_behind_another_name(sample: str) -> None:
    assert aliases(sample)


@pytest.mark.parametrize(
    "sample",
    [
        "import pickle\npickle.UnpicklingError",
        "model.eval()",
        "torch.load(p, weights_only=True)",
        "np.load(p)",
        "yaml.safe_load(t)",
    ],
)
def test_the_check_lets_pass(sample: str) -> None:
    assert not dangers(sample) and not aliases(sample)
