"""The API with real detectors in-process behind a real server: whole analyses, hostile files, cancellation."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hostile import KINDS, build
from local_api import portrait_video, running_api, untrained

from detectors.local import LocalStages
from detectors.result import AnalysisResult
from detectors.steps import TrackPrediction
from preprocessing.settings import MediaLimits, Settings
from serve.problems import Problem
from serve.runner import JobRunner, PartLost
from serve.settings import RunnerArgs
from serve.storage import Storage, new_id
from serve.store import Job, JobStore
from serve.uploads import _patiently

STATUS = {"unsupported": 415, "too_large": 413, "undecodable": 422}
MAX_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("api")
    settings = Settings(limits=MediaLimits(max_bytes=MAX_BYTES))
    loaded = untrained(tmp_path_factory.mktemp("weights"))
    with running_api(folder, loaded, settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def post(api: httpx.Client, path: Path) -> httpx.Response:
    with path.open("rb") as file:
        return api.post("/v1/analyses", files={"file": (path.name, file)})


def ended(api: httpx.Client, where: str, timeout_s: float = 60) -> Any:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = api.get(where).json()
        if found["status"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found}")


def decoders() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "preprocessing.media.worker" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_video_gives_a_result_whose_pictures_are_there(api: httpx.Client, tmp_path: Path) -> None:
    answer = post(api, portrait_video(tmp_path / "clip.mp4", frames=64, size=200))
    found = ended(api, answer.headers["location"])
    assert found["status"] == "done", found["error"]
    result = AnalysisResult.model_validate(found["result"])
    face = result.faces[0]
    assert result.media.name == "clip.mp4" and {"mesonet", "lrnet"} == set(face.detectors)
    pictures = [face.thumbnail, *(p for h in face.detectors["mesonet"].heatmaps for p in (h.crop, h.map))]
    assert len(pictures) > 1
    for name in pictures:
        picture = api.get(f"{answer.headers['location']}/artifacts/{name}")
        assert picture.status_code == 200 and picture.content[:2] in (b"\xff\xd8", b"\x89P")


@pytest.mark.parametrize("kind", [k for k in KINDS if k.code in STATUS], ids=lambda kind: kind.name)
def test_hostile_files_are_refused_or_fail_with_their_code(api: httpx.Client, tmp_path: Path, kind: Any) -> None:
    answer = post(api, build(kind.name, tmp_path))
    if answer.status_code == 202:  # the header was good; the pictures are not
        found = ended(api, answer.headers["location"])
        assert found["status"] == "failed"
        error = found["error"]
    else:
        error = answer.json()["error"]
        assert answer.status_code == STATUS[kind.code]
    assert error["code"] == kind.code and len(error["reason"]) > 5
    assert "Traceback" not in str(error) and "Error(" not in str(error)


def test_an_endless_upload_is_stopped_at_the_limit(api: httpx.Client) -> None:
    url = httpx.URL(api.base_url)
    sent, head = 0, b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    with closing(socket.create_connection((url.host, url.port or 80), timeout=20)) as line:
        line.sendall(
            b"POST /v1/analyses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + b"%x\r\n%s\r\n" % (len(head), head)
        )
        line.setblocking(False)
        answer, block = b"", b"10000\r\n" + b"\x00" * 65536 + b"\r\n"
        until = time.monotonic() + 20
        while not answer and time.monotonic() < until:
            try:
                sent += line.send(block[sent % len(block) :])
            except BlockingIOError:
                time.sleep(0.01)
            except (ConnectionResetError, BrokenPipeError):
                pass
            with suppress(BlockingIOError):
                answer += line.recv(4096)
    assert b" 413 " in answer.split(b"\r\n")[0]
    # What the kernel's buffers hold of what was sent is not the server's.
    assert sent < MAX_BYTES + 16 * 2**20


def test_deleting_a_running_analysis_ends_its_decoder_at_once(api: httpx.Client, tmp_path: Path) -> None:
    where = post(api, portrait_video(tmp_path / "long.mp4", frames=1500, size=160)).headers["location"]
    until = time.monotonic() + 30
    while not (api.get(where).json()["progress"]["stage"] == "tracking" and decoders()) and time.monotonic() < until:
        time.sleep(0.05)
    running = decoders()
    assert running
    assert api.delete(where).status_code == 204
    assert api.get(where).json()["status"] == "cancelled"
    _, alive = psutil.wait_procs(running, timeout=8)
    assert not alive
    assert post(api, portrait_video(tmp_path / "next.mp4", frames=2, size=160)).status_code == 202


@pytest.mark.parametrize(("pause_s", "words"), [(60, "nothing came for 0.2 s"), (0.05, "more than 0.5 s")])
def test_an_upload_that_stalls_or_trickles_is_given_up(pause_s: float, words: str) -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b"a"
            await asyncio.sleep(pause_s)

    async def read() -> list[bytes]:
        return [data async for data in _patiently(slow(), 0.2, 0.5)]

    with pytest.raises(Problem, match=words) as caught:
        asyncio.run(asyncio.wait_for(read(), 10))
    assert caught.value.status == 408


class DyingStages(LocalStages):
    """Loses a part at every detection, as when a detector's process is killed each time."""

    lost = False

    async def detect(self, name: str, samples: Any, maps: int) -> TrackPrediction:
        self.lost = True
        raise PartLost("the process that ran this step died")


def test_a_part_that_dies_each_time_costs_its_answer_after_the_last_attempt(tmp_path: Path) -> None:
    loaded = {"mesonet": untrained(tmp_path / "weights")["mesonet"]}
    store, storage = JobStore(tmp_path / "jobs.sqlite3"), Storage(tmp_path)
    job = Job(new_id(), "clip.mp4", Settings().model_dump_json(), time.time())
    portrait_video(tmp_path / "clip.mp4", frames=2, size=200).rename(storage.incoming(job.id))
    storage.keep(job.id)
    store.create(job, 1)
    runner = JobRunner(store, storage, lambda job: DyingStages(loaded), RunnerArgs(max_attempts=2), "test")

    async def work() -> None:
        task = asyncio.create_task(runner.run())
        while (found := store.get(job.id)) is None or found.status in ("queued", "running"):
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 60))
    found, text = store.get(job.id), store.result(job.id)
    store.close()
    assert found is not None and (found.status, found.attempts) == ("done", 2)
    score = AnalysisResult.model_validate_json(text or "").faces[0].detectors["mesonet"]
    assert score.status == "failed" and "died" in score.reason
