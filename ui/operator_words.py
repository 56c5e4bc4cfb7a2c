"""What the pages Models, Evaluate, Training and Operate say: the words of the operator's side in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ui.words import FAILED, VERDICTS


@dataclass(frozen=True)
class Sign:
    """A state: told by sign and words first, by colour (#rrggbb, readable on light and dark) last."""

    title: str
    sign: str
    colour: str


OPEN = ":material/arrow_forward:"
GOOD, BUSY, WARN, BAD, IDLE = "#1a9e77", "#5b6ee1", "#d98e04", "#e5484d", "#7b8794"

NEEDS_OPERATOR = "This page is the operator's"
NEEDS_OPERATOR_WHY = "It starts work and shows everybody's, so it takes a token of the role operator."
NEEDS_OPERATOR_HINT = "The one who runs the service makes one with `unmask tokens add NAME --role operator`."
NEEDS_OWN_TOKEN_WHY = (
    "This dashboard can be reached from other machines, so being able to open it does not make anyone the operator: "
    "sign in with a token of your own."
)

FIGURES = {
    "auc": ("AUC", "chance that a fake scores above a real"),
    "ap": ("AP", "average precision of the fakes"),
    "eer": ("EER", "equal error rate, lower is better"),
    "accuracy": ("Accuracy", "at the threshold"),
    "fpr_at_threshold": ("Reals called fake", "at the threshold, lower is better"),
    "ece": ("Calibration error", "lower is better"),
}
"""Of the headline table, in its order; the report has the rest."""

METRICS = {
    "auc": "AUC",
    "video AUC": "AUC of videos",
    "clip AUC": "AUC of clips",
    "fpr": "share of reals called fake",
    "share with a logit above 0": "share scored as fake, before calibration",
    "share with a logit above 1": "share clearly scored as fake, before calibration",
}
"""Of the cards, where their own name says less."""

SUITES = {
    "": "No: the files as they are",
    "quick": "Quick: one step each of JPEG, H.264, resizing, blur, noise",
    "compression": "Compression: JPEG and H.264, nine steps",
    "classic": "Classic: compression, resizing, blur, noise, contrast, 25 steps",
    "social": "Services: what uploads go through, four steps",
    "deeperforensics": "DeeperForensics: the published 35 steps",
}
"""Suites of preprocessing.perturb that the page offers."""

EVALUATION = {
    "running": Sign("under way", "…", BUSY),
    "done": Sign("done", "✓", GOOD),
    "partial": Sign("stopped: figures of what was done by then", "◐", WARN),
    "failed": Sign("no figures", "✕", BAD),
}
DOING = {
    "starting": "Loading the detectors",
    "clean": "Analysing",
    "figures": "Working out the figures",
    "stopping": "Finishing the files under way",
}
OUTCOMES: dict[str, str] = {**{str(name): words.title for name, words in VERDICTS.items()}, "failed": FAILED.title}
DRAWING = "drawing the worst mistakes"

JOBS = {
    "PENDING": Sign("waiting for the cluster", "○", IDLE),
    "RUNNING": Sign("training", "…", BUSY),
    "STOPPED": Sign("stopped", "◐", WARN),
    "SUCCEEDED": Sign("trained", "✓", GOOD),
    "FAILED": Sign("failed", "✕", BAD),
}
"""Ray's states of a job."""

PARTS = {
    "HEALTHY": Sign("healthy", "✓", GOOD),
    "UPDATING": Sign("being replaced", "…", BUSY),
    "UPSCALING": Sign("growing", "↑", BUSY),
    "DOWNSCALING": Sign("shrinking", "↓", BUSY),
    "UNHEALTHY": Sign("not healthy", "✕", BAD),
    "DEPLOY_FAILED": Sign("did not start", "✕", BAD),
}
"""Serve's states of a deployment."""
ANSWERS = Sign("answers", "✓", GOOD)
SILENT = Sign("does not answer", "✕", BAD)
REPLICAS = {"RUNNING": "running", "STARTING": "starting", "STOPPING": "stopping", "UPDATING": "updating",
            "RECOVERING": "recovering", "PENDING_MIGRATION": "moving"}  # fmt: skip

TIMINGS = {
    "tracking": "Finding and following faces",
    "calibration": "Calibrating landmarks",
    "detectors": "Detectors and heatmaps",
    "fusion": "Weighing the evidence",
    "reading": "Reading",
}
ANSWER_STATES = {
    "ok": "scored",
    "not_applicable": "does not apply",
    "out_of_domain": "outside its domain",
    "timeout": "too late",
    "failed": "failed",
}
STAGES_ALT = "Median time of each stage: {stages}."
DRIFT_ALT = "Shares of the scores from 0 real to 1 fake, the newer half against the older. {words}"
STEPS_ALT = "Training loss over the steps of the first epoch, last {loss:.3f}."
LOSSES_ALT = "Loss over {epochs} epochs: training {training:.3f} at the end, validation {validation:.3f}."
AUC_ALT = "Validation AUC over {epochs} epochs: {auc:.3f} at the end, best {best:.3f} in epoch {at}."
WAYS = ("A folder", "Upload files", "Upload a ZIP")
"""How labelled media come in."""
DRIFT_P = 0.01
"""Below this the newer scores differ from the older ones by more than chance."""


def seconds(value: float | None) -> str:
    """0.0123 -> "12 ms", 3.14 -> "3.1 s", 190 -> "3 min 10 s"; "–" of none."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def when(moment: float) -> str:
    """Seconds since 1970 as a date and a time of this machine."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")


def count(number: int, one: str, many: str = "") -> str:
    """ "1 file", "2 files"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
