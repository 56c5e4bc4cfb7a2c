"""Every configuration that is shipped: Serve takes it, the graph takes its arguments, every detector has one place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from detectors.registry import entry, names
from detectors.store import load_available
from preprocessing.settings import Settings
from serve.launch import read_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "serve" / "config").glob("*.yaml"))
METHODS = {name for name in names() if entry(name).cls.__module__.startswith("detectors.methods.")}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_serve_and_the_graph_take_it(path: Path) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    content = yaml.safe_load(path.read_text())
    assert schema.ServeDeploySchema.model_validate(content).applications[0].name == "unmask"
    args = read_config(path).args
    named = [name for group in args.groups.values() for name in group.detectors or ()]
    assert set(named) <= METHODS
    assert any(group.detectors is None for group in args.groups.values()), "what gets weights later has a place"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_application_is_bound_with_serves_own_options(path: Path) -> None:
    pytest.importorskip("ray.serve")
    from serve.app import build

    assert build(read_config(path).args) is not None


def test_only_a_cluster_listens_to_other_machines() -> None:
    hosts = {path.stem: read_config(path).host for path in CONFIGS}
    assert hosts == {"laptop": "127.0.0.1", "gpu": "127.0.0.1", "cluster": "0.0.0.0"}


def test_a_cluster_scales_each_detector_by_itself_and_rare_ones_to_zero() -> None:
    args = read_config(ROOT / "serve/config/cluster.yaml").args
    assert args.store and args.shared_storage
    alone = {name: group for name, group in args.groups.items() if name != "others"}
    assert {name: group.detectors for name, group in alone.items()} == {name: (name,) for name in METHODS}
    assert all(group.autoscaling for group in args.groups.values())
    rare = {name for name, group in args.groups.items() if group.fewest_replicas == 0}
    assert rare == {"others"}, "what has weights is asked of every video"
    assert rare.isdisjoint(load_available())


def test_all_of_the_graph_keeps_off_nodes_that_may_be_lost_and_fits_on_those_that_are_always_there() -> None:
    args = read_config(ROOT / "serve/config/cluster.yaml").args
    parts = (args.gateway, args.runner, args.tracking, args.landmarks, *args.groups.values())
    kinds = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["available_node_types"]
    for role in ("media", "serve"):
        kind = kinds[role]
        assert kind["labels"] == {"role": role} and "InstanceMarketOptions" not in kind["node_config"]
        here = [part for part in parts if part.ray_actor_options["label_selector"] == {"role": role}]
        assert all(("num_gpus" in part.ray_actor_options) == (role == "serve") for part in here)
        for resource, asked in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
            # Rare groups too: they are asked at the start which detectors they have.
            needed = sum(part.ray_actor_options.get(asked, 0) * max(part.fewest_replicas, 1) for part in here)
            assert needed <= kind["resources"].get(resource, 0) * kind["min_workers"]
    assert {part.ray_actor_options["label_selector"]["role"] for part in parts} == {"media", "serve"}


def test_work_in_hand_may_end_before_a_replica_goes() -> None:
    args = read_config(ROOT / "serve/config/cluster.yaml").args
    assert args.gateway.options()["graceful_shutdown_timeout_s"] >= 120
    assert args.tracking.options()["graceful_shutdown_timeout_s"] >= Settings().tracking_deadline_s
    assert args.landmarks.options()["graceful_shutdown_timeout_s"] >= Settings().calibration_deadline_s
    assert args.groups["xception"].options()["graceful_shutdown_timeout_s"] >= Settings().detector_deadline_s
    # Whoever ends the program in front of them does not want to wait for a page that is open.
    assert read_config(ROOT / "serve/config/laptop.yaml").args.gateway.graceful_shutdown_timeout_s <= 5


def test_a_detector_of_the_cluster_asks_for_a_share_of_a_gpu_on_a_node_with_a_label() -> None:
    options = read_config(ROOT / "serve/config/cluster.yaml").args.groups["xception"].options()
    assert options["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 0.1, "label_selector": {"role": "serve"}}
    assert options["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 16, "target_ongoing_requests": 16}


def service() -> Any:
    return yaml.safe_load((ROOT / "deploy/kuberay/rayservice.yaml").read_text())


def test_the_kuberay_service_runs_the_clusters_config() -> None:
    spec = service()["spec"]
    assert yaml.safe_load(spec["serveConfigV2"]) == yaml.safe_load((ROOT / "serve/config/cluster.yaml").read_text())


def test_the_kuberay_service_survives_its_head() -> None:
    ray = pytest.importorskip("ray")
    found = service()
    cluster = found["spec"]["rayClusterConfig"]
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayService")
    assert cluster["rayVersion"] == ray.__version__ and cluster["authOptions"] == {"mode": "token"}
    redis = cluster["gcsFaultToleranceOptions"]
    assert redis["redisAddress"] and "secretKeyRef" in redis["redisPassword"]["valueFrom"], "no password in the file"
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    for name in ("media", "serve"):
        assert groups[name]["rayStartParams"] == {"labels": f"role={name}"}, "what label_selector asks for"
    for part in (cluster["headGroupSpec"], *groups.values()):
        pod = part["template"]["spec"]
        assert pod["securityContext"]["fsGroup"] == 10001, "the image's user may write to the claim"
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
