"""The service as its operator deploys it on a Ray cluster of the tests, and what asks it."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from ray_head import RAY, Head

from ui.samples import FOLDER

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = FOLDER / "astronaut-real.jpg"


def wait_for(true: Callable[[], bool], seconds: float, what: str) -> None:
    """A service that does not answer yet is asked again."""
    until = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < until, what
        time.sleep(0.3)


@dataclass
class Service:
    """The API at `http`, and what deploys configurations for it: written to `folder`, listening on `port`."""

    head: Head
    folder: Path
    port: int
    http: httpx.Client

    def serve(self, *words: str) -> str:
        """What the command of Ray Serve prints."""
        command = [str(RAY.with_name("serve")), *words]
        done = subprocess.run(command, env=self.head.client, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def deploy(self, config: dict[str, Any]) -> None:
        """By `serve deploy`."""
        config["http_options"] = {**config["http_options"], "host": "127.0.0.1", "port": self.port}
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        self.serve("deploy", str(path), "--address", self.head.url)

    def status(self) -> tuple[str, str]:
        """The application's status and its message."""
        found = yaml.safe_load(self.serve("status", "--address", self.head.url))["applications"]["unmask"]
        return str(found["status"]), str(found["message"]) + str(found.get("deployments", ""))

    def replicas(self, deployment: str) -> int:
        """Those that run."""
        found = yaml.safe_load(self.serve("status", "--address", self.head.url))["applications"]["unmask"]
        return int(found["deployments"][deployment]["replica_states"].get("RUNNING", 0))

    def nodes_of(self) -> dict[str, set[str]]:
        """The nodes on which each deployment has replicas; fails where one has not found a place."""
        asked = httpx.get(f"{self.head.url}/api/serve/applications/", headers=self.head.authorized, trust_env=False)
        parts = asked.json()["applications"]["unmask"]["deployments"]
        return {name: {str(one["node_id"]) for one in part["replicas"]} for name, part in parts.items()}

    def ready(self) -> bool:
        return self.http.get("/readyz").status_code == 200

    def post(self, path: Path = PORTRAIT, **form: str) -> httpx.Response:
        with path.open("rb") as file:
            return self.http.post("/v1/analyses", files={"file": (path.name, file)}, data={"again": "1", **form})

    def result(self, where: str, seconds: float = 180) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.http.get(where).json())
            return found["status"] in ("done", "failed", "cancelled")

        wait_for(ended, seconds, f"{where} has not ended")
        assert found["status"] == "done", found["error"]
        return dict(found["result"])
