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


def test_files_fit_in_the_head() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for package in (*PACKAGES, "tests", "benchmarks")
        for path in modules(package)
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_no_module_reads_pickles() -> None:
    risky = ("pickle.load", "joblib.load", "weights_only=False", "yaml.load(", "shell=True")
    found = {
        f"{path.relative_to(ROOT)}: {needle}"
        for package in PACKAGES
        for path in modules(package)
        for needle in risky
        if needle in path.read_text()
    }
    assert not found
