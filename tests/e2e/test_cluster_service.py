"""The service on a cluster of several nodes, deployed as its operator does: rolled to new weights, robbed of a node."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from deployed import PORTRAIT, ROOT, Service, wait_for
from postgres_server import postgres
from prometheus_names import metrics_of_the_code
from ray_head import free_ports, running_head, running_node

from detectors.local import LocalStages, analyse_file
from detectors.registry import create
from detectors.store import load, save
from serve.launch import LAPTOP

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(600)]
DETECTORS = {"num_cpus": 0.1, "resources": {"detectors": 0.1}}
ON_HEAD = {"num_cpus": 0.1, "resources": {"node:__internal_head__": 0.01}}
NODE = ("--num-cpus=1", '--resources={"detectors": 1}')
"""The only place where detectors may run."""
TO_ZERO = {
    "min_replicas": 0, "max_replicas": 1, "target_ongoing_requests": 16, "metrics_interval_s": 1,
    "look_back_period_s": 2, "upscale_delay_s": 0, "downscale_delay_s": 2, "downscale_to_zero_delay_s": 2,
}  # fmt: skip


def config(folder: Path, revision: str, **shared: Any) -> dict[str, Any]:
    """The laptop's, with the detectors on the other node, one of them rare, and what several nodes share."""
    found: dict[str, Any] = yaml.safe_load(LAPTOP.read_text())
    args = found["applications"][0]["args"]
    args |= {"storage": str(folder / "storage"), **shared}
    args["gateway"] = {"ray_actor_options": ON_HEAD, "min_free_bytes": 0}
    args["runner"]["ray_actor_options"] = ON_HEAD
    often = {"detectors": ["mesonet"], "revision": revision, "ray_actor_options": DETECTORS, "threads": 1}
    args["groups"] = {
        "often": often,
        "rare": {**often, "detectors": ["frame_cnn"], "autoscaling": TO_ZERO},
    }
    return found


def score_here(detector: str) -> float:
    """Of the portrait, in this process."""
    found = analyse_file(PORTRAIT, LocalStages({detector: load(detector)})).result
    score = found.faces[0].detectors[detector].score
    assert score is not None
    return score


def other_weights(folder: Path) -> None:
    """Of MesoNet, into a store of the user's own, which is looked at before the shipped ones."""
    torch.manual_seed(3)
    save(
        create("mesonet"), folder, profile="compact", name="mesonet-other", licence="none", data="none",
        command="none", date="2000-01-01",
    )  # fmt: skip


@dataclass
class Load:
    """Uploads one after another until it is stopped: the addresses of the accepted, the statuses of the others."""

    service: Service
    accepted: list[str] = field(default_factory=list)
    others: list[object] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self.thread = threading.Thread(target=self._send)
        self.thread.start()
        return self

    def _send(self) -> None:
        while not self.over.wait(0.5):
            try:
                answer = ask(self.service)
            except httpx.HTTPError as error:
                self.others.append(repr(error))
                continue
            if answer.status_code == 202:
                self.accepted.append(answer.headers["location"])
            else:
                self.others.append(answer.status_code)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def ask(service: Service, detector: str = "mesonet") -> httpx.Response:
    return service.post(settings=json.dumps({"detectors": [detector]}))


class SlowUpload(threading.Thread):
    """The portrait, a little every half second, whole only when it is let go."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service, self.go, self.answer = service, threading.Event(), 0

    def run(self) -> None:
        url = f"http://127.0.0.1:{self.service.port}/v1/analyses"
        head = b'--x\r\nContent-Disposition: form-data; name="again"\r\n\r\n1\r\n'
        head += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        self.answer = httpx.post(url, content=self._body(head), headers=kind, timeout=120, trust_env=False).status_code

    def _body(self, head: bytes) -> Iterator[bytes]:
        data = PORTRAIT.read_bytes()
        yield head + data[:1000]
        sent = 1000
        while not self.go.wait(0.5):
            yield data[sent : sent + 50]
            sent += 50
        yield data[sent:] + b"\r\n--x--\r\n"


def test_new_weights_drop_no_request_and_a_lost_node_loses_no_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "weights"))
    old, rare = score_here("mesonet"), score_here("frame_cnn")
    (port,) = free_ports(1)
    with (
        postgres() as database,
        running_head(tmp_path / "head.log", 2) as head,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http,
    ):
        service = Service(head, tmp_path, port, http)
        shared = {"store": database, "shared_storage": True}

        def score(where: str, detector: str = "mesonet") -> float:
            return round(service.result(where)["faces"][0]["detectors"][detector]["score"], 3)

        with running_node(head, tmp_path / "node1.log", *NODE):
            service.deploy(config(tmp_path, "alone"))
            wait_for(lambda: "this cluster has 2 nodes" in service.status()[1], 180, "queues apart are not refused")
            service.deploy(config(tmp_path, "first", **shared))
            wait_for(service.ready, 180, "the service does not answer")
            upload = SlowUpload(service)
            upload.start()
            with Load(service) as during:
                time.sleep(2)
                assert score(during.accepted[0]) == round(old, 3)
                other_weights(tmp_path / "weights")
                new = score_here("mesonet")
                assert abs(new - old) > 0.01
                service.deploy(config(tmp_path, "second", **shared))
                wait_for(lambda: score(ask(service).headers["location"]) == round(new, 3), 120, "no new weights")
                upload.go.set()
                wait_for(lambda: service.status()[0] == "RUNNING" and service.ready(), 120, "the change does not end")
                after = len(during.accepted)
                time.sleep(2)
            upload.join()
            assert upload.answer == 202, "an upload that began before the change is taken to its end"
            assert during.others == [] and len(during.accepted) > after > 5
            found = [score(where) for where in during.accepted]
            assert set(found) == {round(old, 3), round(new, 3)} and set(found[after:]) == {round(new, 3)}

            # Nothing asked for the rare detector so far: its group is gone, and comes when it is wanted.
            wait_for(lambda: service.replicas("Group-rare") == 0, 120, "it does not scale to zero")
            assert score(ask(service, "frame_cnn").headers["location"], "frame_cnn") == round(rare, 3)
            wait_for(lambda: service.replicas("Group-rare") == 0, 120, "it does not scale to zero again")

            named = {name for name in metrics_of_the_code() if name.startswith("ray_") and "drift" not in name}
            wait_for(
                lambda: all(name in httpx.get(head.metrics, trust_env=False).text for name in named),
                60, f"not all of {named} are at Ray's metrics port",
            )  # fmt: skip
            with Load(service) as before:
                time.sleep(2)
        # The detectors' node is gone, with analyses under way; those that come now wait for another.
        with Load(service) as late:
            time.sleep(3)
        with running_node(head, tmp_path / "node2.log", *NODE):
            assert late.others == [] and late.accepted
            assert {score(where) for where in [*before.accepted, *late.accepted]} == {round(new, 3)}
