"""Tokens and what each may do; one's own analyses and nobody else's; limits; what is kept and for how long."""

import json
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from gateway_api import URL, Api, png, refusal
from pydantic import ValidationError
from results import face, result

from detectors.result import DetectorScore
from preprocessing.settings import MediaLimits, Settings
from serve.access import Tokens
from serve.analyses import _answered
from serve.gateway import create_app, forget_old
from serve.settings import GatewayArgs, GraphArgs
from serve.store import Job, JobStore


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    settings = Settings(limits=MediaLimits(max_bytes=256 * 1024))
    made = Api(tmp_path, GatewayArgs(max_queued=20, min_free_bytes=0), settings)
    with made.http:
        yield made
    made.store.close()


@pytest.fixture
def tokens(api: Api) -> dict[str, dict[str, str]]:
    """Headers by name: ann and bob are analysts, vera views, oda operates."""
    held = Tokens(api.folder / "tokens.json")
    roles = {"ann": "analyst", "bob": "analyst", "vera": "viewer", "oda": "operator"}
    return {name: {"Authorization": f"Bearer {held.add(name, role)}"} for name, role in roles.items()}  # type: ignore[arg-type]


def post(api: Api, headers: dict[str, str], content: bytes | None = None, **fields: str) -> Any:
    files = {"file": ("face.png", png() if content is None else content)}
    return api.http.post("/v1/analyses", files=files, data=fields, headers=headers)


def test_without_tokens_only_this_machine_is_answered(api: Api) -> None:
    assert api.http.get("/v1/analyses").status_code == 200
    forwarded = [{name: "203.0.113.7"} for name in ("x-forwarded-for", "x-real-ip", "via", "forwarded")]
    for client, headers in ((("203.0.113.7", 1), {}), *((("127.0.0.1", 1), one) for one in forwarded)):
        other = TestClient(create_app(api.services), client=client)
        assert "unmask tokens add" in refusal(other.get("/v1/analyses", headers=headers), 403, "tokens_needed")
        assert other.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_without_tokens_it_is_asked_by_the_names_of_this_machine(api: Api, host: str) -> None:
    assert api.http.get("/v1/caller", headers={"host": host}).json()["role"] == "operator"


@pytest.mark.parametrize("host", ["stranger.example", "127.0.0.1.stranger.example:8000", "[::1", "localhost.x", ""])
def test_a_strangers_name_that_leads_here_reaches_nothing_without_tokens(api: Api, host: str) -> None:
    refusal(api.http.get("/v1/analyses", headers={"host": host}), 403, "host")
    refusal(api.http.delete("/v1/analyses/" + "0" * 32, headers={"host": host}), 403, "host")
    assert api.http.get("/healthz", headers={"host": host}).status_code == 200


def test_with_tokens_the_service_has_any_name(api: Api, tokens: dict[str, dict[str, str]]) -> None:
    found = api.http.get("/v1/analyses", headers={"host": "unmask.example", **tokens["ann"]})
    assert found.status_code == 200


def test_with_tokens_everybody_needs_one(api: Api, tokens: dict[str, dict[str, str]]) -> None:
    refused = api.http.get("/v1/analyses")
    assert "Authorization: Bearer" in refusal(refused, 401, "token")
    assert refused.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer um_nothing", "Bearer ", "Basic YTpi", "um_x"):
        refusal(api.http.get("/v1/analyses", headers={"Authorization": wrong}), 401, "token")
    far = TestClient(create_app(api.services), client=("203.0.113.7", 1))
    assert far.get("/v1/analyses", headers=tokens["ann"]).status_code == 200
    assert far.get("/readyz").status_code == 200


def test_each_role_may_what_its_name_says(api: Api, tokens: dict[str, dict[str, str]]) -> None:
    assert "takes the role analyst" in refusal(post(api, tokens["vera"]), 403, "role")
    where = post(api, tokens["ann"]).headers["location"]
    assert api.http.get("/v1/analyses", headers=tokens["vera"]).json()["total"] == 0
    assert api.http.patch(where, json={"tags": ["a"]}, headers=tokens["ann"]).status_code == 200
    assert "takes the role operator" in refusal(api.http.get("/metrics", headers=tokens["ann"]), 403, "role")
    assert api.http.get("/metrics", headers=tokens["oda"]).status_code == 200


def test_a_role_holds_under_any_prefix(api: Api, tokens: dict[str, dict[str, str]]) -> None:
    """As Serve passes a request on where route_prefix is not /: the path has the prefix, root_path names it."""
    under = TestClient(create_app(api.services), root_path="/unmask", base_url=URL)
    for path in ("/metrics", "/v1/operations"):
        refusal(under.get(f"/unmask{path}", headers=tokens["ann"]), 403, "role")
        assert under.get(f"/unmask{path}", headers=tokens["oda"]).status_code == 200
    assert under.get("/unmask/healthz").status_code == 200
    assert under.get("/unmaskmetrics", headers=tokens["ann"]).status_code == 404


def test_nobody_learns_of_anothers_analysis_and_an_operator_sees_all(
    api: Api, tokens: dict[str, dict[str, str]]
) -> None:
    where = post(api, tokens["ann"]).headers["location"]
    assert api.http.get(where, headers=tokens["ann"]).json()["token"] == "ann"
    missing = refusal(api.http.get("/v1/analyses/" + "0" * 32, headers=tokens["bob"]), 404, "not_found")
    for call in (
        api.http.get(where, headers=tokens["bob"]),
        api.http.get(f"{where}/events", headers=tokens["bob"]),
        api.http.get(f"{where}/artifacts/face-1.jpg", headers=tokens["bob"]),
        api.http.get(f"{where}/media", headers=tokens["bob"]),
        api.http.patch(where, json={"tags": []}, headers=tokens["bob"]),
        api.http.delete(where, headers=tokens["bob"]),
    ):
        assert refusal(call, 404, "not_found") == missing, "in the same words as where there is none"
    assert api.http.get(f"{where}/media", headers=tokens["ann"]).content == png()
    assert api.http.get("/v1/analyses", headers=tokens["oda"]).json()["total"] == 1
    assert api.http.delete(where, headers=tokens["oda"]).status_code == 204


def test_the_same_upload_is_analysed_once_for_each_token(api: Api, tokens: dict[str, dict[str, str]]) -> None:
    first = post(api, tokens["ann"])
    again = post(api, tokens["ann"])
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {"id": first.json()["id"], "status": "queued", "reused": True}
    assert again.headers["location"] == first.headers["location"]
    others = [post(api, tokens["ann"], again="1"), post(api, tokens["bob"]), post(api, tokens["ann"], png(70, 60)),
              post(api, tokens["ann"], settings=json.dumps({"heatmaps": 1}))]  # fmt: skip
    assert all(one.status_code == 202 for one in others), [one.text for one in others]
    assert api.notified == 5


def test_the_same_upload_twice_at_once_is_one_analysis(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look for an earlier one before either is stored."""
    looked = threading.Barrier(2)

    def answered(store: JobStore, job: Job) -> None:
        assert _answered(store, job) is None
        looked.wait(10)

    monkeypatch.setattr("serve.analyses._answered", answered)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: post(api, {}), range(2)))
    assert sorted(one.status_code for one in found) == [200, 202]
    assert found[0].json()["id"] == found[1].json()["id"] and len(api.files()) == 1


def test_who_watches_does_not_wait_as_a_batch_does(api: Api) -> None:
    where = post(api, {}, priority="batch").headers["location"]
    assert post(api, {}, priority="batch").status_code == 200
    assert api.http.get(where).json()["priority"] == "batch"
    assert post(api, {}).status_code == 200
    assert api.http.get(where).json()["priority"] == "interactive"


def test_an_upload_that_finds_the_queue_full_does_not_count(api: Api) -> None:
    held = Tokens(api.folder / "tokens.json")
    headers = {"Authorization": f"Bearer {held.add('ann', 'analyst', per_minute=1)}"}
    api.services.uploads = api.services.args.max_queued
    assert [post(api, headers).status_code for _ in range(3)] == [503] * 3
    api.services.uploads = 0
    assert [post(api, headers).status_code for _ in range(2)] == [202, 429]


def test_too_many_uploads_a_minute_and_too_many_bytes_are_refused(api: Api) -> None:
    held = Tokens(api.folder / "tokens.json")
    fast = {"Authorization": f"Bearer {held.add('fast', 'analyst', per_minute=2)}"}
    small = {"Authorization": f"Bearer {held.add('small', 'analyst', max_bytes=10)}"}
    assert [post(api, fast).status_code for _ in range(2)] == [202, 200]
    refused = post(api, fast)
    refusal(refused, 429, "rate")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "delete analyses" in refusal(post(api, small), 413, "quota")
    assert len(api.files()) == 1, "what was refused is not kept"


def test_a_batch_is_said_to_be_one(api: Api) -> None:
    where = api.post(priority="batch").headers["location"]
    assert api.http.get(where).json()["priority"] == "batch"
    assert "interactive" in refusal(api.post(priority="urgent"), 422, "form")


def test_what_ended_long_ago_is_deleted(api: Api) -> None:
    job_id = api.post().json()["id"]
    api.store.lease("x", 10, 3)
    api.store.finish(job_id, "x", "{}", "real", 0.1)
    assert forget_old(api.services) == 0
    api.services.args = GatewayArgs(keep_days=1e-9, min_free_bytes=0)
    time.sleep(0.01)
    assert forget_old(api.services) == 1
    assert api.store.get(job_id) is None and api.files() == []


def test_metrics_count_by_route_and_not_by_address(api: Api) -> None:
    where = api.post().headers["location"]
    for _ in range(3):
        api.http.get(where)
    text = api.http.get("/metrics").text
    assert 'unmask_requests_total{method="GET",route="/v1/analyses/{job_id}",status="200"} 3.0' in text
    assert 'unmask_analyses{status="queued"} 1.0' in text and where.rsplit("/", 1)[1] not in text


def test_a_token_is_kept_as_a_hash_and_shown_once(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("ann", "analyst", days=1)
    assert token not in tokens.path.read_text() and stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    found = Tokens(tokens.path).find(token)
    assert found is not None and found.name == "ann" and found.expires is not None
    with pytest.raises(ValueError, match="already"):
        tokens.add("ann", "viewer")
    tokens.remove("ann")
    assert Tokens(tokens.path).find(token) is None
    with pytest.raises(ValueError, match="there are none"):
        tokens.remove("ann")


def test_a_token_that_has_run_out_is_none(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    assert tokens.find(tokens.add("ann", "analyst", days=-1)) is None


def test_damaged_tokens_let_nobody_in(api: Api) -> None:
    (api.folder / "tokens.json").write_text("[{]")
    assert "log" in refusal(api.http.get("/v1/analyses"), 503, "tokens")


def test_several_gateways_need_a_shared_store() -> None:
    with pytest.raises(ValidationError, match="PostgreSQL"):
        GraphArgs.model_validate({"gateway": {"num_replicas": 2}})
    with pytest.raises(ValidationError, match="PostgreSQL"):
        GraphArgs.model_validate({"runner": {"autoscaling": {"max_replicas": 4}}, "store": "postgresql+psycopg://x/y"})
    with pytest.raises(ValidationError, match="'sqlite' is no PostgreSQL"):
        GraphArgs.model_validate({"gateway": {"num_replicas": 8}, "store": "sqlite:////x.db", "shared_storage": True})
    shared = {"gateway": {"num_replicas": 2}, "store": "postgresql+psycopg://x/y", "shared_storage": True}
    assert GraphArgs.model_validate(shared).place == "postgresql+psycopg://x/y"


@pytest.mark.parametrize(("changes", "status"), [({}, 200), ({"incomplete": True}, 202), ({"failed": True}, 202)])
def test_an_answer_that_was_not_whole_is_not_given_again(api: Api, changes: dict[str, bool], status: int) -> None:
    job_id = post(api, {}).json()["id"]
    api.store.lease("x", 10, 3)
    broken = {"mesonet": DetectorScore(status="failed", reason="it broke")}
    faces = [face(detectors=broken)] if changes.get("failed") else None
    found = result("real", faces, incomplete=changes.get("incomplete", False))
    assert api.store.finish(job_id, "x", found.model_dump_json(by_alias=True), "real", 0.1)
    assert post(api, {}).status_code == status
