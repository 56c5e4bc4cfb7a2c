"""`unmask serve`, `unmask ui` and `unmask demo`: start the API and the pages, and end what was started."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ui.children import Children, Stopped, stop_on_signals
from ui.client import ApiError, Client
from ui.errors import UsageError
from ui.gradio_limits import PASSWORD, ask_password
from ui.samples import samples
from ui.words import VERDICTS, score_with_interval

HOST = "127.0.0.1"
START_S = 240.0
DASHBOARD = Path(__file__).parent / "dashboard" / "app.py"


def serve(host: str | None, port: int | None, config: Path | None, address: str | None) -> int:
    """Run the API until it is stopped; exit status."""
    from serve.launch import LAPTOP, LaunchError, read_config, start

    stop_on_signals()
    try:
        with start(read_config(config or LAPTOP), host=host, port=port, address=address) as running:
            print(f"API: {running.url} (documented at {running.url}/docs); Ctrl-C ends it", flush=True)
            threading.Event().wait()
    except LaunchError as error:
        raise UsageError(str(error)) from None
    except Stopped:
        print("The API has ended.", file=sys.stderr, flush=True)
    return 0


def pages(api: str, dashboard_port: int, gradio_port: int, share: bool, hosted: bool = False) -> int:
    """Run both pages against an API until they are stopped; exit status. Raises UsageError."""
    password = ask_password() if share else ""
    _check_ports({"--dashboard-port": dashboard_port, "--gradio-port": gradio_port})
    with Client(api) as client:
        if not client.ready():
            print(f"unmask: nothing answers at {api} yet; the pages say so until it does", file=sys.stderr)
    stop_on_signals()
    with Children() as children:
        try:
            start_pages(children, api, dashboard_port, gradio_port, share, hosted, password)
            await_pages(children, dashboard_port, gradio_port)
            _print_pages(dashboard_port, gradio_port)
            return _ended(children.wait())
        except Stopped:
            print("Ending the pages ...", file=sys.stderr, flush=True)
    return 0


def demo(
    api_port: int, dashboard_port: int, gradio_port: int, share: bool, address: str | None, config: Path | None
) -> int:
    """Start everything, analyse the sample, print verdict and addresses, wait; exit status. Raises UsageError."""
    password = ask_password() if share else ""
    ports = {"--api-port": api_port, "--dashboard-port": dashboard_port, "--gradio-port": gradio_port}
    _check_ports(ports)
    api = f"http://{HOST}:{api_port}"
    begun = time.monotonic()
    stop_on_signals()
    with Children() as children, Client(api) as client:
        try:
            print("Starting the API, the dashboard and the Gradio demo ...", flush=True)
            command = [sys.executable, "-m", "ui.cli", "serve", "--host", HOST, "--port", str(api_port)]
            command += ["--config", str(config)] if config else []
            command += ["--address", address] if address else []
            # On SIGTERM Ray reports a crash before it ends.
            children.start("the API", command, {}, quiet=True, stop=signal.SIGINT)
            start_pages(children, api, dashboard_port, gradio_port, share, password=password)
            _await_until(children, client.ready, "the API")
            await_pages(children, dashboard_port, gradio_port)
            print(f"Up after {time.monotonic() - begun:.0f} s.", flush=True)
            _analyse_sample(client)
            print(f"API             {api}/docs")
            _print_pages(dashboard_port, gradio_port)
            return _ended(children.wait())
        except Stopped:
            print("\nEnding everything that was started ...", file=sys.stderr, flush=True)
    return 0


def _check_ports(ports: dict[str, int]) -> None:
    from serve.launch import LaunchError, check_port

    if len(set(ports.values())) < len(ports):
        raise UsageError("two of the ports are the same", f"give {', '.join(ports)} different ones")
    for option, port in ports.items():
        try:
            check_port(HOST, port, option)
        except LaunchError as error:
            raise UsageError(str(error)) from None


def start_pages(
    children: Children,
    api: str,
    dashboard_port: int,
    gradio_port: int,
    share: bool,
    hosted: bool = False,
    password: str = "",
) -> None:
    """Start the dashboard and the Gradio demo against an API; `hosted` puts the demo under the limits for strangers,
    `password` asks its visitors."""
    streamlit = [sys.executable, "-m", "streamlit", "run", str(DASHBOARD)]
    options = {
        "server.port": dashboard_port,
        "server.address": HOST,
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
        "logger.level": "error",
    }
    streamlit += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    children.start("the dashboard", streamlit, {"UNMASK_API": api}, quiet=True)
    gradio = [sys.executable, "-m", "ui.gradio_demo", "--api", api, "--port", str(gradio_port)]
    gradio += ["--share"] if share else []
    gradio += ["--hosted"] if hosted else []
    environment = {"GRADIO_ANALYTICS_ENABLED": "False"} | ({PASSWORD: password} if password else {})
    children.start("the Gradio demo", gradio, environment, quiet=not share)


def await_pages(children: Children, dashboard_port: int, gradio_port: int) -> None:
    """Until both answer. Raises UsageError where one ends or takes too long."""
    import httpx

    def answers(url: str) -> bool:
        try:
            return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    _await_until(children, lambda: answers(f"http://{HOST}:{dashboard_port}/_stcore/health"), "the dashboard")
    _await_until(children, lambda: answers(f"http://{HOST}:{gradio_port}/"), "the Gradio demo")


def _await_until(children: Children, ready: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + START_S
    while not ready():
        if (found := children.ended()) is not None:
            raise UsageError(f"{found[0]} ended while it started (exit status {found[1]})", "its message is above")
        if time.monotonic() > until:
            raise UsageError(f"{what} did not answer within {START_S:g} s", "the machine may be too busy: try again")
        time.sleep(0.3)


def _analyse_sample(client: Client) -> None:
    """The sample pictures, real and pseudo-fake; a failure is said and costs nothing else."""
    for sample in samples():
        if sample.path.suffix == ".mp4":
            continue
        try:
            result = client.analyse(sample.path, sample.path.name)
        except ApiError as error:
            print(f"Sample {sample.path.name}: {error}", file=sys.stderr, flush=True)
            continue
        words = VERDICTS[result.verdict]
        said = f"{words.title}, score {score_with_interval(result)}"
        print(f"Sample {sample.path.name}, labelled {sample.label}: {said}", flush=True)


def _print_pages(dashboard_port: int, gradio_port: int) -> None:
    print(f"Dashboard       http://{HOST}:{dashboard_port}")
    print(f"Gradio demo     http://{HOST}:{gradio_port}")
    print("Ctrl-C ends everything.", flush=True)


def _ended(found: tuple[str, int]) -> int:
    print(f"unmask: {found[0]} ended by itself (exit status {found[1]}); the rest is ended too", file=sys.stderr)
    return 1
