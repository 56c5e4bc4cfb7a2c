"""The graph as a bound application: `serve run serve.app:app`, or `serve.app:build` with arguments in a config."""

# No postponed annotations here: Ray reads build's to turn a config's args into GraphArgs.

from ray import serve as rayserve
from ray.serve import Application

from serve.deployments import Gateway, Landmarks, Runner, Tracking
from serve.groups import DetectorGroup
from serve.settings import GraphArgs


def build(args: GraphArgs) -> Application:
    """Gateway -> runner -> tracking, landmarks and one deployment for each group of detectors."""
    tracking = rayserve.deployment(Tracking, name="Tracking").options(**args.tracking.options()).bind(args.tracking)
    landmarks = (
        rayserve.deployment(Landmarks, name="Landmarks").options(**args.landmarks.options()).bind(args.landmarks)
    )
    groups = {
        name: rayserve.deployment(DetectorGroup, name=f"Group-{name}")
        .options(**group.options())
        .bind(group, args.named_elsewhere(name), args.modules)
        for name, group in args.groups.items()
    }
    runner = (
        rayserve.deployment(Runner, name="Runner")
        .options(**args.runner.options())
        .bind(args, tracking, landmarks, groups)
    )
    gateway = rayserve.deployment(rayserve.ingress()(Gateway), name="Gateway").options(**args.gateway.options())
    return gateway.bind(args, runner)


app = build(GraphArgs())
