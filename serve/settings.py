"""The arguments of the graph: every key of `args` in a Serve config, validated, with a near miss named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator, model_validator

from preprocessing.settings import Backend, Settings, Strict

RETRY_AFTER_S = 10
"""What who is refused for lack of room is told to wait."""


class ReplicaArgs(Strict):
    """How one deployment is replicated, in Serve's own terms."""

    num_replicas: int = Field(1, ge=1)
    autoscaling: dict[str, Any] | None = Field(None, description="Serve's autoscaling_config; replaces num_replicas")
    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.2})
    max_ongoing_requests: int = Field(64, ge=1)
    graceful_shutdown_timeout_s: float = Field(
        10, gt=0, description="what a replica that is replaced or no longer needed has for the work in its hands"
    )

    @property
    def most_replicas(self) -> int:
        """That there may be at the same time."""
        return int(self.autoscaling.get("max_replicas", 1)) if self.autoscaling else self.num_replicas

    @property
    def fewest_replicas(self) -> int:
        """That there are while nothing is to be done."""
        return int(self.autoscaling.get("min_replicas", 1)) if self.autoscaling else self.num_replicas

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `Deployment.options`."""
        scale = {"autoscaling_config": self.autoscaling} if self.autoscaling else {"num_replicas": self.num_replicas}
        return {
            **scale,
            "ray_actor_options": dict(self.ray_actor_options),
            "max_ongoing_requests": self.max_ongoing_requests,
            "graceful_shutdown_timeout_s": self.graceful_shutdown_timeout_s,
            "graceful_shutdown_wait_loop_s": 0.2,
            "health_check_period_s": 5,
        }


class GatewayArgs(ReplicaArgs):
    """The HTTP side: how much waits, how much comes in at once, which addresses may be fetched."""

    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.1})
    max_ongoing_requests: int = Field(256, ge=1)
    max_queued_requests: int = Field(
        256, ge=1, description="requests that wait in one proxy while all gateways are taken; one more is answered 503"
    )
    graceful_shutdown_timeout_s: float = Field(120, gt=0, description="for uploads, downloads and progress streams")
    max_queued: int = Field(64, ge=1, description="analyses that wait; one more is answered 503 with Retry-After")
    max_uploads: int = Field(8, ge=1, description="uploads that are received at the same time")
    max_event_streams: int = Field(64, ge=0, description="open progress streams, apart from everything else")
    stall_s: float = Field(30, gt=0, description="longest wait for the next bytes of an upload or a download")
    upload_s: float = Field(3600, gt=0, description="longest time that one upload may take, however it trickles in")
    url_hosts: tuple[str, ...] = Field((), description="hosts from which media may be fetched; none by default")
    url_private: bool = Field(False, description="let url_hosts resolve to private addresses")
    keep_days: float = Field(30, gt=0, description="media, artifacts and results are deleted so long after the end")
    min_free_bytes: int = Field(1024**3, ge=0, description="refuse uploads when the storage has less free than this")

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `Deployment.options`."""
        refused = {"status_code": 503, "retry_after_s": RETRY_AFTER_S}
        own = {"max_queued_requests": self.max_queued_requests, "backpressure_config": refused}
        return super().options() | own

    @model_validator(mode="after")
    def _streams_leave_room(self) -> GatewayArgs:
        if self.max_event_streams + self.max_uploads >= self.max_ongoing_requests:
            raise ValueError(
                "max_ongoing_requests must exceed max_event_streams + max_uploads, else status has no room"
            )
        return self


class RunnerArgs(ReplicaArgs):
    """Who takes analyses from the queue."""

    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.1})
    slots: int = Field(2, ge=1, description="analyses that one replica runs at the same time")
    lease_s: float = Field(15, gt=1, description="without a heartbeat for so long an analysis is given to another")
    max_attempts: int = Field(3, ge=1, description="times that an interrupted analysis is started")
    deadline_s: float = Field(7200, gt=0, description="longest run of one analysis")
    groups_wait_s: float = Field(
        180, gt=0, description="analyses begin without groups that do not answer so long after the start, and say so"
    )


class TrackingArgs(ReplicaArgs):
    """Decoding, detection and tracking."""

    graceful_shutdown_timeout_s: float = Field(3600, gt=0, description="for a video in the middle of its tracking")
    ahead_bytes: int = Field(256 * 1024**2, ge=0, description="crops that may wait for landmarks, per analysis")


class LandmarkArgs(ReplicaArgs):
    """Landmarks, crops and calibration."""

    graceful_shutdown_timeout_s: float = Field(1800, gt=0, description="for a video in the middle of its calibration")
    model: Path | None = Field(None, description="dlib .dat of 68 or 81 points; None: the one that is installed")


class GroupArgs(ReplicaArgs):
    """Detectors that share a process."""

    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.5})
    graceful_shutdown_timeout_s: float = Field(300, gt=0, description="for tracks in the middle of a detector")
    detectors: tuple[str, ...] | None = Field(None, description="None: all with weights that no other group names")
    revision: str = Field("", description="any text: changing it replaces the replicas, which load new weights")
    batch_size: int = Field(16, ge=1, description="samples in one forward pass, of any number of analyses")
    batch_wait_s: float = Field(0.002, ge=0, description="wait for more samples before a pass that is not full")
    threads: int = Field(2, ge=1, description="threads of torch in one operation")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU that Ray gave the replica, if any"
    )
    backend: Backend = Field("torch", description="onnx: ONNX Runtime, faster on a CPU; extra `onnx`")

    @model_validator(mode="after")
    def _backend_fits(self) -> GroupArgs:
        if self.backend == "onnx" and self.device == "cuda":
            raise ValueError("backend onnx runs on a CPU; take device cpu, or backend torch")
        return self


class GraphArgs(Strict):
    """The whole graph. A cluster's config gives each group its own resources; the code is the same."""

    storage: Path | None = Field(None, description="folder of the job store, uploads and artifacts")
    store: str | None = Field(
        None, description="address of a PostgreSQL database, as postgresql+psycopg://USER@HOST/NAME; None: SQLite"
    )
    shared_storage: bool = Field(False, description="storage is a folder that every node sees under the same path")
    settings: Settings = Field(Settings(), description="of every analysis; a request may lower limits, not raise them")
    modules: tuple[str, ...] = Field((), description="modules to import that register more detectors")
    gateway: GatewayArgs = GatewayArgs()
    runner: RunnerArgs = RunnerArgs()
    tracking: TrackingArgs = TrackingArgs()
    landmarks: LandmarkArgs = LandmarkArgs()
    groups: dict[str, GroupArgs] = Field(default_factory=lambda: {"detectors": GroupArgs()})

    @field_validator("store")
    @classmethod
    def _on_a_server(cls, store: str | None) -> str | None:
        if store is not None and not store.startswith(("postgresql://", "postgresql+")):
            kind = store.partition(":")[0]
            raise ValueError(f"{kind!r} is no PostgreSQL; leave it out for SQLite in the storage folder")
        return store

    @model_validator(mode="after")
    def _each_detector_once(self) -> GraphArgs:
        if not self.groups:
            raise ValueError("groups is empty: at least one group of detectors is needed")
        named = [name for group in self.groups.values() for name in group.detectors or ()]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"in more than one group: {', '.join(twice)}")
        if sum(group.detectors is None for group in self.groups.values()) > 1:
            raise ValueError("only one group may leave its detectors open")
        return self

    @model_validator(mode="after")
    def _several_share(self) -> GraphArgs:
        most = max(self.gateway.most_replicas, self.runner.most_replicas)
        if most > 1 and not (self.store and self.shared_storage):
            raise ValueError(
                "more than one gateway or runner needs store (PostgreSQL) and a storage that all nodes see"
                " (shared_storage: true): each would else have a queue of its own"
            )
        return self

    @property
    def place(self) -> str | Path:
        """The job store's, as JobStore takes it."""
        return self.store or self.folder / "jobs.sqlite3"

    def named_elsewhere(self, group: str) -> frozenset[str]:
        """Detectors that other groups than this one name."""
        return frozenset(n for key, other in self.groups.items() if key != group for n in other.detectors or ())

    @property
    def folder(self) -> Path:
        """Where everything is kept: `storage`, else the platform's folder for the user's data."""
        return (self.storage or Path(platformdirs.user_data_dir("unmask"))).expanduser().absolute()


def plain(error: ValidationError) -> str:
    """The first fault of a validation in one line: where, and what."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def lowered(wanted: Settings, operator: Settings) -> Settings:
    """A request's settings under the operator's: what costs resources may be lowered, never raised.

    Limits that the request leaves out are the operator's. Raises ValueError that names what is too high.
    """
    asked = wanted.limits.model_fields_set
    limits = operator.limits.model_copy(update={name: getattr(wanted.limits, name) for name in asked})
    pairs = [(f"limits.{name}", getattr(limits, name), getattr(operator.limits, name)) for name in asked]
    pairs += [
        (f"tracking.{name}", getattr(wanted.tracking, name), getattr(operator.tracking, name))
        for name in ("max_faces", "max_tracks")
        if name in wanted.tracking.model_fields_set
    ]
    deadlines = [name for name in wanted.model_fields_set if name.endswith("_deadline_s")]
    pairs += [(name, getattr(wanted, name), getattr(operator, name)) for name in deadlines]
    for name, value, ceiling in pairs:
        if value > ceiling:
            raise ValueError(f"{name}: {value} is above this server's {ceiling}; it can only be lowered")
    tracking_asked = {name: getattr(wanted.tracking, name) for name in wanted.tracking.model_fields_set}
    update: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    update["limits"] = limits
    update["tracking"] = operator.tracking.model_copy(update=tracking_asked)
    return operator.model_copy(update=update)
