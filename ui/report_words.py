"""What the reports of analyses say, as a web page and on paper, in one place, so that a translation replaces this
module (with ui.words) alone.

Names in braces are filled in by str.format.
"""

from __future__ import annotations

LANGUAGE = "en"
"""Of these words, for who has them read aloud."""

# Title, head and foot
PAGE_TITLE = "unmask: {title}"
HEADING = "Analysis by unmask"
ABOUT = "{made} · unmask {version} · {files}"
FILES = ("{count} file", "{count} files")
"""One, and any other number."""
FOOT = "Analysis by unmask {version} · {made}"
PAGE_OF = "{page} of {pages}"

# A file
GAUGE = "Probability of manipulation {score}; the line is the threshold."
GAUGE_INTERVAL = "Probability of manipulation {score}, interval {span}; the line is the threshold."
THE_MEDIA = "The media"

# A person
THE_FACE = "The face"
PERSON = "Person {track}"
SPAN = "{first} to {last}, {frames}"
FRAMES = ("{count} frame", "{count} frames")
QUALITY = "{span}; {quality}"
SCORES_HEAD = ("Detector", "Score", "Moves the verdict", "Weights")
SCORES_OF = "scores of {person}"
TIMELINE_OF = "scores over time of {person}"
TIMELINE_ALT = "scores over time"
TIMELINE_TIME = "time"
TIMELINE_SCORE = "score, 0 real to 1 fake"
SCORE = "score {score}"
WHERE = "Where the detectors look"
WHERE_ONE = "Where {name} looks"
HEATMAP_ALT = "face with the heatmap of a detector"
HEATMAP_ALT_ONE = "face with the heatmap of {name}"
PICTURE_ALT = "{alt}, {caption}"

# The end
WEIGHTS = "The weights, and what limits them"
WEIGHTS_SUM = "{name} · sha256 {sha256}"
WEIGHTS_SUM_LICENCE = "{name} · sha256 {sha256} · {licence}"
HOW_TO_READ_HEAD = "How to read this"
HOW_TO_READ = (
    "A score is the probability that a face is manipulated, 0 real to 1 fake, as calibrated on the data that each"
    " detector's card names. It is evidence, not proof: detectors miss what they were not trained for, and are wrong on"
    " some real faces.",
    "“No sign of manipulation found” and “no face found” are not findings that the media is real. Content credentials"
    " and what a file says of its making are shown beside the score and do not enter it.",
    "A heatmap shows where in the face a detector found what speaks for a manipulation; brighter is more. Maps that a"
    " method makes itself are called its own; of LRNet the landmarks that move its score are drawn; the others are by"
    " Grad-CAM, which is coarse and no proof that the marked pixels were changed.",
    "The sha256 sums name the exact bytes that were analysed and the exact weights: with the same files and weights the"
    " same version gives the same scores.",
)
VERIFY = "To run it again, with this report and the files at hand:"
VERIFY_COMMAND = "unmask scan --verify {file}"
VERIFY_FILE = "THIS.{ending}"
VERIFY_ATTACHED = "{verify} {command} ({attachment} is attached to this PDF)."
SETTINGS = "Settings"
SETTING_ALL = "all"
