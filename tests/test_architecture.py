"""Dependencies point one way: ui -> {serve, train} -> detectors -> preprocessing."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("preprocessing", "detectors", "train", "serve", "ui")
FORBIDDEN = {
    "preprocessing": {"detectors", "train", "serve", "ui", "ray", "streamlit", "gradio"},
    "detectors": {"train", "serve", "ui", "ray", "streamlit", "gradio"},
    "train": {"serve", "ui", "streamlit", "gradio"},
    "serve": {"train", "ui", "streamlit", "gradio"},
    "ui": set(),
}
MAX_LINES = 500


def imported(source: str) -> set[str]:
    """Top-level names that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_against_the_direction(package: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imported(path.read_text()) & FORBIDDEN[package]
    }
    assert not wrong


def test_the_scan_catches_an_import_hidden_in_a_function() -> None:
    assert imported("def f():\n    from ray import serve\n    import streamlit.web") == {"ray", "streamlit"}


def test_training_alone_needs_no_ray() -> None:
    """On a machine with torch only: few modules know Ray, and import it where it is used."""
    known = {"train/distributed.py", "train/sweep.py", "train/prepare/cluster.py"}
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in modules("train")}
    assert {name for name, source in sources.items() if "ray" in imported(source)} == known
    for name in known:
        at_start = [node for node in ast.parse(sources[name]).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "ray" not in imported("\n".join(map(ast.unparse, at_start)))


def test_files_fit_in_the_head() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for package in (*PACKAGES, "tests", "benchmarks")
        for path in modules(package)
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long
