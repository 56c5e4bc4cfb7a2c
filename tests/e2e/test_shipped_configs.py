"""The configurations for a GPU and for a cluster as they are shipped, deployed on nodes that only say they have GPUs.

Ray shares out what nodes declare, so that GPU shares, labels and node counts are real here; the detectors find no CUDA
and run on the CPU.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from deployed import ROOT, Service, wait_for
from postgres_server import postgres
from ray_head import free_ports, running_head, running_node

from detectors.store import load_available
from preprocessing.inputs import FaceInput

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]


def shipped(name: str, **args: Any) -> dict[str, Any]:
    """A file of serve/config, with the addresses of this machine."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "serve/config" / f"{name}.yaml").read_text())
    found["applications"][0]["args"] |= args
    found["applications"][0]["args"]["gateway"]["min_free_bytes"] = 0
    return found


def test_the_files_for_a_gpu_and_for_a_cluster_run_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pictures = {name for name, one in load_available().items() if isinstance(one.detector.input, FaceInput)}
    (port,) = free_ports(1)
    with (
        postgres() as database,
        # It has room for everything, and no label: with the cluster's file nothing may come here.
        running_head(tmp_path / "head.log", 16, "--num-gpus=1") as head,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http,
    ):
        service = Service(head, tmp_path, port, http)

        def detectors() -> set[str]:
            result = service.result(service.post().headers["location"])
            assert not result["incomplete"], result["warnings"]
            (face,) = result["faces"]
            return {name for name, found in face["detectors"].items() if found["status"] == "ok"}

        service.deploy(shipped("gpu", storage=str(tmp_path / "one")))
        wait_for(service.ready, 240, "gpu.yaml does not answer")
        assert detectors() == pictures
        (unlabelled,) = set.union(*service.nodes_of().values())
        with (
            running_node(head, tmp_path / "media.log", "--labels=role=media", "--num-cpus=16"),
            running_node(head, tmp_path / "gpu.log", "--labels=role=serve", "--num-cpus=8", "--num-gpus=1"),
        ):
            many = shipped("cluster", storage=str(tmp_path / "many"), store=database)
            service.deploy(many)
            wait_for(lambda: service.status()[0] == "RUNNING" and service.ready(), 500, "cluster.yaml does not answer")
            assert detectors() == pictures
            nodes = service.nodes_of()
            assert unlabelled not in set.union(*nodes.values()) and len(set.union(*nodes.values())) == 2
            with_gpu, without = nodes["Group-frame_cnn"], nodes["Tracking"]
            assert len(with_gpu) == len(without) == 1 and with_gpu != without
            assert nodes["Group-xception"] == with_gpu and nodes["Group-mesonet"] == nodes["Gateway"] == without
