"""The graph on a real Ray: started once for this file, as `unmask serve` starts it."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from hostile import build
from local_api import portrait_video, untrained
from PIL import Image

from detectors.base import DetectorConfig
from detectors.local import LocalStages, analyse_file
from detectors.result import Analysis, AnalysisResult, FaceResult
from detectors.store import load_available, save
from preprocessing.settings import Settings
from serve.launch import Config, start
from serve.settings import GraphArgs
from serve.storage import Storage, new_id
from serve.store import Job, JobStore

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent
GOOD = ["mesonet", "lrnet"]
ANEW = {"settings": json.dumps({"detectors": GOOD}), "again": "1"}


@dataclass
class Graph:
    """The API of the running graph, its media, and two analyses that an earlier life of the server left behind."""

    http: httpx.Client
    folder: Path
    clip: Path
    portrait: Path
    waiting: str
    orphaned: str

    def post(self, path: Path, **settings: Any) -> str:
        text = Settings.model_validate({"detectors": GOOD, **settings}).model_dump_json(exclude_unset=True)
        with path.open("rb") as file:
            asked = {"settings": text, "again": "1"}
            answer = self.http.post("/v1/analyses", files={"file": (path.name, file)}, data=asked)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def ended(self, where: str, timeout_s: float = 120) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            found: dict[str, Any] = self.http.get(where).json()
            if found["status"] in ("done", "failed", "cancelled"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"still {found}")

    def result(self, where: str) -> AnalysisResult:
        found = self.ended(where)
        assert found["status"] == "done", found["error"]
        return AnalysisResult.model_validate(found["result"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def left_behind(folder: Path, media: Path) -> tuple[str, str]:
    """One analysis that waited when the server ended, one whose runner died."""
    storage, store = Storage(folder), JobStore(folder / "jobs.sqlite3")
    ids = []
    for owner in ("died", ""):
        job = Job(new_id(), media.name, Settings(detectors=("mesonet",)).model_dump_json(), time.time())
        shutil.copy(media, storage.incoming(job.id))
        storage.keep(job.id)
        store.create(job, 10)
        if owner:
            store.lease(owner, 0.01, 3)
        ids.append(job.id)
    store.close()
    return ids[1], ids[0]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder, weights = tmp_path_factory.mktemp("storage"), tmp_path_factory.mktemp("weights")
    media = tmp_path_factory.mktemp("media")
    untrained(weights)
    sys.path.insert(0, str(HERE))
    from faulty_detectors import Broken, Slow

    for cls in (Broken, Slow):
        save(
            cls(DetectorConfig()), weights, profile="compact", name=f"{cls.name}-test",
            licence="none", data="none", command="none", date="2000-01-01",
        )  # fmt: skip
    clip = portrait_video(media / "clip.mp4", frames=70, size=200)
    portrait = media / "portrait.png"
    from skimage import data

    Image.fromarray(data.astronaut()[0:256, 80:336]).save(portrait)
    waiting, orphaned = left_behind(folder, portrait)
    args = GraphArgs.model_validate(
        {
            "storage": folder,
            "modules": ["faulty_detectors"],
            "groups": {"good": {"detectors": GOOD, "threads": 1}, "faulty": {"detectors": ["broken", "slow"]}},
            "gateway": {"min_free_bytes": 0},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMASK_WEIGHTS", str(weights))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # somebody's cluster, which is none of our business
        config = Config(args, "127.0.0.1", free_port())
        with start(config) as running, httpx.Client(base_url=running.url, timeout=60) as http:
            yield Graph(http, folder, clip, portrait, waiting, orphaned)
    sys.path.remove(str(HERE))


def local_analysis(path: Path, **settings: Any) -> Analysis:
    loaded = {name: one for name, one in load_available().items() if name in GOOD}
    return analyse_file(path, LocalStages(loaded), Settings.model_validate({"detectors": GOOD, **settings}))


def local_result(path: Path, **settings: Any) -> AnalysisResult:
    return local_analysis(path, **settings).result


def assert_same(one: FaceResult, other: FaceResult, tolerance: float) -> None:
    assert set(one.detectors) == set(other.detectors)
    np.testing.assert_allclose(one.box, other.box, atol=tolerance)
    for name, score in one.detectors.items():
        twin = other.detectors[name]
        assert (score.status, score.reason, score.weights) == (twin.status, twin.reason, twin.weights)
        if score.score is not None:
            assert twin.score is not None and abs(score.score - twin.score) <= tolerance
            assert score.logit is not None and twin.logit is not None and abs(score.logit - twin.logit) <= tolerance
        np.testing.assert_allclose(
            [s.score for s in score.frame_scores], [s.score for s in twin.frame_scores], atol=tolerance
        )
        assert [(h.frame, h.crop) for h in score.heatmaps] == [(h.frame, h.crop) for h in twin.heatmaps]


def test_every_part_of_the_graph_is_ready(graph: Graph) -> None:
    answer = graph.http.get("/readyz").json()
    assert answer["status"] == "ok"
    assert set(answer["parts"]) == {"gateway", "runner", "tracking", "landmarks", "group good", "group faulty"}
    cards = {card["name"]: card for card in graph.http.get("/v1/detectors").json()}
    assert set(cards) == {*GOOD, "broken", "slow"} and cards["mesonet"]["licence"] == "Apache-2.0"
    assert graph.http.get("/openapi.json").status_code == 200


def test_the_ports_of_replicas_answer_nobody_without_the_token(graph: Graph) -> None:
    import grpc

    asked = 0
    for name in ("Gateway", "Runner", "Group-good"):
        listening = [c.laddr.port for c in replica(name).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening
        for port in listening:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refusal:
                channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=20)
            asked += refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert refusal.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
    assert asked >= 3


@pytest.mark.parametrize("kind", ["clip", "portrait"])
def test_the_graph_and_the_process_give_the_same_result(graph: Graph, kind: str) -> None:
    path: Path = getattr(graph, kind)
    where, here = graph.post(path), local_analysis(path)
    through, alone = graph.result(where), here.result
    assert through.media == alone.media and through.verdict == alone.verdict
    assert len(through.faces) == len(alone.faces) == 1
    assert_same(through.faces[0], alone.faces[0], 1e-4)
    statuses = {name: score.status for name, score in through.faces[0].detectors.items()}
    assert statuses["mesonet"] == "ok"
    assert (statuses["lrnet"] == "not_applicable") == (kind == "portrait")
    assert bool(through.faces[0].detectors["lrnet"].heatmaps) == (kind == "clip")
    for name, data in here.artifacts.items():
        theirs = graph.http.get(f"{where}/artifacts/{name}").content
        if name.endswith(".npz"):
            tracks = [np.load(io.BytesIO(one)) for one in (data, theirs)]
            assert tracks[0].files == tracks[1].files
            for key in tracks[0].files:
                np.testing.assert_allclose(tracks[1][key], tracks[0][key], atol=1e-4, err_msg=f"{name} {key}")
            continue
        pixels = (np.asarray(Image.open(io.BytesIO(one)), np.int16) for one in (data, theirs))
        np.testing.assert_allclose(*pixels, atol=1 if name.endswith(".png") else 3, err_msg=name)


def test_analyses_that_share_a_batch_do_not_change_each_other(graph: Graph) -> None:
    alone = graph.result(graph.post(graph.clip, detectors=["mesonet"]))
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda path: graph.post(path, detectors=["mesonet"]), [graph.clip, graph.portrait] * 2))
    together = [graph.result(place) for place in places]
    for other in (together[0], together[2]):
        assert_same(other.faces[0], alone.faces[0], 1e-5)
    assert_same(together[1].faces[0], together[3].faces[0], 1e-5)


def test_a_failing_and_a_late_detector_are_named_and_the_others_answer(graph: Graph) -> None:
    from faulty_detectors import SLEEP_S

    start_s = time.monotonic()
    where = graph.post(graph.portrait, detectors=["mesonet", "broken", "slow"], detector_deadline_s=6)
    result = graph.result(where)
    assert time.monotonic() - start_s < SLEEP_S - 10
    found = result.faces[0].detectors
    assert found["mesonet"].status == "ok" and found["mesonet"].score is not None
    assert found["broken"].status == "failed" and "broken on purpose" in found["broken"].reason
    assert "Traceback" not in found["broken"].reason and "ray::" not in found["broken"].reason
    assert found["slow"].status == "timeout" and "6 s" in found["slow"].reason
    assert {"detector_failed", "detector_timeout"} <= {warning.code for warning in result.warnings}
    # The slow one still sleeps; its neighbours in the graph do not wait for it.
    assert graph.result(graph.post(graph.portrait)).faces[0].detectors["mesonet"].status == "ok"


def test_analyses_of_an_earlier_life_are_finished(graph: Graph) -> None:
    for job_id, attempts in ((graph.waiting, 1), (graph.orphaned, 2)):
        found = graph.ended(f"/v1/analyses/{job_id}")
        assert (found["status"], found["attempts"]) == ("done", attempts)


def test_progress_is_told_and_pictures_are_there(graph: Graph) -> None:
    where = graph.post(graph.clip)
    with graph.http.stream("GET", where + "/events") as answer:
        text = "".join(answer.iter_text())
    assert '"stage":"tracking"' in text
    assert text.rstrip().rsplit("event: ", 1)[1].startswith("end") and '"status":"done"' in text
    face = graph.result(where).faces[0]
    for name in (face.thumbnail, face.detectors["mesonet"].heatmaps[0].map):
        picture = graph.http.get(f"{where}/artifacts/{name}")
        assert picture.status_code == 200 and picture.headers["content-type"].startswith("image/")
        assert picture.headers["x-content-type-options"] == "nosniff"
    assert graph.http.delete(where).status_code == 204
    assert graph.http.get(where).status_code == 404


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("text", 415, "unsupported"), ("png_huge", 413, "too_large"), ("no_index", 422, "undecodable"),
     ("broken_stream", 202, "undecodable"), ("noise_video", 202, None)],
)  # fmt: skip
def test_hostile_files_are_answered_by_name(
    graph: Graph, tmp_path: Path, kind: str, status: int, code: str | None
) -> None:
    path = build(kind, tmp_path)
    with path.open("rb") as file:
        answer = graph.http.post("/v1/analyses", files={"file": (path.name, file)})
    assert answer.status_code in (status, 422 if status == 202 and code else status), answer.text
    if answer.status_code == 202:
        found = graph.ended(answer.headers["location"])
        if code is None:
            assert found["result"]["verdict"] == "no_face"
            return
        error = found["error"]
    else:
        error = answer.json()["error"]
    assert error["code"] == code and error["reason"] and "Traceback" not in str(error)


def stored_bytes() -> int:
    """What lies in Ray's object store."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.object_store_bytes_used)


def test_a_long_clip_does_not_fill_the_object_store(graph: Graph, tmp_path: Path) -> None:
    before = stored_bytes()
    where = graph.post(portrait_video(tmp_path / "long.mp4", frames=500, size=160), detectors=["mesonet"])
    most = 0
    while graph.http.get(where).json()["status"] in ("queued", "running"):
        most = max(most, stored_bytes())
        time.sleep(0.3)
    result = graph.result(where)
    assert result.media.frames_analysed == 500
    # All chunks together: 500 crops of at least 100 x 100 x 3.
    assert before < most < before + 150 * 2**20
    until = time.monotonic() + 30
    while stored_bytes() > before + 2**20 and time.monotonic() < until:
        time.sleep(0.2)
    assert stored_bytes() <= before + 2**20


def decoders(job: str) -> list[psutil.Process]:
    """The decoding processes that have a file of the analysis open; the nursery that forks them has none."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "preprocessing.media.nursery" in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                found += [process] if any(job in file.path for file in process.open_files()) else []
    return found


def test_deleting_a_running_analysis_ends_its_decoder(graph: Graph, tmp_path: Path) -> None:
    where = graph.post(portrait_video(tmp_path / "long.mp4", frames=1500, size=160))
    until = time.monotonic() + 60
    while "0.0" in (share := str(graph.http.get(where).json()["progress"]["share"]))[:3] and time.monotonic() < until:
        time.sleep(0.05)
    mine = decoders(where.rsplit("/", 1)[1])
    assert mine, share
    assert graph.http.delete(where).status_code == 204
    _, alive = psutil.wait_procs(mine, timeout=10)
    assert not alive
    assert graph.ended(where)["status"] == "cancelled"
    media = [path for path in graph.folder.rglob(where.rsplit("/", 1)[1]) if path.exists()]
    assert not media


def _cmdline(process: psutil.Process | None) -> list[str]:
    try:
        return process.cmdline() if process else []
    except psutil.Error:
        return []


def replica(name: str) -> psutil.Process:
    for child in psutil.Process().children(recursive=True):
        if f"ServeReplica:unmask:{name}" in " ".join(_cmdline(child)):
            return child
    raise AssertionError(f"no replica of {name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Landmarks", "Tracking", "Runner"])
def test_an_analysis_survives_the_death_of_a_part(graph: Graph, tmp_path: Path, name: str) -> None:
    where = graph.post(portrait_video(tmp_path / "long.mp4", frames=900, size=160), detectors=["mesonet"])
    until = time.monotonic() + 60
    while graph.http.get(where).json()["progress"]["share"] < 0.1 and time.monotonic() < until:
        time.sleep(0.05)
    replica(name).kill()
    found = graph.ended(where, 240)
    assert found["status"] == "done" and found["result"]["faces"]
    # Landmarks hold nothing of an analysis between two chunks: killed there, the next call finds a new replica.
    assert found["attempts"] >= (1 if name == "Landmarks" else 2)


def test_events_of_many_clients_leave_room_for_uploads(graph: Graph, tmp_path: Path) -> None:
    where = graph.post(portrait_video(tmp_path / "long.mp4", frames=1500, size=160), detectors=["mesonet"])

    async def crowd() -> tuple[list[int], int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=graph.http.base_url, timeout=60, limits=limits) as http:
            requests = [http.build_request("GET", where + "/events") for _ in range(70)]
            answers = await asyncio.gather(*(http.send(request, stream=True) for request in requests))
            with graph.portrait.open("rb") as file:
                upload = await http.post("/v1/analyses", files={"file": ("a.png", file)}, data=ANEW)
            codes = [answer.status_code for answer in answers]
            await asyncio.gather(*(answer.aclose() for answer in answers))
            return codes, upload.status_code

    codes, upload = asyncio.run(crowd())
    assert upload == 202 and codes.count(200) == 64 and codes.count(503) == 6
    assert graph.http.delete(where).status_code == 204
    until = time.monotonic() + 20
    while graph.http.get(where + "/events").status_code == 503 and time.monotonic() < until:
        time.sleep(0.2)
    assert graph.http.get(where + "/events").status_code == 200


def test_every_part_logs_the_analysis_it_works_for(graph: Graph) -> None:
    from ray._private.worker import _global_node

    assert _global_node is not None
    where = graph.post(graph.clip)
    graph.result(where)
    analysis = where.rsplit("/", 1)[1]
    parts = {"gateway", "runner", "tracking", "landmarks", "group"}

    def lines() -> list[dict[str, Any]]:
        logs = Path(_global_node.get_logs_dir_path())  # session_latest may be another Ray's by now
        text = "\n".join(file.read_text(errors="replace") for file in logs.glob("worker-*.err"))
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and analysis in line]

    wanted = {"accepted", "analysis", "tracking", "landmarks", "calibration", "credentials", *GOOD}

    def steps() -> set[str]:
        return {line["step"] for line in lines() if "step" in line}

    until = time.monotonic() + 30
    while steps() < wanted and time.monotonic() < until:
        time.sleep(0.2)
    assert steps() == wanted and {line["part"] for line in lines()} == parts
