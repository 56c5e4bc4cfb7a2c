"""What the analyst's pages say, in one place, so that a translation replaces this module (and ui.words) alone.

Names in braces are filled in by str.format.
"""

from __future__ import annotations

from ui.words import FAILED

# Analyse
ANALYSE = "Analyse"
TITLE = "Is this face real?"
LEAD = (
    "Drop in photos or videos of people. Published detectors look at every face; you see what each of them says, "
    "where it looks, and how far the verdict can be trusted."
)
STEPS = (
    ("Faces", "Every face is found and followed through the video; each person is judged apart."),
    (
        "Detectors",
        "Each looks at something else: textures, blending seams, how landmarks move. Their scores are calibrated, so "
        "that they compare.",
    ),
    (
        "Verdict",
        "The scores are weighed into one probability with its interval. Where the evidence does not decide, the answer "
        "is that it does not.",
    ),
)
UPLOAD = "Images or videos"
UPLOAD_HINT = (
    "Drag several files in at once, choose them, or paste with Ctrl+V (⌘V). The file itself is best: a screenshot, a "
    "copied picture or a snapshot is encoded anew and has lost the finest traces."
)
TRY = "No file at hand? Try"
CAMERA = "Use the camera"
CAMERA_CLOSE = "Close the camera"
CAMERA_LABEL = "Snapshot"
SNAPSHOT = "snapshot {number}.jpg"
UPLOADING = "Uploading {name}"
ANSWERS = "Answers"
CANCEL = "Cancel"
CANCEL_OF = "Cancel the analysis of {name}"
CANCELLED = "it was cancelled"
CANCELLED_HINT = "give the file again to analyse it"

# Result
WHO = "Who says what"
WHO_HINT = "Calibrated scores of the face that decides, 0 real to 1 fake; dotted: the threshold of the verdict."
WHO_ALT = "Scores of person {track}, 0 real to 1 fake. {scores}"
ADDS_UP = "What it adds up to"
ADDS_UP_HINT = "How far each detector moves the common verdict, in log-odds."
ADDS_UP_ALT = "Contributions in log-odds, above 0 to fake. {values}"
AS_TABLE = "The same as a table"
TABLE_HEAD = ("Detector", "Score", "Moves the verdict", "Map", "Weights")
THE_FACE = "The face"
THE_PEOPLE = "The people"
PEOPLE_HINT = "Beside each person the score that the detectors give together, 0 real to 1 fake."
PERSON = "Person {track} · score {score}"
PERSON_LABEL = "Person"
PERSON_ALT = "face of person {track}"
PLAYER_ALT = "the analysed video"
DRAWN = "Boxes, scores and heatmaps drawn in"
DRAWING = "Drawing into every frame …"
NOT_SHOWN = "The media cannot be shown: {reason}. The scores are still here."
NOT_PLAYABLE = (
    "Browsers do not play {codec} in {container}. Switch on the drawing: it is encoded as H.264, which they all play."
)
SPAN = "{first} to {last}, "
FRAMES = ("{count} frame", "{count} frames")
"""One, and any other number."""
TIMELINE_HINT = "Click a point, or choose a moment: the video goes there."
MOMENT_PICK = "Go to a moment"
MOMENT_OPTION = "{clock}, frame {frame}: {scores}"
TIMELINE_ALT = "Scores of person {track} over {seconds:.1f} seconds: {scores}."
MOMENT = "{clock}, frame {frame}: {name} says {score}."
LOOKS = "Where it looks"
LOOKS_HELP = (
    "Brighter means that this detector took more of its evidence for a manipulation from there. Maps that a method "
    "makes itself come first; the others are drawn by Grad-CAM, which is coarser."
)
OPACITY = "Opacity of the heatmap"
HEATMAP_ALT = "face of person {track} with the heatmap of {name}, score {score}"
HEATMAP_SCORE = "score {score}"
MAP_SHORT = {"native": "own", "landmarks": "landmarks", "grad-cam": "Grad-CAM"}
MAP_SAID = "{name}: {kind}."
LANDMARKS = "How the landmarks move"
LANDMARKS_HINT = (
    "LRNet sees no picture, only how 68 landmarks move. Left as they were found, right after calibration, which takes "
    "the finder's jitter out: what is left there is the face's own movement, and that is what LRNet reads."
)
LANDMARKS_AT = "Moment, in seconds"
LANDMARKS_ALT = "68 landmarks with their paths around {clock}, before and after calibration"
MOTION_ALT = "mean movement of a landmark a frame: {raw:.2f} pixels as found, {calibrated:.2f} after calibration"
MOTION_SAID = (
    "From frame to frame a landmark moves {raw:.2f} pixels as found and {calibrated:.2f} after calibration (median "
    "over the track, in LRNet's square of 400 pixels). This picture explains; the score comes from LRNet alone."
)
AMONG = "Among reference faces"
AMONG_HELP = (
    "By what this detector has learned to see: the nearest of public-domain portraits and of pseudo-fakes made of them."
)
AMONG_ALT = "the face on a map of reference faces; nearest: {nearest}"
AMONG_NEAR = "{kind} at {distance:.1f}"
NEIGHBOURS = "Nearest references"
NEIGHBOURS_SAID = (
    "A distance of 1 is that of a reference to its own nearest. Where even the nearest is far beyond, the face is "
    "unlike all of them, and the map says little."
)
NEIGHBOURS_HEAD = ("", "What it is", "Distance")
MEDIA = "The media"
MEDIA_DECODED = "As decoded"
MEDIA_SAYS = "What the file says of itself"
MEDIA_SAYS_HINT = "Anyone can write this into a file."
MEDIA_SAYS_NOTHING = "Nothing: cameras usually write more, messengers and programs take it out."
CREDENTIALS = "Content credentials (C2PA)"
CREDENTIALS_HINT = "They stand beside the score and do not enter it."
TAKE = "Take it away"
TAKE_HINT = "The report has everything on one page and can be run again with `unmask scan --verify`."
TAKE_REPORT = "Report"
TAKE_PDF = "Report as PDF"
TAKE_DRAWN = {"video": "Annotated video", "image": "Annotated picture"}
TAKE_DRAWN_HELP = "The media with boxes, scores and heatmaps drawn in; made when you click, which takes a moment."
TAKE_REPORT_JSON = "Report as JSON"
TAKE_JSON = "Download the result as JSON"
LINK = "A link to this result"

# Compare
COMPARE = "Compare"
COMPARE_LEAD = "Two or more analyses side by side: which detectors see them differently, and in what the files differ."
COMPARE_PICK = "Analyses to compare"
COMPARE_PLACEHOLDER = "Choose two to four"
COMPARE_FEW = "Choose at least two, here or by their boxes in the history."
COMPARE_NONE = "There is no finished analysis yet."
COMPARE_SCORES = "Who says what of which"
COMPARE_SCORES_HINT = "Calibrated scores of the face that decides in each file, 0 real to 1 fake."
COMPARE_TOLD = "{name}: {score} together"
COMPARE_CODEC = "{codec} in {container}"
COMPARE_ALT = "Scores side by side. {scores}"
COMPARE_FACTS = "In what they differ"
COMPARE_WEIGHTS = "{name} ran with different weights: its scores do not compare."
COMPARE_VERSION = "They were analysed by different versions of unmask: {versions}."
COMPARE_HEAD = "What"
COMPARE_ROWS = {
    "verdict": "Verdict",
    "score": "Probability of manipulation",
    "kind": "Kind",
    "codec": "Encoding",
    "size": "Size",
    "length": "Length",
    "people": "People",
    "quality": "Quality of the face",
    "credentials": "Content credentials",
}

# History
HISTORY = "History"
HISTORY_QUERY = "Part of the name or notes"
HISTORY_TAG = "Tag"
HISTORY_OUTCOME = "Outcome"
HISTORY_ALL = "all"
HISTORY_STATUS = {"queued": "waiting", "running": "under way", "failed": FAILED.title, "cancelled": "cancelled"}
"""Of those without a verdict."""
HISTORY_EMPTY = "Nothing here yet."
HISTORY_NO_MATCH = "No match."
HISTORY_OPEN = "Open it"
HISTORY_TAGS = "Tags"
HISTORY_TAGS_HINT = "tags, with commas"
HISTORY_NOTES = "Notes"
HISTORY_NOTES_HINT = "Where it comes from, what was asked, what is open. Kept with the analysis, not in the report."
HISTORY_MARK = "Compare"
HISTORY_COMPARE = "Compare the {count} chosen"
HISTORY_TOO_MANY = "{count} are chosen: Compare takes {most} at most"
HISTORY_SCORE = "{percent} probability of manipulation"
HISTORY_DELETE = "Delete"
HISTORY_DELETE_NOW = "Delete for good"
HISTORY_DELETE_HINT = "The media, its pictures, the result and its notes are deleted and cannot be brought back."
NEWER = "Newer"
OLDER = "Older"
RANGE = "{first} to {last} of {total}"
