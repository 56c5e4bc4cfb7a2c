"""Configs and the launcher's refusals; that the graph then runs is tests/e2e/test_graph.py's."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from preprocessing.settings import Settings
from serve.access import Tokens
from serve.deployments import Landmarks, Tracking
from serve.launch import LAPTOP, Config, LaunchError, check_port, check_public, check_ray, read_config, start
from serve.settings import GatewayArgs, GraphArgs, LandmarkArgs, TrackingArgs, lowered


def test_the_laptop_config_is_one_that_serve_and_the_launcher_take() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = read_config(LAPTOP)
    assert (config.host, config.port) == ("127.0.0.1", 8000) and set(config.args.groups) == {"detectors"}
    schema = ServeDeploySchema.model_validate(yaml.safe_load(LAPTOP.read_text()))
    assert schema.applications[0].import_path == "serve.app:build"


def test_the_application_is_bound_and_its_builder_takes_a_configs_args() -> None:
    from ray.serve import Application
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as call

    from serve.app import app, build

    assert isinstance(app, Application)
    args = {"groups": {"a": {"detectors": ["mesonet"]}, "b": {"ray_actor_options": {"num_gpus": 0.5}}}}
    assert isinstance(call(build, args), Application)
    with pytest.raises(ValueError, match="did you mean 'groups'"):
        call(build, {"group": {}})


def test_requests_that_wait_for_a_gateway_are_bounded_and_told_when_to_come_back() -> None:
    from ray import serve

    options = GatewayArgs(max_queued_requests=7).options()
    gateway = serve.deployment(GatewayArgs).options(**options)
    assert gateway.max_queued_requests == 7
    refused = gateway.backpressure_config
    assert (refused.status_code, refused.retry_after_s) == (503, 10)


def test_a_taken_port_is_said_before_ray_starts() -> None:
    import ray

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LaunchError, match=f"port {port} is in use by another program; choose another with --port"):
            check_port("127.0.0.1", port)
        with pytest.raises(LaunchError, match="in use"), start(read_config(), port=port):
            pass
    assert not ray.is_initialized()
    check_port("127.0.0.1", port)


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(LaunchError, match=r"192\.0\.2\.250"):
        check_port("192.0.2.250", 8000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("applications: [{import_path: 'serve.app:build', args: {gatewy: {}}}]", "did you mean 'gateway'"),
        ("applications: [{import_path: 'serve.app:build', args: {groups: {}}}]", "groups is empty"),
        ("applications: [{import_path: 'serve.app:build', args: {gateway: {max_ongoing_requests: 5}}}]", "no room"),
        ("applications: [{import_path: 'other:app'}]", "serve.app:build"),
        ("applications: []", "no Serve config"),
        ("a: [", "no Serve config"),
        ("just text", "no Serve config"),
        ("applications: [{import_path: 'serve.app:build', deployments: []}]", "put the options"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(LaunchError, match=words) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_a_detector_belongs_to_one_group() -> None:
    groups = {"a": {"detectors": ["x"]}, "b": {"detectors": ["x"]}}
    with pytest.raises(ValueError, match="in more than one group: x"):
        GraphArgs.model_validate({"groups": groups})
    with pytest.raises(ValueError, match="only one group"):
        GraphArgs.model_validate({"groups": {"a": {}, "b": {}}})
    args = GraphArgs.model_validate({"groups": {"a": {"detectors": ["x"]}, "rest": {}}})
    assert args.named_elsewhere("rest") == {"x"} and args.named_elsewhere("a") == frozenset()


def test_a_request_keeps_the_operators_values_where_it_names_none() -> None:
    operator = Settings.model_validate(
        {"detectors": ["mesonet"], "limits": {"max_bytes": 5}, "tracking": {"samples": 8, "max_faces": 3}}
    )
    assert lowered(Settings(), operator) == operator
    wanted = lowered(Settings.model_validate({"tracking": {"box_every": 1, "max_faces": 2}}), operator)
    assert wanted.tracking.samples == 8 and wanted.tracking.box_every == 1 and wanted.tracking.max_faces == 2
    assert wanted.limits == operator.limits and wanted.detectors == ("mesonet",)


def test_a_public_address_without_tokens_is_refused_before_ray_starts(tmp_path: Path) -> None:
    config = Config(GraphArgs(storage=tmp_path), "0.0.0.0", 8000)
    with pytest.raises(LaunchError, match="unmask tokens add"), start(config):
        pass
    Tokens(tmp_path / "tokens.json").add("ann", "analyst")
    check_public("0.0.0.0", tmp_path)
    (tmp_path / "tokens.json").write_text("[{]")
    with pytest.raises(LaunchError, match="damaged"):
        check_public("192.0.2.1", tmp_path)


@pytest.fixture
def unfiltered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a filter of system calls; the folder of a service with a token."""
    monkeypatch.setattr("serve.launch.filters_calls", lambda: False)
    Tokens(tmp_path / "tokens.json").add("ann", "analyst")
    return tmp_path


def test_strangers_files_are_not_decoded_where_nothing_confines_it(unfiltered: Path) -> None:
    with pytest.raises(LaunchError, match="cannot confine"):
        check_public("0.0.0.0", unfiltered)
    check_public("127.0.0.1", unfiltered)


@pytest.mark.parametrize("part", [lambda: Tracking(TrackingArgs()), lambda: Landmarks(LandmarkArgs())])
def test_no_node_that_decodes_is_without_confinement(
    unfiltered: Path, monkeypatch: pytest.MonkeyPatch, part: Callable[[], object]
) -> None:
    monkeypatch.setattr("serve.launch.listens_on", lambda: ("0.0.0.0", 8000))
    with pytest.raises(LaunchError, match="cannot confine"):
        part()


def test_a_public_address_asks_for_tokens_of_ray_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tokens(tmp_path / "tokens.json").add("ann", "analyst")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with (
        pytest.raises(LaunchError, match="RAY_AUTH_MODE=token"),
        start(Config(GraphArgs(storage=tmp_path), "0.0.0.0", 8000)),
    ):
        pass
    check_ray("0.0.0.0", tokens=True)
    check_ray("127.0.0.1", tokens=False)


def test_a_cluster_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    import ray

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = Config(GraphArgs(storage=tmp_path), "127.0.0.1", 8000)
        with pytest.raises(LaunchError, match=f"no Ray cluster answers at {address}"), start(config, address=address):
            pass
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_found_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(address: str, **_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("serve.launch.prepare_environment", lambda: None)
    config = Config(GraphArgs(storage=tmp_path), "127.0.0.1", 8000)
    with pytest.raises(LaunchError, match="at auto: Could not find"), start(config, address="auto"):
        pass
