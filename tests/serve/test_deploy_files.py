"""What is deployed around the code: the dashboard shows metrics that exist, the image is built from what is there."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from container_file import clean_environment, copied, instructions
from prometheus_names import metrics_of_the_code
from ray_head import end_group, free_ports

from detectors.store import available

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((DEPLOY / "grafana/unmask.json").read_text())
    asked = {name for panel in dashboard["panels"] for target in panel["targets"]
             for name in re.findall(r"\b(?:ray_)?unmask_\w+", target["expr"])}  # fmt: skip
    there = metrics_of_the_code()
    assert len(there) >= 10 and asked <= there, asked - there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)


def steps() -> list[tuple[str, str]]:
    """Of the container file."""
    return instructions((DEPLOY / "Dockerfile").read_text())


def lint(path: Path) -> str:
    """What hadolint finds, its hints too."""
    hadolint = Path(sys.executable).with_name("hadolint")
    assert hadolint.exists(), "the extra dev has it"
    return subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, timeout=60).stdout


def test_the_container_file_is_clean(tmp_path: Path) -> None:
    assert lint(DEPLOY / "Dockerfile") == ""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /x && pip install torch\n")
    assert {"DL3006", "DL3003", "DL3013"} <= set(re.findall(r"DL\d+", lint(tmp_path / "Dockerfile")))


def test_the_image_is_pinned_multi_stage_and_not_roots() -> None:
    instructions = steps()
    bases = [rest.split()[0] for name, rest in instructions if name == "FROM"]
    assert len(bases) == 2 and all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    last = instructions[[name for name, _ in instructions].index("FROM", 1) :]
    names = [name for name, _ in last]
    assert names.index("USER") < names.index("CMD") and dict(last)["USER"] == "10001"
    assert all("-c constraints.txt" in part for name, rest in instructions if name == "RUN"
               for part in rest.split("&&") if "pip install" in part)  # fmt: skip


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    let = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    names = set(copied(steps()))
    assert names and all((ROOT / name).exists() for name in names) and names == let
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= names


@pytest.mark.slow
@pytest.mark.e2e
def test_what_the_image_installs_serves_and_passes_its_health_check(tmp_path: Path) -> None:
    """No container engine is needed: an environment of its own has what the image would have, and nothing else."""
    programs = clean_environment(ROOT, steps(), tmp_path)
    given = dict(steps())
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    script = (
        "import serve, detectors.store as s; from serve.launch import LAPTOP, read_config; read_config(LAPTOP);"
        "from detectors.gallery import galleries; from preprocessing.blending.rendered import load_codecs;"
        "print(serve.__file__, len(s.load_available()), len(galleries()), len(load_codecs()))"
    )

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
        )

    said = run("python", "-c", script)
    assert said.returncode == 0, said.stderr[-3000:]
    place, weights, maps, codecs = said.stdout.split()
    assert place.startswith(str(tmp_path)) and int(weights) == len(available()) and int(maps) and int(codecs) == 4
    assert run("python", "-c", "import pytest").returncode != 0, "nothing but what the image has"

    (port,) = free_ports(1)
    start = [*json.loads(given["CMD"]), "--port", str(port)]
    refused = run(*start)
    assert refused.returncode != 0 and "unmask tokens add" in refused.stderr + refused.stdout
    token = run("unmask", "tokens", "add", "ann").stdout
    health = [word.replace(":8000", f":{port}") for word in json.loads(given["HEALTHCHECK"].partition("CMD")[2])]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(start, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 200
        while run(*health).returncode != 0:
            assert running.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/caller", trust_env=False)
        assert answer.status_code == 401 and "um_" in token
    finally:
        end_group(running)
