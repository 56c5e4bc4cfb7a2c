"""The real API over the in-process stages, on a free port: what the client and the pages are tested against."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from detectors.local import LocalStages
from detectors.store import LoadedDetector
from preprocessing.settings import Settings
from serve.gateway import create_app
from serve.runner import JobRunner
from serve.services import Services
from serve.settings import GatewayArgs, RunnerArgs
from serve.storage import Storage
from serve.store import JobStore


class SoundStages(LocalStages):
    """In-process stages never lose a part."""

    lost = False


@contextmanager
def running_api(
    folder: Path, loaded: dict[str, LoadedDetector], settings: Settings | None = None, port: int = 0
) -> Iterator[str]:
    """The address of an API with these detectors; store and uploads lie in `folder`."""
    stages = SoundStages(loaded)
    settings = settings or Settings()
    store, storage = JobStore(folder / "jobs.sqlite"), Storage(folder)
    runner = JobRunner(store, storage, lambda job: stages, RunnerArgs(), "test")

    async def detectors() -> list[dict[str, Any]]:
        from serve.groups import detector_card

        return [detector_card(one) for one in loaded.values()]

    async def ready() -> dict[str, bool]:
        return {"gateway": True}

    app = create_app(
        Services(store, storage, GatewayArgs(min_free_bytes=0), settings, detectors, ready, lambda: runner.notify())
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))

    async def both() -> None:
        task = asyncio.create_task(runner.run())
        await server.serve()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(both()), daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.02)
    if not server.started:
        raise RuntimeError("the test API did not start")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        store.close()


def untrained(folder: Path) -> dict[str, LoadedDetector]:
    """MesoNet and LRNet with random weights and cards, in a store in `folder`: their scores mean nothing."""
    import torch

    from detectors.registry import create
    from detectors.store import Calibration, load, save

    torch.manual_seed(0)
    for name in ("mesonet", "lrnet"):
        save(
            create(name), folder, profile="compact", name=f"{name}-untrained", licence="Apache-2.0",
            data="nothing: random weights for a test", command="none", date="2000-01-01",
            calibration=Calibration(a=1.0, b=0.0, fitted_on="nothing", n=1),
        )  # fmt: skip
    return {name: load(name, weights=folder) for name in ("mesonet", "lrnet")}


def portrait_video(path: Path, frames: int = 36, size: int = 320) -> Path:
    """A second and a half of scikit-image's public-domain portrait, moving a little."""
    import numpy as np
    from hostile import write_video
    from skimage import data, transform

    picture = data.astronaut()[0:360, 60:420]
    wide = (transform.resize(picture, (size + 16, size + 16), anti_aliasing=True) * 255).astype(np.uint8)
    shifts = [(round(8 + 7 * np.sin(i / 6)), round(8 + 7 * np.cos(i / 9))) for i in range(frames)]
    write_video(path, [wide[y : y + size, x : x + size].copy() for x, y in shifts], fps=25)
    return path
