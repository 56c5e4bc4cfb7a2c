"""The arguments of the graph: every key of `args` in a Serve config, validated, with a near miss named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError, model_validator

from preprocessing.settings import Settings, Strict


class ReplicaArgs(Strict):
    """How one deployment is replicated, in Serve's own terms."""

    num_replicas: int = Field(1, ge=1)
    autoscaling: dict[str, Any] | None = Field(None, description="Serve's autoscaling_config; replaces num_replicas")
    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.2})
    max_ongoing_requests: int = Field(64, ge=1)

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `Deployment.options`."""
        scale = {"autoscaling_config": self.autoscaling} if self.autoscaling else {"num_replicas": self.num_replicas}
        return {
            **scale,
            "ray_actor_options": dict(self.ray_actor_options),
            "max_ongoing_requests": self.max_ongoing_requests,
            "graceful_shutdown_timeout_s": 3,
            "graceful_shutdown_wait_loop_s": 0.2,
            "health_check_period_s": 5,
        }


class GatewayArgs(ReplicaArgs):
    """The HTTP side: how much waits, how much comes in at once, which addresses may be fetched."""

    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.1})
    max_ongoing_requests: int = Field(256, ge=1)
    max_queued: int = Field(64, ge=1, description="analyses that wait; one more is answered 503 with Retry-After")
    max_uploads: int = Field(8, ge=1, description="uploads that are received at the same time")
    max_event_streams: int = Field(64, ge=0, description="open progress streams, apart from everything else")
    stall_s: float = Field(30, gt=0, description="longest wait for the next bytes of an upload or a download")
    url_hosts: tuple[str, ...] = Field((), description="hosts from which media may be fetched; none by default")
    url_private: bool = Field(False, description="let url_hosts resolve to private addresses")
    min_free_bytes: int = Field(1024**3, ge=0, description="refuse uploads when the storage has less free than this")

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


class TrackingArgs(ReplicaArgs):
    """Decoding, detection and tracking."""

    ahead_bytes: int = Field(256 * 1024**2, ge=0, description="crops that may wait for landmarks, per analysis")


class LandmarkArgs(ReplicaArgs):
    """Landmarks, crops and calibration."""

    model: Path | None = Field(None, description="dlib .dat of 68 or 81 points; None: the one that is installed")


class GroupArgs(ReplicaArgs):
    """Detectors that share a process."""

    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.5})
    detectors: tuple[str, ...] | None = Field(None, description="None: all with weights that no other group names")
    batch_size: int = Field(16, ge=1, description="samples in one forward pass, of any number of analyses")
    batch_wait_s: float = Field(0.002, ge=0, description="wait for more samples before a pass that is not full")
    threads: int = Field(2, ge=1, description="threads of torch in one operation")


class GraphArgs(Strict):
    """The whole graph. A cluster's config gives each group its own resources; the code is the same."""

    storage: Path | None = Field(None, description="folder of the job store, uploads and artifacts")
    settings: Settings = Field(Settings(), description="of every analysis; a request may lower limits, not raise them")
    modules: tuple[str, ...] = Field((), description="modules to import that register more detectors")
    gateway: GatewayArgs = GatewayArgs()
    runner: RunnerArgs = RunnerArgs()
    tracking: TrackingArgs = TrackingArgs()
    landmarks: LandmarkArgs = LandmarkArgs()
    groups: dict[str, GroupArgs] = Field(default_factory=lambda: {"detectors": GroupArgs()})

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
    if "detector_deadline_s" in wanted.model_fields_set:
        pairs.append(("detector_deadline_s", wanted.detector_deadline_s, operator.detector_deadline_s))
    for name, value, ceiling in pairs:
        if value > ceiling:
            raise ValueError(f"{name}: {value} is above this server's {ceiling}; it can only be lowered")
    tracking_asked = {name: getattr(wanted.tracking, name) for name in wanted.tracking.model_fields_set}
    update: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    update["limits"] = limits
    update["tracking"] = operator.tracking.model_copy(update=tracking_asked)
    return operator.model_copy(update=update)
