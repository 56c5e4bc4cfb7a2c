"""Every page as a small PNG in docs/images, of the real demo in a real browser.

    python -m docs.screenshots [--only NAME ...] [--out DIR] [--api URL --dashboard URL --gradio URL]

Without addresses it starts `unmask demo` for itself; with them, what would change that service is left out. What
cannot be pictured is said, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.browsing import Demo, addresses, chromium, running_demo, settle
from docs.pictured import analysed, evaluated, forget, paper, under_way, write_reports
from docs.shots import Shot, shots

OUT = Path(__file__).parent / "images"
BYTES = 150_000
SIZES = {"wide": (1280, 860), "phone": (390, 844)}
TALLEST = {"wide": 2300, "phone": 3200}
"""Pixels that a long page is cut at."""
MARGIN = 18
"""Pixels above the element that a picture begins or ends at."""
WAIT_MS = 120_000
PAPER = "report-pdf"
EVALUATION = ("evaluate", "evaluate-result")


def small(png: bytes) -> bytes:
    """The picture as it is; in 256 colours where it would be over BYTES, then with fewer pixels."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    for share in (1, 0.85, 0.75, 0.66, 0.5):
        if out.tell() <= BYTES:
            break
        size = (round(picture.width * share), round(picture.height * share))
        drawn = picture if share == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        # The palette that leaves pale gradients smooth; k-means gives thin lines their hue back. Dithering adds grain.
        fewer = drawn.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
        fewer.save(out, "PNG", optimize=True)
    return out.getvalue()


def take(browser: Any, url: str, shot: Shot, size: str, scheme: str) -> bytes:
    """One picture of a page or of a part of it, as high as that is up to TALLEST."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url + ("?__theme=dark" if shot.name.startswith("gradio") and scheme == "dark" else ""))
        settle(page)
        shot.act(page)
        # Streamlit scrolls a part of the page, which is as high as the window.
        content = page.evaluate(
            "() => Math.max(document.documentElement.scrollHeight,"
            " ...[...document.querySelectorAll('[data-testid=stMain]')].map(e => e.scrollHeight))"
        )
        content = max(content, height)
        page.set_viewport_size({"width": width, "height": content})
        page.wait_for_timeout(700)
        top = _above(page, shot.start) if shot.start else 0
        bottom = _above(page, shot.end) if shot.end else content
        clip = {"x": 0, "y": top, "width": width, "height": min(bottom - top, TALLEST[size])}
        return bytes(page.screenshot(clip=clip))
    finally:
        context.close()


def _above(page: Any, selector: str) -> int:
    return max(round(page.locator(selector).first.bounding_box()["y"]) - MARGIN, 0)


@contextmanager
def _demo(given: argparse.Namespace) -> Iterator[Demo]:
    if given.api:
        yield Demo(given.api, given.dashboard, given.gradio)
        return
    with running_demo() as demo:
        yield demo


def main() -> int:
    """Takes them all; 1 where a page was not there or showed no answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of pictures")
    parser.add_argument("--out", type=Path, default=OUT)
    for name in ("api", "dashboard", "gradio"):
        parser.add_argument(f"--{name}", help="of what runs already")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with _demo(given) as demo, chromium() as browser, tempfile.TemporaryDirectory() as folder:
        missed = _take_all(demo, browser, Path(folder), given.only, given.out)
    return 1 if missed else 0


def _take_all(demo: Demo, browser: Any, folder: Path, only: Sequence[str], out: Path) -> int:
    """Writes the pictures of these names, or all; how many there could not be."""

    def wanted(*names: str) -> bool:
        return not only or any(name in only for name in names)

    analyses = analysed(demo.api)
    report = write_reports(demo.api, analyses["astronaut-clip.mp4"], folder)
    evaluation = evaluated(demo) if wanted(*EVALUATION) else None
    page = browser.new_page(viewport=dict(zip(("width", "height"), SIZES["wide"], strict=True)))
    pages = addresses(page, demo.dashboard)
    page.close()
    missed = 0
    if wanted(PAPER):
        missed += not _keep(out, PAPER, lambda: paper(report.with_suffix(".pdf")))
    for shot in shots(analyses, report, under_way(demo.api, folder), evaluation):
        if not wanted(shot.name):
            continue
        url = shot.where(demo, pages)
        if url is None:
            print(f"{shot.name}: not to be seen here; the pages are {', '.join(pages)}", file=sys.stderr)
            missed += 1
            continue
        for size, scheme in shot.looks:
            name = "-".join((shot.name, *[word for word in (size, scheme) if word not in ("wide", "light")]))
            missed += not _keep(out, name, lambda look=(url, shot, size, scheme): take(browser, *look))
    if demo.data is None:
        forget(demo.api)
    return missed


def _keep(out: Path, name: str, picture: Callable[..., bytes]) -> bool:
    """Whether there was one to keep."""
    try:
        content = small(picture())
    except Exception as error:
        print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return False
    (out / f"{name}.png").write_bytes(content)
    print(f"{name}.png {len(content) / 1000:.0f} kB", flush=True)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
