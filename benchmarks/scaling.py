"""What a day of videos costs: replicas, cores, money, and the bottleneck, by a simulation that a measured case checks.

    python -m benchmarks.scaling                          # from benchmarks/costs.json: the check, the tables of docs
    python -m benchmarks.scaling --core-hour 0.03 ...     # with your prices

The simulation (simpy) is a network of queues: an analysis passes tracking (with decoding and landmarks), its detectors
side by side, and the service around them; each has replicas that serve one at a time, for the CPU seconds that
benchmarks.costs measured times a spread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import simpy

MEASURED = Path(__file__).with_name("costs.json")
DAYS = (10**3, 10**6, 10**8)
"""Videos a day."""
VIDEO_S = 30.0
PEAK = 2.0
"""The busiest hour's rate over the day's mean."""
BUSY = 0.7
"""Share of the time that a replica is meant to work in that hour."""
TICK_S = 0.25
"""Between the heartbeats of a running analysis (serve.runner)."""
EVERY_FRAME = ("lrnet",)
"""Detectors that read every frame, whose cost grows with the video; the others see an even sample of each track."""
SPREAD = 0.3
"""Of service times: the standard deviation of their logarithm. Videos differ; those of the measurement do not."""
SIMULATED = 2000
"""Analyses of one simulated hour at most: longer days repeat it."""


@dataclass(frozen=True)
class Prices:
    """Assumptions, of the order that large providers ask: none was measured, each is an option of the command."""

    core_hour: float = 0.04
    """US dollars for one virtual core on demand."""
    gpu_hour: float = 0.80
    """For a GPU of the class of an L4, on demand."""
    gb_month: float = 0.02
    """For a gigabyte of object storage."""
    megabytes: float = 15.0
    """Of one video: 30 s of 720p at 4 Mbit/s."""
    keep_days: float = 30.0
    """That media stay: `keep_days` of the gateway."""
    gpu_tflops: float = 30.0
    """Of the GPU, at the 32-bit precision in which the detectors run."""
    gpu_share: float = 0.35
    """Of that which a convolutional network reaches."""


@dataclass(frozen=True)
class Costs:
    """CPU seconds of one analysis by stage. `detectors` run side by side; `video_s` long was the video, 0 an image."""

    stages: Mapping[str, float]
    detectors: Mapping[str, float]
    video_s: float

    def of(self, video_s: float) -> Costs:
        """The same for a video of another length: tracking and what reads every frame grow with it."""
        factor = video_s / self.video_s
        stages = {name: seconds * (1 if name == "service" else factor) for name, seconds in self.stages.items()}
        detectors = {name: s * (factor if name in EVERY_FRAME else 1) for name, s in self.detectors.items()}
        return Costs(stages, detectors, video_s)

    @property
    def total(self) -> float:
        return sum(self.stages.values()) + sum(self.detectors.values())


@dataclass(frozen=True)
class Outcome:
    """Of a simulation: analyses a second, seconds from arrival to answer, share of the time that each stage worked."""

    throughput: float
    waits: np.ndarray
    busy: Mapping[str, float]


def simulate(
    costs: Costs, replicas: Mapping[str, int], *, rate: float | None, clients: int = 0, count: int, seed: int = 0
) -> Outcome:
    """`count` analyses: Poisson arrivals at `rate` a second, or `clients` that each send the next when one is answered.

    `replicas` by stage and detector; with the one key "cores", all share so many cores instead.
    """
    rng = random.Random(seed)
    world = simpy.Environment()
    pools = {name: simpy.Resource(world, capacity=number) for name, number in replicas.items()}
    worked: dict[str, float] = dict.fromkeys([*costs.stages, *costs.detectors], 0.0)
    waits: list[float] = []

    def serve(name: str, seconds: float) -> Generator[Any, Any, None]:
        pool = pools.get(name) or pools["cores"]
        with pool.request() as turn:
            yield turn
            spent = seconds * rng.lognormvariate(-SPREAD * SPREAD / 2, SPREAD)
            worked[name] += spent
            yield world.timeout(spent)

    def analysis() -> Generator[Any, Any, None]:
        came = world.now
        for name, seconds in costs.stages.items():
            yield world.process(serve(name, seconds))
        yield world.all_of([world.process(serve(name, seconds)) for name, seconds in costs.detectors.items()])
        waits.append(world.now - came)

    numbers = itertools.count()

    def client() -> Generator[Any, Any, None]:
        while next(numbers) < count:
            yield world.process(analysis())

    def arrivals() -> Generator[Any, Any, None]:
        assert rate is not None
        for _ in range(count):
            yield world.timeout(rng.expovariate(rate))
            world.process(analysis())

    if rate is None:
        for _ in range(clients):
            world.process(client())
    else:
        world.process(arrivals())
    world.run()
    capacity = {name: replicas.get(name) or replicas["cores"] for name in worked}
    return Outcome(
        len(waits) / world.now, np.array(waits), {name: worked[name] / (capacity[name] * world.now) for name in worked}
    )


def sized(costs: Costs, rate: float) -> dict[str, int]:
    """Replicas of each stage and detector that work BUSY of the time at `rate` a second, one at least."""
    parts = {**costs.stages, **costs.detectors}
    return {name: max(1, int(np.ceil(rate * seconds / BUSY))) for name, seconds in parts.items()}


def costs_of(measured: Mapping[str, Any], which: str) -> Costs:
    """Of "video" or "image", with what the service adds around the pipeline, which an image showed."""
    image = Costs(**measured["image"])
    around = max(measured["image_through_the_service"] - image.total, 0.0)
    found = Costs(**measured[which])
    return Costs({**found.stages, "service": around}, found.detectors, found.video_s)


def plan(costs: Costs, videos: int, prices: Prices, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What `videos` a day need: sized for the busiest hour, simulated in it, paid for by what is used."""
    rate = PEAK * videos / 86400
    replicas = sized(costs, rate)
    # A hundred million a day need too many replicas to simulate one by one: a slice with the same load each.
    slices = max(1, round(rate * 3600 / SIMULATED))
    part = {name: max(1, round(number / slices)) for name, number in replicas.items()}
    found = simulate(costs, part, rate=rate / slices, count=min(SIMULATED, max(int(rate * 3600), 50)))
    mean_cores = max(videos * costs.total / 86400 / BUSY, float(len(replicas)))
    stored = videos * prices.megabytes / 1e3 * prices.keep_days * prices.gb_month / 30
    # Jobs are added one at a time: this share of the time in the busiest hour some gateway adds one.
    adding = rate * measured["postgresql"]["create_s"]
    beats = rate * float(found.waits.mean()) / TICK_S
    gpu_s = sum(measured["gflop"].values()) / (prices.gpu_tflops * 1e3 * prices.gpu_share)
    gpus = max(1, int(np.ceil(rate * gpu_s / BUSY)))
    return {
        "videos_a_day": videos,
        "replicas": replicas,
        "cores_in_the_busiest_hour": sum(replicas.values()),
        "bottleneck": bottleneck(costs, videos, adding),
        "busiest": max(found.busy, key=lambda name: found.busy[name]),
        "busy": round(max(found.busy.values()), 2),
        "median_s": round(float(np.median(found.waits)), 1),
        "p95_s": round(float(np.percentile(found.waits, 95)), 1),
        "database_adds_share": round(adding, 4),
        "database_heartbeats_a_second": round(beats),
        "databases": max(1, int(np.ceil(adding / BUSY)), int(np.ceil(beats * measured["postgresql"]["beat_s"] / BUSY))),
        "dollars_a_day_cores": round(mean_cores * 24 * prices.core_hour, 2),
        "dollars_a_day_storage": round(stored, 2),
        "dollars_a_thousand": round((mean_cores * 24 * prices.core_hour + stored) / videos * 1000, 3),
        "gpus_for_all_paper_sizes": gpus,
        "dollars_a_day_gpus": round(max(1.0, videos * gpu_s / 86400 / BUSY) * 24 * prices.gpu_hour, 2),
    }


def bottleneck(costs: Costs, videos: int, adding: float) -> str:
    """What has to grow first."""
    parts = {**costs.stages, **costs.detectors}
    if adding > BUSY:
        return "the queue's database"
    if videos * costs.total / 86400 / BUSY < len(parts):
        return "none: one replica of each part idles"
    return max(parts, key=lambda name: parts[name])


def checked(measured: Mapping[str, Any], cores: int = 2) -> tuple[float, float]:
    """Images a second of this machine: simulated from what one costs alone, and measured with several clients."""
    clients = measured["capacity"]["clients"]
    found = simulate(costs_of(measured, "image"), {"cores": cores}, rate=None, clients=clients, count=500)
    return found.throughput, float(measured["capacity"]["images_a_second"])


def run(measured: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n}, from the costs that were kept, else measured now."""
    from benchmarks.costs import measure

    measured = measured or (json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else measure())
    simulated, real = checked(measured)
    rows: list[dict[str, Any]] = [
        {"metric": "images a second on two cores, simulated; baseline: measured", "value": round(simulated, 2),
         "unit": "a second", "baseline": round(real, 2), "ratio": round(simulated / real, 2), "n": 500},
    ]  # fmt: skip
    costs = costs_of(measured, "video").of(VIDEO_S)
    for videos in DAYS:
        found = plan(costs, videos, Prices(), measured)
        rows += [
            {"metric": f"{videos:,} videos a day: cores in the busiest hour",
             "value": found["cores_in_the_busiest_hour"], "unit": "cores"},
            {"metric": f"{videos:,} videos a day: a thousand videos", "value": found["dollars_a_thousand"],
             "unit": "dollars"},
        ]  # fmt: skip
    return [{"bench": "scaling", **row} for row in rows]


def tables(measured: Mapping[str, Any], prices: Prices) -> str:
    """What docs/scaling.md shows: the check, the costs, and what each load needs, in Markdown."""
    simulated, real = checked(measured)
    image, video = costs_of(measured, "image"), costs_of(measured, "video").of(VIDEO_S)
    parts = [*video.stages, *video.detectors]

    def spent(costs: Costs, name: str) -> str:
        seconds = {**costs.stages, **costs.detectors}.get(name)
        return "-" if seconds is None else f"{seconds:.2f}"

    lines = [
        f"Images a second on two cores: simulated {simulated:.2f}, measured {real:.2f} ({simulated / real - 1:+.0%}).",
        "",
        f"| CPU seconds of | an image | a video of {VIDEO_S:g} s |",
        "| --- | --- | --- |",
        *(f"| {name} | {spent(image, name)} | {spent(video, name)} |" for name in parts),
        f"| all | {image.total:.2f} | {video.total:.2f} |",
        "",
    ]
    plans = [plan(video, videos, prices, measured) for videos in DAYS]

    def row(title: str, words: Callable[[dict[str, Any]], str]) -> str:
        return f"| {title} | " + " | ".join(words(found) for found in plans) + " |"

    lines += [
        row("videos a day", lambda found: f"{found['videos_a_day']:,}"),
        "| --- |" + " --- |" * len(plans),
        *(row(f"replicas of {name}, one core each", lambda found, name=name: f"{found['replicas'][name]:,}")
          for name in parts),
        row("cores in the busiest hour", lambda found: f"{found['cores_in_the_busiest_hour']:,}"),
        row("first to grow", lambda found: found["bottleneck"]),
        row("upload to result in that hour, median / 95th percentile",
            lambda found: f"{found['median_s']:g} / {found['p95_s']:g} s"),
        row("databases for the queue", lambda found: f"{found['databases']:,}"),
        row("heartbeats a second", lambda found: f"{found['database_heartbeats_a_second']:,}"),
        row("cores, dollars a day", lambda found: f"{found['dollars_a_day_cores']:,.2f}"),
        row("storage, dollars a day", lambda found: f"{found['dollars_a_day_storage']:,.2f}"),
        row("a thousand videos, dollars", lambda found: f"{found['dollars_a_thousand']:g}"),
        row("GPUs for all paper-size detectors besides", lambda found: f"{found['gpus_for_all_paper_sizes']:,}"),
        row("these GPUs, dollars a day", lambda found: f"{found['dollars_a_day_gpus']:,.2f}"),
    ]  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the check and the plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", type=Path, nargs="?", default=MEASURED, help="what benchmarks.costs wrote")
    for field in fields(Prices):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default)
    given = vars(parser.parse_args(arguments))
    if not given["costs"].is_file():
        parser.error(
            f"{given['costs']} is not there: python -m benchmarks.costs {given['costs']} measures and writes it"
        )
    print(tables(json.loads(given.pop("costs").read_text(encoding="utf-8")), Prices(**given)))


if __name__ == "__main__":
    main()
