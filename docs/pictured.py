"""What there is to see on the pictures: analyses of the samples, an evaluation, reports, a service with tokens."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

from benchmarks.browsing import SAMPLES, Demo
from benchmarks.media import lengthen
from ui.client import Client
from ui.evaluations import Asked, Evaluations
from ui.gradio_pairs import KINDS, fake_of
from ui.labelled_sets import from_zip
from ui.report import finished_report, picture_names

PORTRAIT, CLIP = SAMPLES / "astronaut-real.jpg", SAMPLES / "astronaut-clip.mp4"
LONG, CLIPS = "long.mp4", 16
"""So many times the clip, and more: long enough to be pictured while it is analysed."""
FAKES = 4
EVALUATION_S = 400
PDF_DPI = 80


def analysed(api: str) -> dict[str, str]:
    """Every sample's analysis by file name, made where it is not there yet; the compare page then has some to show."""
    found = {}
    with Client(api) as client:
        for path in sorted(SAMPLES.iterdir()):
            if path.suffix in (".jpg", ".mp4"):
                found[path.name] = client.submit(path)
                for _ in client.watch(found[path.name]):
                    pass
    return found


def write_reports(api: str, analysis: str, folder: Path) -> Path:
    """report.html, as a download gives it, and report.pdf of a finished analysis; the former's path."""
    with Client(api) as client:
        result = client.result(analysis)
        pictures = {name: client.artifact(analysis, name) for name in picture_names(result)}
        maps = {card["name"]: card["map"] for card in client.detectors()}
    made = finished_report(result, pictures, maps=maps)
    for name in ("report.pdf", "report.html"):
        made.write(folder / name)
    return folder / "report.html"


def paper(pdf: Path) -> bytes:
    """The first two pages as a PNG. Raises RuntimeError without poppler's pdftoppm."""
    if shutil.which("pdftoppm") is None:
        raise RuntimeError("needs pdftoppm (Debian: poppler-utils)")
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        command = ["pdftoppm", "-png", "-r", str(PDF_DPI), "-f", "1", "-l", "2", str(pdf), f"{folder}/page"]
        subprocess.run(command, check=True)
        pages = [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("page*.png"))]
    sheet = Image.new("RGB", (sum(page.width + 12 for page in pages) + 12, pages[0].height + 24), "#d8d8d4")
    for number, page in enumerate(pages):
        sheet.paste(page, (12 + number * (page.width + 12), 12))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def under_way(api: str, folder: Path) -> Callable[[Any], None]:
    """What gives the page Analyse a video and waits for the first detector: another video each time, since what was
    analysed before is answered at once. The one before is deleted."""
    lengths = count(CLIPS)

    def give(page: Any) -> None:
        forget(api)
        page.locator("input[type=file]").first.set_input_files(lengthen(CLIP, folder / LONG, next(lengths)))
        page.locator(".um-progress .um-each").first.wait_for()

    return give


def evaluated(demo: Demo) -> str | None:
    """The id of a finished evaluation of changed portraits and pseudo-fakes; None where the demo is not ours."""
    if demo.data is None:
        return None
    kept = Evaluations(demo.data / "unmask" / "evaluations")
    asked = Asked(name="portraits.zip", allow_fitted=True)
    made = kept.start(asked, lambda folder: len(from_zip(_portraits(), folder).left_out))
    until = time.monotonic() + EVALUATION_S
    while made.running:
        if time.monotonic() > until:
            raise RuntimeError(f"the evaluation has not ended after {EVALUATION_S} s: {made.said()}")
        time.sleep(1)
    return made.id


def _portraits() -> io.BytesIO:
    """A ZIP with the folders real and fake, made of one portrait."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    smaller = portrait.resize((portrait.width * 3 // 4, portrait.height * 3 // 4), Image.Resampling.LANCZOS)
    reals = {
        "as it is": portrait, "mirrored": ImageOps.mirror(portrait), "smaller": smaller,
        "brighter": ImageEnhance.Brightness(portrait).enhance(1.2),
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, picture in reals.items():
            file = io.BytesIO()
            picture.save(file, "PNG")
            packed.writestr(f"real/{name}.png", file.getvalue())
        for kind in KINDS[:FAKES]:
            real, fake = fake_of(PORTRAIT, kind, 1)
            packed.write(fake, f"fake/{kind}.png")
            shutil.rmtree(real.parent)
    out.seek(0)
    return out


def ask_for_tokens(demo: Demo) -> bool:
    """From now on the service wants a token of everybody; False where the demo is not ours, whose users would mind."""
    if demo.data is None:
        return False
    command = [sys.executable, "-m", "ui.cli", "tokens", "add", "visitor"]
    environment = {**os.environ, "XDG_DATA_HOME": str(demo.data)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return True


def forget(api: str) -> None:
    """Deletes the analyses of the long clip, also where they run."""
    with Client(api) as client:
        for one in client.analyses(LONG):
            client.delete(one["id"])
