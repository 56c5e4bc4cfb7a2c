"""ray_cluster.yaml by Ray's own schema; the KubeRay manifests by their structure, as their CRDs are not at hand."""

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = ROOT / "deploy/kuberay"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def ray_accepts(cluster: dict[str, Any]) -> dict[str, Any]:
    """With the provider's defaults filled in, as `ray up` does before it validates."""
    util = pytest.importorskip("ray.autoscaler._private.util")
    pytest.importorskip("jsonschema")
    prepared: dict[str, Any] = util.prepare_config(copy.deepcopy(cluster))
    util.validate_config(prepared)
    return prepared


def test_ray_accepts_the_cluster_file() -> None:
    prepared = ray_accepts(read(ROOT / "ray_cluster.yaml"))
    assert prepared["provider"]["type"] == "aws" and prepared["head_node_type"] == "head"


@pytest.mark.parametrize(
    "change",
    [
        lambda cluster: cluster.update(max_wrokers=3),
        lambda cluster: cluster["available_node_types"]["train"].update(spot=True),
        lambda cluster: cluster.update(max_workers=0),
        lambda cluster: cluster.update(head_node_type="none"),
    ],
)
def test_the_validation_catches_mistakes(change: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    cluster = read(ROOT / "ray_cluster.yaml")
    change(cluster)
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        ray_accepts(cluster)


def test_every_role_has_its_machines_and_only_what_can_be_lost_is_on_spot() -> None:
    kinds = read(ROOT / "ray_cluster.yaml")["available_node_types"]
    assert set(kinds) == {"head", "prepare", "train", "media", "serve"}
    spot = {name for name, kind in kinds.items() if "InstanceMarketOptions" in kind["node_config"]}
    assert spot == {"prepare", "train"}
    assert {name for name, kind in kinds.items() if kind["resources"].get("GPU")} == {"train", "serve"}
    assert all(kind["min_workers"] <= kind["max_workers"] for kind in kinds.values())


def test_no_node_starts_ray_without_a_token() -> None:
    cluster = read(ROOT / "ray_cluster.yaml")
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [line for line in cluster[key] if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in start
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    assert read(KUBERAY / "raycluster.yaml")["spec"]["authOptions"] == {"mode": "token"}


def test_kuberay_cluster_has_the_shape_of_its_kind() -> None:
    ray = pytest.importorskip("ray")
    cluster = read(KUBERAY / "raycluster.yaml")
    spec = cluster["spec"]
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster") and cluster["metadata"]["name"]
    assert spec["rayVersion"] == ray.__version__, "the image's Ray must be that of constraints.txt"
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"prepare", "train", "serve"} and spec["enableInTreeAutoscaling"] is True
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for part in (spec["headGroupSpec"], *groups.values()):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        pod = part["template"]["spec"]
        assert pod["securityContext"]["fsGroup"] == 10001, "the image's user may write to the claim"
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert requests["memory"] == limits["memory"], "Ray counts a container's memory by its limit"
        assert limits.get("nvidia.com/gpu") == requests.get("nvidia.com/gpu")
    assert {name for name, group in groups.items() if "nvidia.com/gpu" in str(group)} == {"train", "serve"}


def test_kuberay_job_runs_a_command_that_exists_on_that_cluster() -> None:
    from train.__main__ import parser

    job = read(KUBERAY / "rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["clusterSelector"]["ray.io/cluster"] == read(KUBERAY / "raycluster.yaml")["metadata"]["name"]
    python, flag, module, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "train")
    given = parser().parse_intermixed_args(arguments)
    assert load_recipe(given.recipe).name == given.recipe
    assert given.resume and given.gpu and given.storage_path and not given.local


def test_kuberay_job_asks_for_nothing_that_a_shared_cluster_refuses() -> None:
    """By ValidateRayJobSpec of KubeRay: no retries on a cluster that is selected, no time to live without shutdown."""
    spec = read(KUBERAY / "rayjob.yaml")["spec"]
    assert spec["clusterSelector"] and not spec.get("backoffLimit")
    assert not spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes")
