"""Start the graph on a Ray instance of its own, and end that one alone."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from preprocessing.media import filters_calls
from serve.access import Tokens
from serve.settings import GraphArgs, plain

LAPTOP = Path(__file__).parent / "config" / "laptop.yaml"
OBJECT_STORE_BYTES = 1024**3
APPLICATION = "unmask"


class LaunchError(Exception):
    """Why the graph cannot be started, in words for the person who asked for it."""


@dataclass(frozen=True)
class Config:
    """A Serve config as far as it is used here."""

    args: GraphArgs
    host: str
    port: int


@dataclass(frozen=True)
class Running:
    """A graph that answers."""

    url: str
    storage: Path


def read_config(path: Path = LAPTOP) -> Config:
    """Args and HTTP options of a Serve config. Raises LaunchError that names the file and the key."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        applications = content["applications"]
        application = applications[0]
        http = content.get("http_options", {})
        args = application.get("args", {})
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path} is no Serve config with an application: {error}") from None
    if len(applications) != 1 or application.get("import_path") != "serve.app:build":
        raise LaunchError(f"{path}: one application with import_path serve.app:build is expected")
    if "deployments" in application:
        raise LaunchError(f"{path}: put the options of deployments into args (see serve/settings.py), not deployments")
    try:
        return Config(GraphArgs.model_validate(args), str(http.get("host", "127.0.0.1")), int(http.get("port", 8000)))
    except ValidationError as error:
        raise LaunchError(f"{path}: args.{plain(error)}") from None


def check_port(host: str, port: int, option: str = "--port") -> None:
    """Raises LaunchError where no server can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LaunchError(f"port {port} is in use by another program; choose another with {option}") from None
        raise LaunchError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def is_public(host: str) -> bool:
    """Whether other machines may reach what listens there."""
    return host not in ("localhost", "127.0.0.1", "::1")


def check_confined(host: str) -> None:
    """Raises LaunchError where strangers' files would be decoded on a machine that cannot confine what decodes them."""
    if is_public(host) and not filters_calls():
        raise LaunchError(
            f"other machines could reach {host}, and this one cannot confine what decodes their files (it needs Linux"
            " on x86-64 or aarch64, with seccomp): listen on 127.0.0.1"
        )


def check_cluster(address: str) -> None:
    """Raises LaunchError where nothing listens at the address of a cluster, for which Ray itself takes minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # auto
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise LaunchError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


def check_public(host: str, folder: Path) -> None:
    """Raises LaunchError where other machines could reach a service that has no tokens, or cannot confine codecs."""
    if not is_public(host):
        return
    check_confined(host)
    try:
        found = Tokens(folder / "tokens.json").cards()
    except ValueError as error:
        raise LaunchError(str(error)) from None
    if not found:
        raise LaunchError(
            f"other machines could reach {host}, and there are no tokens: make one with `unmask tokens add NAME`, or"
            " listen on 127.0.0.1"
        )


def check_ray(host: str, tokens: bool) -> None:
    """Raises LaunchError where other machines may reach the service and Ray takes commands without a token."""
    if is_public(host) and not tokens:
        raise LaunchError(
            f"other machines could reach {host}, and Ray runs what anybody sends it: start every node with"
            " RAY_AUTH_MODE=token in its environment, or listen on 127.0.0.1"
        )


def check_nodes(args: GraphArgs) -> None:
    """Raises LaunchError on a cluster of several nodes whose parts would each have a folder and queue of their own.

    Those that are there now: a node that joins later is seen when the next gateway starts.
    """
    import ray

    nodes = [one for one in ray.nodes() if one["Alive"] and one["Resources"].get("CPU")]
    if len(nodes) > 1 and not (args.store and args.shared_storage):
        raise LaunchError(
            f"this cluster has {len(nodes)} nodes: they need store (PostgreSQL) and a storage that all of them see"
            " (shared_storage: true), else what one keeps the others do not find"
        )


@contextmanager
def start(
    config: Config,
    *,
    host: str | None = None,
    port: int | None = None,
    address: str | None = None,
    dashboard_port: int | None = None,
    num_cpus: int | None = None,
) -> Iterator[Running]:
    """Run the graph for as long as the context lasts; when it is entered, the graph answers.

    Starts a local Ray instance of its own, whatever RAY_ADDRESS says; `address` joins that cluster instead, where only
    the application is removed at the end. `dashboard_port` turns Ray's dashboard on. Raises LaunchError.
    """
    asked = (host, port)
    host, port = host or config.host, port or config.port
    check_public(host, config.args.folder)
    if address is None:
        check_ray(host, os.environ.get("RAY_AUTH_MODE", "token") == "token")
        check_port(host, port)
    else:
        check_cluster(address)
    if dashboard_port is not None:
        check_port("127.0.0.1", dashboard_port, "--dashboard-port")
    prepare_environment()
    import ray
    from ray import serve as rayserve

    from serve.app import build

    deployed = False
    if ray.is_initialized():
        raise LaunchError("this process is connected to a Ray instance already")
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        _connect(ray, address, dashboard_port, num_cpus)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray's own would end this process without the clean-up below
                signal.signal(number, handler)
        _quieten_loggers()
        rayserve.start(http_options={"host": host, "port": port}, logging_config=_serve_logging())
        host, port = listens_on()  # where Serve ran on that cluster before, it stays where it is
        for wanted, found, option in zip(asked, (host, port), ("--host", "--port"), strict=True):
            if wanted is not None and wanted != found:
                raise LaunchError(f"Serve on that cluster listens on {host}:{port}: leave {option} out, or give that")
        deployed = True
        rayserve.run(build(config.args), name=APPLICATION, route_prefix="/", logging_config=_serve_logging())
        yield Running(f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}", config.args.folder)
    except RuntimeError as error:
        raise LaunchError(f"the graph did not start: {_last_line(error)}") from error
    finally:
        if ray.is_initialized():
            # Ray prints there that its controller died, which is what was asked for.
            with contextlib.redirect_stdout(io.StringIO()):
                if address is None:
                    rayserve.shutdown()
                elif deployed:
                    rayserve.delete(APPLICATION)
                ray.shutdown()


def listens_on() -> tuple[str, int]:
    """Where Serve's proxies answer, whichever command started them."""
    from ray.serve.context import _get_global_client  # nothing public tells it

    options = _get_global_client().http_config
    return str(options.host), int(options.port)


def _connect(ray: Any, address: str | None, dashboard_port: int | None, num_cpus: int | None) -> None:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": APPLICATION}
    if address is not None:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError) as error:
            raise LaunchError(f"no Ray cluster answers at {address}: {_last_line(error)}") from error
        return
    ray.init(
        address="local",
        num_cpus=max(num_cpus or os.cpu_count() or 1, 2),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=dashboard_port is not None,
        dashboard_host="127.0.0.1",
        dashboard_port=dashboard_port,
        **options,
    )


def prepare_environment() -> None:
    """The environment of Ray, read when it is imported and by the processes that it starts: a token, no reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Ray listens on all interfaces and runs what it is sent: without a token that nobody else has, so could anyone.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # What the launcher imports must be importable in the replicas, wherever it was started from.
    root = str(Path(__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, paths)])


def _quieten_loggers() -> None:
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _serve_logging() -> dict[str, Any]:
    return {"log_level": "WARNING", "enable_access_log": False}


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def main() -> None:
    """Serve the laptop config until Ctrl-C."""
    try:
        with start(read_config()) as running:
            print(running.url, flush=True)
            signal.pause()
    except LaunchError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
