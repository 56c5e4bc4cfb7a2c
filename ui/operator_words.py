"""What the operator's side says: menu, sign-in, the pages Models and Operate, and states, figures and times, which the
pages Evaluate and Training (ui.evaluation_words, ui.training_words) say too. A translation replaces these modules.

Names in braces are filled in by str.format.
"""

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
GOOD, BUSY, WARN, BAD, IDLE = "#1a9e77", "#5b6ee1", "#c47f03", "#e5484d", "#7b8794"

# Menu and sign-in
MODELS, EVALUATE, TRAINING, OPERATE = "Models", "Evaluate", "Training", "Operate"
SIGN_IN = "Sign in"
SIGN_OUT = "Sign out"
NOT_LET_IN = "Not let in"
YOUR_TOKEN = "Your token"
YOUR_TOKEN_HELP = "Its operator makes one with `unmask tokens add NAME`."
THE_API = "The API"
NEEDS_OPERATOR = "This page is the operator's"
NEEDS_OPERATOR_WHY = "It starts work and shows everybody's, so it takes a token of the role operator."
NEEDS_OPERATOR_HINT = "The one who runs the service makes one with `unmask tokens add NAME --role operator`."
NEEDS_OWN_TOKEN_WHY = (
    "This dashboard can be reached from other machines, so being able to open it does not make anyone the operator: "
    "sign in with a token of your own."
)

# On several pages
STOP = "Stop"
COMMAND = "The command"
OUTCOMES: dict[str, str] = {**{str(name): words.title for name, words in VERDICTS.items()}, "failed": FAILED.title}
FILES = ("file", "files")

# Models
MODELS_LEAD = (
    "Each of these is a published method with weights of its own. The figures were measured on media that its training "
    "never saw; they hold for that kind of media and may not for yours."
)
NO_MODELS = "no detector has trained weights here"
NO_MODELS_HINT = "import or train some"
NO_WEIGHTS = "its weights cannot be used"
NOT_CALIBRATED = "not calibrated"
MEASURED = "Measured"
MEASURED_HEAD = ("Measured on", "Value, 95 % interval")
MEASURED_CAPTION = "Measured figures"
MEASURED_OF = "n = {count:,}"
NOT_MEASURED = "not measured"
ROBUST = "Under compression, noise, blur"
ROBUST_CAPTION = "Robustness: figures after each step"
METRICS = {
    "auc": "AUC",
    "video AUC": "AUC of videos",
    "clip AUC": "AUC of clips",
    "fpr": "share of reals called fake",
    "share with a logit above 0": "share scored as fake, before calibration",
    "share with a logit above 1": "share clearly scored as fake, before calibration",
}
"""Of the cards, where their own name says less."""
CARD = {
    "paper": "Paper",
    "weights": "Weights",
    "sha256": "sha256",
    "licence": "Licence",
    "data": "Trained on",
    "calibration": "Calibrated on",
    "limits": "Limits",
}
CARD_PAPER = "{paper}, {year}"
CARD_PARAMETERS = "{count:,} parameters"
CARD_MADE = "made {date}"

# Operate
OPERATE_LEAD = (
    "Drawn anew every five seconds. Latencies, failures and scores are those of the newest analyses that ended."
)
THE_SERVICE = "The service"
GLANCE = {
    "waiting": "Waiting",
    "running": "Running",
    "waited": "Time waited",
    "took": "Time taken",
    "uploads": "Uploads",
    "storage": "Free storage",
}
GLANCE_OLDEST = "the oldest for {time}"
GLANCE_MAY_WAIT = "{count} may wait"
GLANCE_ENDED = "{done:,} done, {failed:,} failed"
WITHIN = "95 % within {time}"
GLANCE_UPLOADS = "{count} of {most}"
GLANCE_STREAMS = "streams {count} of {most}"
GLANCE_UPLOADS_STOP = "uploads stop below {size}"

THE_PARTS = "Parts"
PARTS_CAPTION = "Parts of the service"
PARTS_HEAD = ("Part", "State", "Replicas", "In hand")
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
NOTHING_IN_HAND = "nothing"

LATENCIES = "Where the time goes"
NOTHING_ANALYSED = "Nothing was analysed yet."
ANALYSES = ("analysis", "analyses")
LATENCIES_OF = "{analyses} since {when}. Bars: median; lines reach to the 95th percentile."
TIMINGS = {
    "tracking": "Finding and following faces",
    "calibration": "Calibrating landmarks",
    "detectors": "Detectors and heatmaps",
    "fusion": "Weighing the evidence",
    "reading": "Reading",
}
STAGES_ALT = "Median time of each stage: {stages}."
STAGES_HOVER = "{name}: median {median}, 95 % within {tail}, of {count:,}"

REQUESTS = "Answers of the API"
REQUESTS_HINT = "Since the gateway started. 503 and 429 are refusals under load: try again later."
REQUESTS_HEAD = ("Route", "Answered", "Refused", "Median", "95 % within")
REQUESTS_CAPTION = "Answers by route"
NONE_REFUSED = "none"

CAME_OUT = "What came out"
OUTCOMES_HEAD = ("Outcome", "Analyses")
OUTCOMES_CAPTION = "Outcomes"
STATES_HEAD = "Detector, faces"
STATES_CAPTION = "Answers of the detectors"
ANSWER_STATES = {
    "ok": "scored",
    "not_applicable": "does not apply",
    "out_of_domain": "outside its domain",
    "timeout": "too late",
    "failed": "failed",
}

DRIFT = "Do the scores move?"
DRIFT_HINT = (
    "The newer half of those analyses against the older half. A shift may come from what is uploaded as well as from "
    "the service."
)
DRIFT_OF = "Scores of"
DRIFT_P = 0.01
"""Below this the newer scores differ from the older ones by more than chance."""
DRIFT_FEW = "Too few scores to tell: {newer} newer, {older} older."
DRIFT_MOVED = "They moved by more than chance: largest gap {gap:.2f}, p {p:.2g}, of {newer} and {older} scores."
DRIFT_CHANCE = "No more than chance: largest gap {gap:.2f}, p {p:.2g}, of {newer} and {older} scores."
DRIFT_ALT = "Shares of the scores from 0 real to 1 fake, the newer half against the older. {words}"
DRIFT_NEWER, DRIFT_OLDER = "newer half", "older half"
DRIFT_NEWER_HOVER = "newer: {share} of the scores"
DRIFT_OLDER_HOVER = "older: {share} of the scores"

# Times and numbers
IN_MILLISECONDS = "{count:.0f} ms"
IN_SECONDS = "{count:.1f} s"
IN_MINUTES = "{minutes} min {seconds} s"
IN_HOURS = "{hours} h {minutes} min"
WHEN = "%Y-%m-%d %H:%M"


def seconds(value: float | None) -> str:
    """0.0123 -> "12 ms", 3.14 -> "3.1 s", 190 -> "3 min 10 s"; "–" of none."""
    if value is None:
        return "–"
    if value < 0.9995:
        return IN_MILLISECONDS.format(count=value * 1000)
    if value < 99.95:
        return IN_SECONDS.format(count=value)
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return IN_MINUTES.format(minutes=minutes, seconds=rest)
    return IN_HOURS.format(hours=minutes // 60, minutes=minutes % 60)


def when(moment: float) -> str:
    """Seconds since 1970 as a date and a time of this machine."""
    return datetime.fromtimestamp(moment).strftime(WHEN)


def count(number: int, one: str, many: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number:,} {one if number == 1 else many}"
