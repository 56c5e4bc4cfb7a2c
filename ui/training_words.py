"""What the page Training says, in one place, so that a translation replaces this module (with ui.words and
ui.operator_words) alone.

Names in braces are filled in by str.format.
"""

from __future__ import annotations

from ui.operator_words import BAD, BUSY, GOOD, IDLE, WARN, Sign

LEAD = (
    "Training runs on a Ray cluster, as jobs that go on whether or not this page is open. A run starts from a recipe; "
    "what it learned is kept where you say, and {command} makes it a detector's weights."
)
LEAD_COMMAND = "python -m train.export"
ALL = "All runs"

# The cluster
CLUSTER = "Cluster"
ADDRESS = "Address of Ray's dashboard"
ADDRESS_HELP = "Where `ray dashboard` or the head listens, as http://HOST:8265."
TOKEN = "Its token"
TOKEN_HELP = (
    "Ray's own, not unmask's. Without it, that of this dashboard's environment is used, but only for the cluster that "
    "the environment names, and for this machine."
)
ASKING = "Asking the cluster"
NO_CLUSTER = "No cluster"
NO_CLUSTER_HINT = "name the address of Ray's dashboard above, or start a cluster"
HOW_TO_START = "How to start one"
HOW = "On this machine alone, with a token that nobody else has:"
HOW_COMMANDS = "ray get-auth-token --generate\n{start}"
HOW_ON = (
    "Then start this dashboard with `RAY_AUTH_MODE=token` in its environment. For machines in a cloud or on Kubernetes "
    "see docs/training.md."
)

# A new run
START_A_RUN = "Start a run"
RECIPE = "Recipe"
SEE_RECIPE = "See the recipe"
NAME = "Name of the run"
WORKERS = "Workers"
WORKERS_HELP = "A number, or a range such as 2-4."
DATA = "Data, as the cluster sees them"
DATA_EXAMPLE = "/shared/data or s3://bucket/data"
STORAGE = "Where to keep the run"
STORAGE_EXAMPLE = "/shared/runs or s3://bucket/runs"
CHANGES = "Changes to the recipe, one key=value a line"
CHANGES_EXAMPLE = "epochs=5\noptimiser.lr=3e-4"
GPU = "A GPU for each worker"
RESUME = "Go on with the run of this name"
CHECK = "Check the recipe"
CHECKING = "Checking the recipe"
CHECKED = "{detector}, {parameters:,} parameters, {epochs} epochs"
START = "Start"
STARTING = "Sending the code and starting the run"

# The runs
RUNS = "Runs"
NO_RUNS = "None on this cluster yet."
NOT_STARTED = "not started yet"
STATES = {
    "PENDING": Sign("waiting for the cluster", "○", IDLE),
    "RUNNING": Sign("training", "…", BUSY),
    "STOPPED": Sign("stopped", "◐", WARN),
    "SUCCEEDED": Sign("trained", "✓", GOOD),
    "FAILED": Sign("failed", "✕", BAD),
}
"""Ray's states of a job."""

# One run
OF_RECIPE = "recipe {name}"
STARTED_BY = "by {name}"
THE_LOG = "The log"
FAILED_SILENT = "it ended with an error"
FAILED_HINT = "the log below says more"
STOP_HELP = "The finished epochs are kept."
KEPT_IN = "Kept in {place}"
LOG_END = "The end of the log"
LOG_EMPTY = "nothing yet"
PLACE = "{done:.1f} of {epochs} epochs, {left} left"
VALIDATING = "validating epoch {epoch:.0f} of {epochs}"
TILES = {
    "epochs": "Epochs done",
    "auc": "Best validation AUC",
    "loss": "Validation loss",
    "waited": "Waited for data",
}
TILE_EPOCHS = "of {epochs}"
TILE_AUC = "in epoch {epoch}"
TILE_LOSS = "training {loss:.3f}"
TILE_WAITED = "of the training's time"

# Its curves
STEPS_LINE = "steps"
TRAINING_LINE = "training"
VALIDATION_LINE = "validation"
AUC_LINE = "validation AUC"
BEST_POINT = "best: {auc:.3f} in epoch {epoch}"
LOSS_AXIS = "loss"
AUC_AXIS = "AUC"
EPOCH_AXIS = "epoch"
AT_EPOCH = "epoch {epoch}"
STEPS_ALT = "Training loss over the steps of the first epoch, last {loss:.3f}."
LOSSES_ALT = "Loss over {epochs} epochs: training {training:.3f} at the end, validation {validation:.3f}."
AUC_ALT = "Validation AUC over {epochs} epochs: {auc:.3f} at the end, best {best:.3f} in epoch {at}."
