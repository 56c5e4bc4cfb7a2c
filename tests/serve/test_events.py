"""Progress as server-sent events: each change once, then the end, whenever one begins to listen."""

import asyncio
import json
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gateway_api import Api, refusal
from starlette.requests import ClientDisconnect

from preprocessing.settings import Settings
from serve.analyses import EventStream
from serve.settings import GatewayArgs


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, GatewayArgs(max_event_streams=1, min_free_bytes=0), Settings())
    with made.http:
        yield made
    made.store.close()


def test_events_tell_the_changes_and_end(api: Api) -> None:
    job_id = api.post().json()["id"]
    api.store.lease("a", 60, 3)

    async def work() -> None:
        await asyncio.sleep(0.3)
        await asyncio.to_thread(api.store.beat, "a", {job_id: ("tracking", 0.5)}, 60, {job_id: {"lrnet": 0.5}})
        await asyncio.sleep(0.5)
        await asyncio.to_thread(api.store.finish, job_id, "a", "{}", "real", 0.1)

    assert api.http.portal is not None
    done = api.http.portal.start_task_soon(work)
    with api.http.stream("GET", f"/v1/analyses/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    done.result()
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert [event["event"] for event in events] == ["progress", "progress", "end"]
    seen = [json.loads(event["data"]) for event in events]
    assert [one["progress"]["stage"] for one in seen] == ["starting", "tracking", "done"]
    assert [one["progress"]["detectors"] for one in seen[:2]] == [{}, {"lrnet": 0.5}]
    assert seen[-1]["status"] == "done" and seen[-1]["verdict"] == "real"
    assert api.services.streams == 0


def test_the_end_brings_the_whole_answer_where_that_is_wanted(api: Api) -> None:
    job_id = api.post().json()["id"]
    api.store.lease("a", 60, 3)
    api.store.finish(job_id, "a", '{"verdict": "real"}', "real", 0.1)
    told = api.http.get(f"/v1/analyses/{job_id}/events", params={"result": True}).text
    assert told.startswith("event: end\ndata: ") and told.endswith("\n\n") and told.count("\n") == 3
    assert json.loads(told.splitlines()[1].removeprefix("data: ")) == api.http.get(f"/v1/analyses/{job_id}").json()


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_sees_what_was_written_before_it_began(api: Api, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the analysis and the stream's first; also where the store does not tell of writes."""
    job_id = api.post().json()["id"]
    before = api.store.get(job_id)
    assert before is not None
    if asked:
        monkeypatch.setattr(api.services.store, "_watcher", None)
        monkeypatch.setattr(api.services.store, "shared", True)
    api.store.lease("a", 60, 3)
    api.store.finish(job_id, "a", '{"verdict": "real"}', "real", 0.1)
    said: list[str] = []

    async def receive() -> dict[str, str]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message.get("body", b"").decode())

    async def hear() -> None:
        async with asyncio.timeout(5):
            await EventStream(api.services, before, whole=True)(
                {"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send
            )

    asyncio.run(hear())
    assert "event: end" in said[-2] and '"result":{"verdict": "real"}' in said[-2]


def test_event_streams_have_a_limit_of_their_own(api: Api) -> None:
    job_id = api.post().json()["id"]
    api.services.streams = 1
    answer = api.http.get(f"/v1/analyses/{job_id}/events")
    refusal(answer, 503, "overloaded")
    assert "retry-after" in answer.headers and api.post().status_code == 202
    api.services.streams = 0
    refusal(api.http.get(f"/v1/analyses/{'0' * 32}/events"), 404, "not_found")
    assert api.services.streams == 0


def test_a_client_that_leaves_before_the_first_event_holds_no_stream(api: Api) -> None:
    job = api.store.get(api.post().json()["id"])
    assert job is not None

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        assert api.services.streams == 1
        raise OSError("the client has left")

    async def leave(version: str) -> None:
        with suppress(OSError, ClientDisconnect):
            await EventStream(api.services, job)({"type": "http", "asgi": {"spec_version": version}}, receive, send)

    for version in ("2.3", "2.4"):
        asyncio.run(leave(version))
        assert api.services.streams == 0
