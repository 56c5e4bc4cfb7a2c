"""`unmask doctor`: what works on this machine, what does not, and the way out of it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from rich.console import Console
from rich.table import Table

State = Literal["ok", "limited", "broken"]
MARKS: dict[State, str] = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "broken": "[red]broken[/]"}
FREE_BYTES = 5 * 1024**3


@dataclass(frozen=True)
class Finding:
    """`limited`: something optional is missing; `broken`: analyses do not work. `help` says what to do."""

    what: str
    state: State
    found: str
    help: str = ""


def examine() -> list[Finding]:
    """All findings, in the order in which an analysis needs them. A check that fails is a finding, never an error."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", _python), ("decoding", _decoding), ("confinement", _confinement), ("face models", _face_models),
        ("MTCNN", _mtcnn), ("torch", _torch), ("GPU", _gpu), ("weights", _weights), ("reports", _reports),
        ("Ray", _ray), ("pages", _pages), ("browser for the tests", _browser), ("free space", _space),
    ]  # fmt: skip
    found = []
    for what, check in checks:
        try:
            found.append(check())
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            found.append(Finding(what, "broken", reason, "make clean, then make demo, installs everything again"))
    return found


def _versions(*packages: str) -> str:
    told = []
    for name in packages:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} missing")
    return ", ".join(told)


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {_versions('unmask-forensics')}"
    return Finding("Python", "ok" if sys.version_info >= (3, 11) else "broken", found, "unmask needs 3.11 or newer")


def _decoding() -> Finding:
    from preprocessing.media import open_media
    from ui.samples import FOLDER

    with open_media(FOLDER / "astronaut-clip.mp4") as media:
        next(iter(media))
    return Finding("decoding", "ok", f"a frame of the sample was read; {_versions('av', 'pillow', 'pillow-heif')}")


def _confinement() -> Finding:
    from preprocessing.media import filters_calls

    if filters_calls():
        return Finding("confinement", "ok", "decoders cannot open files, start programs or reach the network")
    return Finding(
        "confinement", "limited", "decoders are held by limits alone: no system-call filter here",
        "analyse your own files; the service does not listen to other machines",
    )  # fmt: skip


def _face_models() -> Finding:
    from preprocessing.landmarks import create_landmark_predictor

    return Finding("face models", "ok", f"landmarks by {create_landmark_predictor(None).name}, {_versions('dlib-bin')}")


def _mtcnn() -> Finding:
    if importlib.util.find_spec("facenet_pytorch") is not None:
        return Finding("MTCNN", "ok", _versions("facenet-pytorch"))
    return Finding(
        "MTCNN", "limited", "not installed: small and turned faces are found by dlib alone, which misses more",
        "pip install --no-deps facenet-pytorch",
    )  # fmt: skip


def _torch() -> Finding:
    import torch

    torch.zeros(1).add(1)
    threads = f"{torch.get_num_threads()} thread{'' if torch.get_num_threads() == 1 else 's'}"
    return Finding("torch", "ok", f"{_versions('torch', 'torchvision', 'timm')}; {threads}")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "ok", "none that torch can use; everything runs on the CPU, training slowly")
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    torch.zeros(1, device="cuda").add(1)
    devices = ", ".join(f"{one.name} ({one.total_memory / 1024**3:.0f} GiB)" for one in found)
    return Finding("GPU", "ok", f"{devices}, CUDA {torch.version.cuda}")


def _reports() -> Finding:
    from ui.paper import Paper

    Paper("doctor", "").output()
    return Finding("reports", "ok", _versions("fpdf2", "pypdf", "plotly", "c2pa-python"))


def _weights() -> Finding:
    from detectors.fusion import load_fusion
    from detectors.registry import names
    from detectors.store import available, find, user_store, verify

    cards = available()
    for name in cards:
        verify(find(name))
    fusion = load_fusion()
    told = f"{len(cards)} of {len(names())} detectors have weights, all as their sums say; yours go into {user_store()}"
    if not cards or fusion is None:
        return Finding("weights", "broken", told, "unmask weights list tells which; git checkout brings them back")
    return Finding("weights", "ok", told)


def _ray() -> Finding:
    if importlib.util.find_spec("ray") is None:
        help_ = "pip install 'unmask-forensics[serve]'"
        return Finding("Ray", "limited", "not installed: no service, no distributed training", help_)
    import ray

    cluster = f"; RAY_ADDRESS is {address}" if (address := os.environ.get("RAY_ADDRESS")) else ""
    return Finding("Ray", "ok", f"{_versions('ray', 'fastapi')}, commit {ray.__commit__[:10]}{cluster}")


def _pages() -> Finding:
    missing = [name for name in ("streamlit", "gradio") if importlib.util.find_spec(name) is None]
    if missing:
        help_ = "pip install 'unmask-forensics[ui]'"
        return Finding("pages", "limited", f"{' and '.join(missing)} missing", help_)
    return Finding("pages", "ok", _versions("streamlit", "gradio"))


def _browser() -> Finding:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if importlib.util.find_spec("playwright") is None or not found:
        return Finding("browser for the tests", "limited", "none found", "make browser (developers only)")
    return Finding("browser for the tests", "ok", f"{found}; {_versions('playwright', 'axe-playwright-python')}")


def _space() -> Finding:
    from detectors.store import user_store

    folder = user_store()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    told = f"{free / 1024**3:.0f} GiB where weights and results are kept"
    return Finding(
        "free space", "ok" if free > FREE_BYTES else "limited", told, "the service refuses uploads below 1 GiB"
    )


def run(as_json: bool) -> bool:
    """Prints the findings; whether analyses work here."""
    found = examine()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for one in found:
            table.add_row(one.what, MARKS[one.state], one.found + (f"\n→ {one.help}" if one.state != "ok" else ""))
        Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    return all(one.state != "broken" for one in found)
