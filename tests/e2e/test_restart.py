"""Everything is killed at once and started again: what was accepted is finished, with the answer it would have had."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from deployed import PORTRAIT, ROOT, wait_for
from local_api import portrait_video
from ray_head import end_group, free_ports

from serve.launch import LAPTOP

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@contextmanager
def service(config: Path, http: httpx.Client, log: Path) -> Iterator[None]:
    """`unmask serve`, which ends by SIGKILL with all that it started."""
    command = [sys.executable, "-m", "ui.cli", "serve", "--config", str(config)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("ab") as file:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        wait_for(lambda: http.get("/readyz").status_code == 200, 180, log.read_text())
        yield
    finally:
        end_group(running)


def test_analyses_survive_the_death_of_the_whole_service(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = yaml.safe_load(LAPTOP.read_text())
    config["http_options"]["port"] = port
    args = config["applications"][0]["args"]
    args["storage"] = str(tmp_path / "storage")
    args["gateway"]["min_free_bytes"] = 0
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    media = [portrait_video(tmp_path / "long.mp4", frames=600, size=160), PORTRAIT, PORTRAIT, PORTRAIT]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
        places = []
        with service(path, http, tmp_path / "log"):
            for one in media:
                with one.open("rb") as file:
                    sent = {"again": "1", "tags": "kept"}
                    answer = http.post("/v1/analyses", files={"file": (one.name, file)}, data=sent)
                assert answer.status_code == 202, answer.text
                places.append(answer.headers["location"])
            wait_for(lambda: http.get(places[0]).json()["progress"]["share"] > 0.02, 60, "nothing has begun")
        with pytest.raises(httpx.HTTPError):
            http.get("/healthz")
        with service(path, http, tmp_path / "log"):
            for where in places:
                until = time.monotonic() + 180
                while (found := http.get(where).json())["status"] in ("queued", "running"):
                    assert time.monotonic() < until, found
                    time.sleep(0.3)
                assert found["status"] == "done" and found["tags"] == ["kept"], found
                assert found["result"]["faces"]
            assert http.get(places[0]).json()["attempts"] == 2, "it was under way when all died"
