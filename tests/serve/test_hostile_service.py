"""The whole hostile corpus through the API with real detectors: each file is answered, and the service goes on."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hostile_corpus import corpus
from local_api import running_api, untrained

from preprocessing.settings import MediaLimits, Settings, TrackingSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SETTINGS = Settings(
    limits=MediaLimits(max_bytes=64 * 2**20, max_memory_bytes=1024**3, max_cpu_s=20, max_stall_s=10),
    tracking=TrackingSettings(max_faces=4, max_tracks=8),
    heatmaps=0,
)
ALONE = "UNMASK_TEST_ALONE"
ROOT = Path(__file__).parents[2]
CODES = {"missing", "unsupported", "too_large", "undecodable"}


def post(http: httpx.Client, path: Path) -> httpx.Response:
    """As a client that comes again when it is told to."""
    while True:
        with path.open("rb") as file:
            answer = http.post("/v1/analyses", files={"file": (path.name, file)})
        if answer.status_code != 503:
            return answer
        time.sleep(0.2)


def ended(http: httpx.Client, where: str) -> dict[str, Any]:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        found: dict[str, Any] = http.get(where).json()
        if found["status"] in ("done", "failed"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"still {found}")


def test_every_file_of_the_corpus_is_answered_by_the_service(tmp_path: Path) -> None:
    if ALONE not in os.environ:  # a process that ran other tests before has memory that nobody can tell apart
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider", __file__]
        done = subprocess.run(command, env=os.environ | {ALONE: "1"}, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
        return
    own, before, peak = psutil.Process(), 0, 0
    others = set(own.children(recursive=True))  # of tests before
    (tmp_path / "media").mkdir(), (tmp_path / "api").mkdir()
    refused: dict[str, list[str]] = {}
    accepted: dict[str, str] = {}
    loaded = untrained(tmp_path / "weights")
    with (
        running_api(tmp_path / "api", loaded, SETTINGS) as url,
        httpx.Client(base_url=url, timeout=120, trust_env=False) as http,
    ):
        for number, path in enumerate(path for path in corpus(tmp_path / "media") if path.is_file()):
            answer = post(http, path)
            if answer.status_code in (200, 202):
                accepted[path.name] = answer.headers["location"]
            else:
                assert answer.status_code in (413, 415, 422), (path.name, answer.text)
                refused.setdefault(answer.json()["error"]["code"], []).append(path.name)
            if number == 60:  # what the first analyses load stays
                gc.collect()
                before = own.memory_info().rss
            peak = max(peak, own.memory_info().rss)
        results = {name: ended(http, where) for name, where in accepted.items()}
        peak = max(peak, own.memory_info().rss)
        assert http.get("/healthz").status_code == 200
    failed = {name: found["error"]["code"] for name, found in results.items() if found["status"] == "failed"}
    assert set(refused) | set(failed.values()) <= CODES, {**failed, **refused}
    assert len(results) + sum(map(len, refused.values())) >= 200 and len(results) - len(failed) >= 50
    for found in results.values():
        assert not any(leak in str(found) for leak in ("Traceback", "object at 0x", "Errno", str(tmp_path)))
    assert results["thousand-faces.mp4"]["result"]["incomplete"] and results["crowded.png"]["result"]["incomplete"]
    # The largest still, 100 megapixels, is 300 MB, once in the memory shared with the decoder and once here.
    assert peak - before < 600e6, f"{(peak - before) / 1e6:.0f} MB more in the service"
    left = set(own.children(recursive=True)) - others
    assert not [child for child in left if child.is_running() and child.status() == psutil.STATUS_ZOMBIE]
