"""Whatever a client sends to any route, the answer is one that the OpenAPI page promises, never a server's fault."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from gateway_api import Api, png
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from preprocessing.settings import MediaLimits, Settings
from serve.access import OPEN, Tokens
from serve.settings import GatewayArgs


class Fuzzed:
    """The API with one queued analysis, and the token that the calls carry."""

    def __init__(self, folder: Path) -> None:
        self.token = Tokens(folder / "tokens.json").add("fuzzer", "operator", per_minute=10**6)
        self.api = Api(folder, GatewayArgs(min_free_bytes=0, max_queued=10**6), Settings(limits=MediaLimits()))
        self.headers = {"Authorization": f"Bearer {self.token}"}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Fuzzed:
    return Fuzzed(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def schema(fuzzed: Fuzzed) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", fuzzed.api.http.app, headers=fuzzed.headers)


LEFT_OUT = [unsupported_method, positive_data_acceptance, negative_data_rejection]
"""The router's own 405; that valid forms are taken (what is made up is hardly a picture); that all else is refused:
unknown parameters are ignored, as HTTP does, and what a form carries is text, so that no type can be wrong in it."""
ROUTES = [
    ("POST", "/v1/analyses"), ("GET", "/v1/analyses"), ("GET", "/v1/analyses/{job_id}"),
    ("PATCH", "/v1/analyses/{job_id}"), ("DELETE", "/v1/analyses/{job_id}"), ("GET", "/v1/analyses/{job_id}/events"),
    ("GET", "/v1/analyses/{job_id}/artifacts/{name}"), ("GET", "/v1/analyses/{job_id}/media"),
    ("GET", "/v1/detectors"), ("GET", "/v1/settings"),
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/v1/operations"), ("GET", "/v1/caller"),
]  # fmt: skip


def test_every_route_is_in_the_list(schema: Any) -> None:
    found = {(one.ok().method.upper(), one.ok().path) for one in schema.get_all_operations()}
    assert found == set(ROUTES)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_any_request_is_answered_as_promised(
    method: str, path: str, mode: GenerationMode, schema: Any, fuzzed: Fuzzed
) -> None:
    strategy = schema[path][method].as_strategy(generation_mode=mode)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=strategy)
    def every(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=fuzzed.headers, excluded_checks=LEFT_OUT)

    try:
        every()
    except Unsatisfiable:
        assert path in OPEN  # they take nothing that could be wrong


def test_after_all_that_the_service_still_works(fuzzed: Fuzzed) -> None:
    answer = fuzzed.api.http.post("/v1/analyses", files={"file": ("a.png", png())}, headers=fuzzed.headers)
    assert answer.status_code == 202
    assert fuzzed.api.http.get("/v1/analyses", headers=fuzzed.headers).json()["total"] >= 1


def test_a_second_upload_of_the_same_is_answered_as_the_page_says(fuzzed: Fuzzed, schema: Any) -> None:
    answers = [fuzzed.api.http.post("/v1/analyses", files={"file": ("a.png", png())}, headers=fuzzed.headers)]
    answers.append(fuzzed.api.http.post("/v1/analyses", files={"file": ("b.png", png())}, headers=fuzzed.headers))
    assert answers[1].status_code == 200 and answers[1].json()["reused"]
    assert "200" in schema["/v1/analyses"]["POST"].definition.raw["responses"]
