"""How fast the dashboard feels in Chromium: first paint, a result that is there, a heatmap switched, a long video.

    python -m benchmarks.pages [--api URL --dashboard URL]

Without addresses it starts `unmask demo`. A blocked page is a long task (50 ms and more) of the browser's main thread,
as its Long Tasks API reports it; each page must also report a loop that blocks it on purpose.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.browsing import SAMPLES, Demo, chromium, running_demo, settle
from benchmarks.media import lengthen
from ui.client import Client
from ui.dashboard.texts import AMONG

REPEATS = 5
FIRST_PAINT_S, CACHED_S, SWITCH_MS, BLOCKED_MS = 2.0, 1.0, 300.0, 200.0
CLIPS = 8
"""Of the four-second sample: a video of 32 s."""
WATCH = """
window.blocked = [];
new PerformanceObserver(list => list.getEntries().forEach(e => window.blocked.push(e.duration)))
    .observe({type: 'longtask', buffered: true});
"""
BLOCK_MS = 300
BLOCK = """ms => new Promise(done => setTimeout(() => {
  const until = performance.now() + ms;
  while (performance.now() < until);
  done();
}))"""
"""Blocks the page for so many milliseconds, in a task of its own."""
ARM = """() => {
  const old = document.querySelector('.um-crops img').src;
  window.switched = null;
  document.addEventListener('click', () => {
    const begun = performance.now();
    const look = () => {
      const picture = document.querySelector('.um-crops img');
      if (picture && picture.src !== old && picture.complete) window.switched = performance.now() - begun;
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, {once: true, capture: true});
}"""


def _first_paint_s(page: Any) -> float:
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    return page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000


def _open(browser: Any, context: Any = None) -> Any:
    """A page of a browser that knows nothing yet, or of `context`, which knows what it has seen."""
    page = (context or browser.new_context(viewport={"width": 1280, "height": 900})).new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    return page


def first_paint(browser: Any, url: str) -> tuple[list[float], list[float]]:
    """Seconds to the first paint, and to the page's own heading, of browsers that know nothing yet."""
    painted, there = [], []
    for _ in range(REPEATS):
        page = _open(browser)
        begun = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.locator("h1").first.wait_for()
        there.append(time.perf_counter() - begun)
        painted.append(_first_paint_s(page))
        page.context.close()
    return painted, there


def cached_result(browser: Any, dashboard: str, name: str) -> list[float]:
    """Seconds from a click in the history to the verdict."""
    found = []
    for _ in range(REPEATS):
        page = _open(browser)
        page.goto(f"{dashboard}/history")
        row = page.get_by_role("button", name=name).first
        row.wait_for()
        settle(page)
        begun = time.perf_counter()
        row.click()
        page.locator("[data-verdict]").first.wait_for()
        found.append(time.perf_counter() - begun)
        page.context.close()
    return found


def switches(page: Any, names: list[str]) -> list[float]:
    """Milliseconds from the choice of another detector to its picture."""
    found = []
    for turn in range(REPEATS * 2):
        option = page.get_by_role("radiogroup", name="Where it looks").get_by_text(names[turn % len(names)], exact=True)
        page.evaluate(ARM)
        option.click()
        page.wait_for_function("() => window.switched !== null")
        found.append(float(page.evaluate("() => window.switched")))
        settle(page)
    return found


def longest_tasks(browser: Any, url: str, detector: str) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of the longest task while the page of a result is opened for the first time, while it is scrolled
    and another detector's heatmap chosen, and while a browser that was there before opens it; 0 where none took 50."""
    opened, used, again = [], [], []
    for _ in range(REPEATS):
        page = _open(browser)
        opened.append(_opening(page, url))
        _prove_watched(page)
        page.mouse.move(640, 450)
        for _ in range(12):
            page.mouse.wheel(0, 350)
            page.wait_for_timeout(120)
        page.get_by_role("radiogroup", name="Where it looks").get_by_text(detector, exact=True).click()
        settle(page)
        used.append(_longest_task(page))
        page.close()
        for _ in range(2):  # Chromium keeps a script compiled when it has met it twice
            another = _open(browser, page.context)
            back = _opening(another, url)
            another.close()
        again.append(back)
        page.context.close()
    return opened, used, again


def from_history(browser: Any, dashboard: str, name: str) -> tuple[list[float], list[float]]:
    """Milliseconds of the longest task while a browser that knows nothing opens the history, which is nearly empty and
    so shows what Streamlit's own start takes; and while it goes on from there to a result."""
    started, opened = [], []
    for _ in range(REPEATS):
        page = _open(browser)
        page.goto(f"{dashboard}/history")
        row = page.get_by_role("button", name=name).first
        row.wait_for()
        settle(page)
        started.append(_longest_task(page))
        page.evaluate("window.blocked = []")
        row.click()
        opened.append(_drawn(page))
        page.context.close()
    return started, opened


def _opening(page: Any, url: str) -> float:
    page.goto(url)
    return _drawn(page)


def _drawn(page: Any) -> float:
    """The longest task until the page of a result is there."""
    page.locator("[data-testid=stDownloadButton]").last.wait_for()
    page.locator(".um-crops img").first.wait_for()
    settle(page)
    return _longest_task(page)


def map_opened(browser: Any, url: str) -> list[float]:
    """Milliseconds of the longest task while the map of reference faces is opened, with which plotly is loaded."""
    found = []
    for _ in range(REPEATS):
        page = _open(browser)
        _opening(page, url)
        page.evaluate("window.blocked = []")
        page.get_by_role("tab", name=AMONG).click()
        page.locator(".js-plotly-plot").wait_for()
        settle(page)
        found.append(_longest_task(page))
        page.context.close()
    return found


def _longest_task(page: Any) -> float:
    return float(max(page.evaluate("window.blocked"), default=0.0))


def _prove_watched(page: Any) -> None:
    """Raises RuntimeError where the page does not report that it was blocked; forgets what was reported."""
    page.evaluate("window.blocked = []")
    page.evaluate(BLOCK, BLOCK_MS)
    page.wait_for_timeout(200)
    if not BLOCK_MS <= _longest_task(page) < 2 * BLOCK_MS:
        raise RuntimeError(f"a task of {BLOCK_MS} ms was reported as {_longest_task(page):.0f}")
    page.evaluate("window.blocked = []")


def _row(metric: str, values: list[float], unit: str, limit: float) -> dict[str, Any]:
    middle = statistics.median(values)
    return {
        "bench": "pages", "metric": metric, "value": round(middle, 2 if unit == "s" else 0), "unit": unit,
        "baseline": f"limit of {limit:g} {unit}", "ratio": round(middle / limit, 2), "n": len(values),
        "spread": round(max(values) - min(values), 2 if unit == "s" else 0),
    }  # fmt: skip


def measure(demo: Demo) -> list[dict[str, Any]]:
    """Rows against a running demo."""
    with tempfile.TemporaryDirectory() as folder, Client(demo.api) as client:
        long = lengthen(SAMPLES / "astronaut-clip.mp4", Path(folder) / "long.mp4", CLIPS)
        ids = [client.submit(path) for path in (SAMPLES / "astronaut-fake.jpg", long)]
        for one in ids:
            for _ in client.watch(one):
                pass
        image = client.result(ids[0])
    mapped = sorted(name for name, score in image.faces[0].detectors.items() if score.heatmaps)
    loudest = max(mapped, key=lambda name: image.faces[0].detectors[name].score or 0.0)
    others = [name for name in mapped if name != loudest]
    with chromium() as browser:
        first_paint(browser, demo.dashboard)  # the server's first page loads its modules
        painted, there = first_paint(browser, demo.dashboard)
        gradio, _ = first_paint(browser, demo.gradio)
        opened = cached_result(browser, demo.dashboard, "astronaut-fake.jpg")
        page = _open(browser)
        page.goto(f"{demo.dashboard}/?analysis={ids[0]}")
        page.locator(".um-crops img").first.wait_for()
        settle(page)
        switched = switches(page, [others[0], loudest])
        long_page = f"{demo.dashboard}/?analysis={ids[1]}"
        opening, using, again = longest_tasks(browser, long_page, others[0])
        started, onward = from_history(browser, demo.dashboard, long.name)
        on_map = map_opened(browser, long_page)
    return [
        _row("dashboard, first paint", painted, "s", FIRST_PAINT_S),
        _row("dashboard, its heading", there, "s", FIRST_PAINT_S),
        _row("Gradio demo, first paint", gradio, "s", FIRST_PAINT_S),
        _row("a result that is there, click to verdict", opened, "s", CACHED_S),
        _row("another detector's heatmap", switched, "ms", SWITCH_MS),
        _row("a 32 s video's page, longest task while it opens", opening, "ms", BLOCKED_MS),
        _row("the same by a browser that was there before", again, "ms", BLOCKED_MS),
        _row("the same from the history, in a dashboard that is open", onward, "ms", BLOCKED_MS),
        _row("the history, longest task while it opens: Streamlit's own start", started, "ms", BLOCKED_MS),
        _row("a 32 s video's page, longest task while scrolling and switching", using, "ms", BLOCKED_MS),
        _row("the map of reference faces, longest task while it opens on demand", on_map, "ms", BLOCKED_MS),
    ]


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`."""
    with running_demo() as demo:
        return measure(demo)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("api", "dashboard", "gradio"):
        parser.add_argument(f"--{part}", help="of what runs already")
    given = parser.parse_args()
    rows = measure(Demo(given.api, given.dashboard, given.gradio)) if given.api else run()
    for row in rows:
        print(json.dumps(row))
