"""The API without a graph: what it refuses, in which words, and that nothing of a refused upload stays."""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gateway_api import Api, png, refusal

from preprocessing.settings import MediaLimits, Settings
from serve.gateway import forget_lost
from serve.settings import GatewayArgs
from serve.uploads import display_name


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    settings = Settings(limits=MediaLimits(max_bytes=256 * 1024))
    made = Api(tmp_path, GatewayArgs(max_queued=3, max_event_streams=1, min_free_bytes=0, stall_s=5), settings)
    with made.http:
        yield made
    made.store.close()


def test_an_upload_is_queued_and_has_an_address(api: Api) -> None:
    answer = api.post(name="holiday.png", tags="press, x")
    assert answer.status_code == 202
    where = answer.headers["location"]
    assert where == f"/v1/analyses/{answer.json()['id']}" and answer.json()["status"] == "queued"
    found = api.http.get(where).json()
    assert (found["name"], found["status"], found["tags"]) == ("holiday.png", "queued", ["press", "x"])
    assert found["result"] is None and found["error"] is None and api.notified == 1


def test_settings_are_stored_over_the_operators(api: Api) -> None:
    wanted = {"detectors": ["lrnet"], "tracking": {"box_every": 2}, "limits": {"max_duration_s": 10}}
    job = api.store.get(api.post(settings=json.dumps(wanted)).json()["id"])
    assert job is not None
    stored = Settings.model_validate_json(job.settings)
    assert stored.detectors == ("lrnet",) and stored.tracking.box_every == 2
    assert stored.limits.max_duration_s == 10 and stored.limits.max_bytes == 256 * 1024


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('{"detecters": []}', "did you mean 'detectors'?"),
        ('{"tracking": {"box_evry": 1}}', "did you mean 'box_every'?"),
        ('{"detectors": ["mesonnet"]}', "did you mean 'mesonet'?"),
        ('{"detectors": ["nothing"]}', "there are: mesonet, lrnet"),
        ('{"limits": {"max_bytes": 999999999}}', "limits.max_bytes: 999999999 is above this server's 262144"),
        ('{"tracking": {"max_faces": 100000}}', "tracking.max_faces"),
        ('{"detector_deadline_s": 1e9}', "can only be lowered"),
        ('{"heatmaps": "many"}', "heatmaps"),
        ("{", "not JSON"),
        ("[" * 5000, ""),
        ("[]", ""),
    ],
)
def test_wrong_settings_are_named_with_the_near_miss(api: Api, settings: str, words: str) -> None:
    assert words in refusal(api.post(settings=settings), 422, "settings")
    assert not api.files()


def test_an_upload_over_the_limit_is_413_and_leaves_nothing(api: Api) -> None:
    noise = np.random.default_rng(0).bytes(300 * 1024)
    assert "0.2 MB" in refusal(api.post(noise), 413, "too_large")
    assert not api.files() and api.services.uploads == 0


def test_a_claimed_length_over_the_limit_is_refused_before_the_body(api: Api) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(10**12)}
    refusal(api.http.post("/v1/analyses", content=b"--x", headers=headers), 413, "too_large")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 415, "unsupported"), (b"hello there", 415, "unsupported"), (png()[:40], 422, "undecodable")],
)
def test_files_that_are_no_media_are_refused_at_once(api: Api, content: bytes, status: int, code: str) -> None:
    assert len(refusal(api.post(content, "clip.mp4"), status, code)) > 10
    assert not api.files() and api.store.listing("", "", 10, 0)[1] == 0


def test_requests_that_are_no_form_are_refused_in_words(api: Api) -> None:
    assert "form field 'file'" in refusal(api.http.post("/v1/analyses", content=png()), 415, "form")
    assert "no file" in refusal(api.http.post("/v1/analyses", files={"name": (None, "x")}), 422, "form")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    refusal(api.http.post("/v1/analyses", content=b"rubbish", headers=broken), 422, "form")
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    assert "ends in the middle" in refusal(
        api.http.post("/v1/analyses", content=start + png(), headers=broken), 422, "form"
    )
    assert "did you mean 'settings'?" in refusal(api.post(setings="{}"), 422, "form")
    two = [("file", ("a.png", png())), ("file", ("b.png", png()))]
    assert "more than one file" in refusal(api.http.post("/v1/analyses", files=two), 422, "form")
    many = [(f"f{i}", (None, "x")) for i in range(9)]
    assert "more than 8 parts" in refusal(api.http.post("/v1/analyses", files=many), 422, "form")
    refusal(api.post(name="x" * 9000), 422, "form")
    refusal(api.post(settings=" " * 100_000), 413, "form")
    assert not api.files()


def test_addresses_are_not_fetched_unless_the_operator_allowed_them(api: Api) -> None:
    answer = api.http.post("/v1/analyses", files={"url": (None, "http://127.0.0.1/x.png")})
    assert "operator" in refusal(answer, 403, "url")


def test_a_full_queue_answers_503_with_the_time_to_wait(api: Api) -> None:
    for _ in range(3):
        assert api.post().status_code == 202
    took = []
    for _ in range(5):
        start = time.perf_counter()
        answer = api.post()
        took.append(time.perf_counter() - start)
    assert sorted(took)[2] < 0.1
    refusal(answer, 503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
    assert len(api.files()) == 3


def test_an_upload_under_way_takes_the_last_place_before_its_body_is_read(api: Api) -> None:
    api.services.uploads = api.services.args.max_queued
    assert "coming in" in refusal(api.post(), 503, "overloaded")
    api.services.uploads = 0
    assert api.post().status_code == 202


def test_a_name_is_for_showing_only(api: Api) -> None:
    job = api.http.get(api.post(name="../../etc/pass\u202ewd.png").headers["location"]).json()
    assert job["name"] == "passwd.png"
    assert display_name("C:\\Users\\me\\" + "x" * 300 + ".mp4") == "x" * 200
    assert display_name("a\x07\x00\nb.png") == "ab.png" and display_name("///") == "unnamed"
    assert not (api.folder.parent / "etc").exists()


def test_deleting_cancels_what_waits_and_then_forgets_it(api: Api) -> None:
    where = api.post().headers["location"]
    assert api.http.delete(where).status_code == 204
    assert api.http.get(where).json()["status"] == "cancelled" and not api.files()
    for params in ({}, {"result": "1"}):
        assert '"status":"cancelled"' in api.http.get(where + "/events", params=params).text
    assert api.http.delete(where).status_code == 204
    refusal(api.http.get(where), 404, "not_found")
    refusal(api.http.delete(where), 404, "not_found")


def test_a_done_analysis_is_deleted_whole(api: Api) -> None:
    answer = api.post()
    job_id = answer.json()["id"]
    api.store.lease("a", 60, 3)
    api.storage.write_artifacts(job_id, {"faces/1.jpg": b"x"})
    api.store.finish(job_id, "a", '{"verdict": "real"}', "real", 0.1)
    assert api.http.get(answer.headers["location"]).json()["result"] == {"verdict": "real"}
    assert api.http.delete(answer.headers["location"]).status_code == 204
    refusal(api.http.get(answer.headers["location"]), 404, "not_found")
    assert not api.files()


def test_artifacts_come_with_their_type_and_without_sniffing(api: Api) -> None:
    job_id = api.post().json()["id"]
    api.storage.write_artifacts(job_id, {"faces/1.jpg": b"jpeg", "heatmaps/mesonet/1-2.png": b"png"})
    answer = api.http.get(f"/v1/analyses/{job_id}/artifacts/faces/1.jpg")
    assert answer.content == b"jpeg" and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    answer = api.http.get(f"/v1/analyses/{job_id}/artifacts/heatmaps/mesonet/1-2.png")
    assert answer.headers["content-type"] == "image/png"
    for name in ("..%2Fmedia", "%2e%2e/media", "faces/2.jpg", "media", ""):
        assert api.http.get(f"/v1/analyses/{job_id}/artifacts/{name}").status_code == 404


def test_the_media_comes_back_as_it_was_sent_and_is_never_run(api: Api) -> None:
    job_id = api.post(png(), name="a picture.png").json()["id"]
    answer = api.http.get(f"/v1/analyses/{job_id}/media")
    assert answer.content == png() and answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    part = api.http.get(f"/v1/analyses/{job_id}/media", headers={"Range": "bytes=0-7"})
    assert part.status_code == 206 and part.content == png()[:8]
    api.storage.delete(job_id)
    refusal(api.http.get(f"/v1/analyses/{job_id}/media"), 404, "not_found")


def test_notes_are_kept_found_and_leave_the_tags_alone(api: Api) -> None:
    ids = [api.post(name=name, tags="press").json()["id"] for name in ("a.png", "b.png")]
    changed = api.http.patch(f"/v1/analyses/{ids[0]}", json={"notes": "asked the sender, 50% sure"}).json()
    assert changed["notes"] == "asked the sender, 50% sure" and changed["tags"] == ["press"]
    assert [one["id"] for one in api.http.get("/v1/analyses", params={"q": "50%"}).json()["analyses"]] == ids[:1]
    refusal(api.http.patch(f"/v1/analyses/{ids[0]}", json={"notes": "x" * 5000}), 422, "invalid")


def test_the_list_is_filtered_by_what_came_out(api: Api) -> None:
    done, waiting = (api.post(name=name).json()["id"] for name in ("a.png", "b.png"))
    leased = api.store.lease("a", 60, 3)
    assert leased is not None and leased.id == done
    api.store.finish(done, "a", "{}", "fake", 0.9)
    for outcome, found in (("fake", [done]), ("queued", [waiting]), ("real", [])):
        listed = api.http.get("/v1/analyses", params={"outcome": outcome}).json()
        assert [one["id"] for one in listed["analyses"]] == found and listed["total"] == len(found)
    refusal(api.http.get("/v1/analyses", params={"outcome": "fake'"}), 422, "invalid")


def test_the_list_is_searched_paged_and_tagged(api: Api) -> None:
    ids = [api.post(name=name).json()["id"] for name in ("a.png", "b.png")]
    assert api.http.patch(f"/v1/analyses/{ids[0]}", json={"tags": ["press"]}).json()["tags"] == ["press"]
    found = api.http.get("/v1/analyses", params={"tag": "press"}).json()
    assert found["total"] == 1 and found["analyses"][0]["id"] == ids[0]
    assert api.http.get("/v1/analyses", params={"q": "b."}).json()["analyses"][0]["id"] == ids[1]
    assert len(api.http.get("/v1/analyses", params={"limit": 1}).json()["analyses"]) == 1
    refusal(api.http.get("/v1/analyses", params={"limit": 10**6}), 422, "invalid")
    refusal(api.http.patch(f"/v1/analyses/{ids[0]}", json={"tags": ["x" * 99]}), 422, "invalid")


def test_every_answer_has_the_headers_that_keep_it_data(api: Api) -> None:
    for where in ("/healthz", "/v1/analyses", "/nothing", "/v1/analyses/not-an-id"):
        headers = api.http.get(where).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer" and headers["cross-origin-resource-policy"] == "same-site"
        assert headers["cache-control"] == "no-store", "what one token reads no cache gives to another"
        assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "content-security-policy" not in api.http.get("/docs").headers, "a page with its own scripts"


def test_unknown_addresses_and_methods_are_refused_in_the_same_shape(api: Api) -> None:
    refusal(api.http.get("/nothing"), 404, "not_found")
    refusal(api.http.put("/v1/analyses"), 405, "method")
    refusal(api.http.get("/v1/analyses/../../etc/passwd"), 404, "not_found")
    refusal(api.http.get("/v1/analyses/not-an-id"), 422, "invalid")


def test_a_fault_of_the_program_shows_no_trace(api: Api) -> None:
    for path in api.folder.glob("jobs.sqlite3*"):
        path.unlink()
    (api.folder / "jobs.sqlite3").write_bytes(b"no database " * 100)
    for _ in range(50):
        api.store.close()  # what sweeps at the start may hold a connection to the file that was there
        if (answer := api.http.get("/v1/analyses")).status_code == 500:
            break
        time.sleep(0.1)
    assert "log" in refusal(answer, 500, "internal")
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    counted = api.http.app.state.meters.text({}, 0, 0, 0).decode()  # type: ignore[attr-defined]
    assert 'unmask_requests_total{method="GET",route="/v1/analyses",status="500"} 1.0' in counted


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_and_ports_cannot_upload_or_delete(api: Api, site: str) -> None:
    where = api.post().headers["location"]
    cross = {"sec-fetch-site": site}
    refusal(api.http.delete(where, headers=cross), 403, "cross_site")
    refusal(api.http.post("/v1/analyses", files={"file": ("a.png", png())}, headers=cross), 403, "cross_site")
    assert api.http.get(where, headers=cross).status_code == 200


def test_health_readiness_and_the_description(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.http.get("/healthz").json()["status"] == "ok"
    assert api.http.get("/readyz").status_code == 200
    api.parts = {"gateway": True, "group detectors": False}
    monkeypatch.setattr("serve.gateway.READY_S", 0)
    answer = api.http.get("/readyz")
    assert answer.status_code == 503 and answer.json()["parts"]["group detectors"] is False
    described = api.http.get("/openapi.json").json()
    assert "multipart/form-data" in described["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    assert "AnalysisResult" in described["components"]["schemas"]
    assert api.http.get("/docs").status_code == 200
    assert api.http.get("/v1/settings").json()["limits"]["max_bytes"] == 256 * 1024
    assert "Settings" in described["components"]["schemas"]
    assert [card["name"] for card in api.http.get("/v1/detectors").json()] == ["mesonet", "lrnet"]


def test_readiness_is_asked_of_the_graph_once_a_second_however_many_ask(api: Api) -> None:
    asked = 0

    async def ready() -> dict[str, bool]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return {"gateway": True}

    api.services.ready = ready
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: api.http.get("/readyz").status_code, range(16)))
    assert found == [200] * 16 and asked == 1


def test_uploads_that_ended_with_their_process_are_swept(api: Api) -> None:
    storage = api.storage
    old, new = storage.incoming("0" * 32), storage.incoming("1" * 32)
    queued = api.post().json()["id"]
    lost, fresh, worked_on = "2" * 32, "3" * 32, "4" * 32
    for job_id in (lost, fresh, worked_on):
        storage.incoming(job_id).write_bytes(b"x")
        storage.keep(job_id)
    storage.write_artifacts(worked_on, {"faces/1.jpg": b"x"})
    for path in (old, new):
        path.write_bytes(b"x")
    for path in (old, *(storage.media(job_id).parent for job_id in (queued, lost, worked_on))):
        os.utime(path, (0, 0))
    assert forget_lost(api.services) == 1
    assert not old.exists() and new.exists()
    there = [storage.media(job_id).exists() for job_id in (queued, lost, fresh, worked_on)]
    assert there == [True, False, True, True], "what has an analysis, is new, or was worked on stays"
