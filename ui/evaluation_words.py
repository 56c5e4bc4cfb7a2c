"""What the page Evaluate says, in one place, so that a translation replaces this module (with ui.words and
ui.operator_words) alone.

Names in braces are filled in by str.format.
"""

from __future__ import annotations

from ui.operator_words import BAD, BUSY, GOOD, WARN, Sign

LEAD = (
    "How good are the answers on media whose truth you know? Every file is analysed as on the page Analyse, with the "
    "weights installed on this dashboard's machine, and compared with its label. Figures come with 95 % intervals."
)
ALL = "All evaluations"

# What is asked for
MEDIA = "The labelled media"
WAYS = ("A folder", "Upload files", "Upload a ZIP")
"""How labelled media come in."""
PLACE = "Folder or manifest"
PLACE_EXAMPLE = "/data/labelled"
PLACE_HELP = (
    "A folder with real/ and fake/ in it, or a MANIFEST.csv with the columns path and label, on the machine that this "
    "dashboard runs on. docs/evaluation.md has the optional columns."
)
REAL_ONES, FAKE_ONES = "Real ones", "Fake ones"
ZIP = "A ZIP with folders real and fake, or with a MANIFEST.csv"
OPTIONS = "Options"
DETECTORS = "Detectors"
DETECTORS_ALL = "All that have weights"
ROBUSTNESS = "Robustness"
ROBUSTNESS_HELP = "Every file again after each step. Each step costs as much as the run without."
SUITES = {
    "": "No: the files as they are",
    "quick": "Quick: one step each of JPEG, H.264, resizing, blur, noise",
    "compression": "Compression: JPEG and H.264, nine steps",
    "classic": "Classic: compression, resizing, blur, noise, contrast, 25 steps",
    "social": "Services: what uploads go through, four steps",
    "deeperforensics": "DeeperForensics: the published 35 steps",
}
"""Suites of preprocessing.perturb that the page offers."""
LIMIT = "At most so many files"
LIMIT_NONE = "all of them"
LIMIT_HELP = "Spread over data sets and over real and fake."
FITTED = "Measure files that the calibration or the fusion was fitted on too"
FITTED_HELP = "Figures on them flatter. Without this, such files stop the run."
START = "Evaluate"
UNPACKING = "Unpacking"
KEEPING = "Keeping the files"
UPLOADED = "{real} real, {fake} fake, uploaded"
"""What an evaluation of uploaded files is called."""

# Evaluations as they are kept
EARLIER = "Evaluations"
NONE_YET = "None yet."
AREA = "AUC {value:.3f}"
STATES = {
    "running": Sign("under way", "…", BUSY),
    "done": Sign("done", "✓", GOOD),
    "partial": Sign("stopped: figures of what was done by then", "◐", WARN),
    "failed": Sign("no figures", "✕", BAD),
}
ASKED_BY = "{when} by {name}"
UPLOADED_DATA = "uploaded"
LEFT_OUT = "{files} left out: no media"

# One that runs, and one that failed
DOING = {
    "starting": "Loading the detectors",
    "clean": "Analysing",
    "figures": "Working out the figures",
    "stopping": "Finishing the files under way",
    "drawing the worst mistakes": "Drawing the worst mistakes",
}
DOING_OF = "{what}, {done} of {total}"
STOP_HELP = "The figures are of what is done by then."
STOP_AT_ONCE = "Stop at once"
STOP_AT_ONCE_HELP = "What was measured is kept; the figures are not."
NOT_EVALUATED = "Not evaluated"
FAILED_SILENT = "it ended without a word, or was ended from outside"
SAID = "What the command said"
ALLOW_FITTED = "Measure them all the same"

# Its figures
COVERED = "{files}, {share} of them with a score. Threshold {threshold:.2f}, of detectors by themselves 0.50."
COVERED_NONE = "none"
STOPPED_EARLY = "Stopped early: {done} of {planned} files were analysed."
FITTED_ON = "The calibration or the fusion was fitted on {count:,} of these files: the figures flatter."
ONE_LABEL = "All files have the same label: figures that compare real with fake are not defined."
FIGURES = {
    "auc": ("AUC", "chance that a fake scores above a real"),
    "ap": ("AP", "average precision of the fakes"),
    "eer": ("EER", "equal error rate, lower is better"),
    "accuracy": ("Accuracy", "at the threshold"),
    "fpr_at_threshold": ("Reals called fake", "at the threshold, lower is better"),
    "ece": ("Calibration error", "lower is better"),
}
"""Of the headline table, in its order; the report has the rest."""
FIGURES_CAPTION = "Figures with their 95 % intervals"
FILES_COLUMN = "Files"
FUSED_ROW = "Together"
CALLED = "What the files were called"
LABELLED = {"real": "Labelled real", "fake": "Labelled fake"}
REPORT = "Report (HTML)"
REPORT_JSON = "Figures (JSON)"
REPORT_HERE = "Show the report here"
REPORT_ALT = "The evaluation's report"
EVERY_FILE = "Every file"
EVERY_FILE_HEAD = ("File", "Label", "Score", "Called", "Reason")
EVERY_FILE_ALT = "Every file with its label, its score and what it was called, the worst mistakes first"
AGAIN = {"partial": "Go on", "failed": "Try again", "done": "Evaluate again"}
AGAIN_HELP = "Files that were measured with the same weights and settings are not measured again."
DELETE = "Delete"
DELETE_NOW = "Delete it"
DELETE_HINT = "Figures, report and uploaded media are deleted for good."

# What does not work: each with its way out
NOTHING_GIVEN = ("no labelled media are given", "name a folder or upload some")
NO_DATA = ("there is no {data} on the dashboard's machine", "name a folder or a manifest there")
NOT_WRITTEN = "{folder} cannot be written: {error}"
BUSY_WITH = "{name} is being evaluated"
BUSY_START_HINT = "wait for its end, or stop it"
BUSY_DELETE_HINT = "stop it first"
NO_ZIP = ("the ZIP cannot be unpacked: {error}", "pack it anew, without a password")
ZIP_LEADS_OUT = ("the ZIP has an entry that leads out of it: {name}", "nothing of it was unpacked")
ZIP_PASSWORD = ("{name} in the ZIP has a password", "pack it without one")
ZIP_NO_LABELS = (
    "the ZIP has no folders called real and fake, and no MANIFEST.csv",
    "sort its files into real/ and fake/",
)
MANIFEST_NO_CSV = "{manifest} in the ZIP is not a CSV in UTF-8: {error}"
MANIFEST_COLUMNS = "{manifest} in the ZIP needs the columns path and label, and a row for each file"
MANIFEST_NO_FILE = "{manifest} in the ZIP, line {line}: there is no file {file}"
TOO_MANY = ("more than {most:,} files", "name a folder on the dashboard's machine instead")
TOO_LARGE = ("more than {most:.3g} GiB when unpacked", "name a folder on the dashboard's machine")
NO_MEDIA = ("there are no pictures or videos in it", "taken are {endings}")
DISK_FULL = "the disk of the dashboard's machine is full"
NOT_KEPT = "it cannot be kept: {error}"
NOT_KEPT_HINT = "delete earlier evaluations, or name a folder there"
