"""A container file's steps, and the environment that its pip lines would make, from what is installed here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and the rest of each line, continued lines joined, comments left out."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1].strip()) for line in joined.splitlines() if line]


def copied(steps: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What comes from the checkout."""
    for kind, rest in steps:
        if kind == "COPY" and "--from" not in rest:
            yield from shlex.split(rest)[:-1]


def installed(steps: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """The extras of this project, and the packages that come without what they ask for."""
    extras: list[str] = []
    bare: list[str] = []
    for line in (part for kind, rest in steps if kind == "RUN" for part in rest.split("&&") if "pip install" in part):
        for word in shlex.split(line):
            if found := re.fullmatch(r"\.\[(.*)\]", word):
                extras += found[1].split(",")
        if "--no-deps" in line:
            bare += [word for word in shlex.split(line)[2:] if not word.startswith("-") and ".txt" not in word]
    return extras, bare


def closure(asked: Iterable[Requirement]) -> set[str]:
    """Names of all distributions that these need, as their metadata here say."""
    found: set[str] = set()
    waiting = [(one, extra) for one in asked for extra in ("", *one.extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one, extra = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(name)
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(need, more) for more in ("", *need.extras)]
    return found


def clean_environment(root: Path, steps: list[tuple[str, str]], folder: Path) -> Path:
    """An environment of its own with what the image would have and nothing else; its folder of programs.

    What is installed here is linked, file by file, not downloaded again; the project is built and installed by pip.
    """
    extras, bare = installed(steps)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    needed = closure(map(Requirement, asked)) | {canonicalize_name(name) for name in bare}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    programs = folder / "venv/bin"
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    for name in needed:
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                if not (site / file).exists() and Path(str(file.locate())).exists():
                    (site / file).symlink_to(Path(str(file.locate())).resolve())
    build = folder / "build"
    build.mkdir()
    for name in copied(steps):
        source = root / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, build / name, ignore=ignored) if source.is_dir() else shutil.copy(source, build)
    install = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "-q", "--no-deps"]
    done = subprocess.run([*install, str(build)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return programs
