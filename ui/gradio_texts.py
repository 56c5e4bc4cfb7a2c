"""What the Gradio demo says, in one place, so that a translation replaces this module (and ui.words) alone.

Names in braces are filled in by str.format.
"""

from __future__ import annotations

TITLE = "Is this face real?"
LEAD = (
    "Published detectors look at every face of a photo or a video; you see what each of them says, where it looks, "
    "and how far the verdict can be trusted."
)
TERMS = " Files of up to {megabytes} MB."
TERMS_LENGTH = " Files of up to {megabytes} MB and {seconds:g} seconds of video."
TERMS_DELETED = " Uploads and answers are deleted afterwards."
SIGN_IN = "Any name, and the password that you were given."

IMAGE, VIDEO, COMPARE, FAKE = "Image", "Video", "Compare two", "Make a fake"
SAMPLES = "Samples"
NOTHING = "Nothing yet"
NO_FILE = ("no file was given", "choose one, or take a sample")
NO_PICTURE = ("no picture was given", "choose one, or take a sample")
NO_PAIR = ("two files are needed", "choose one on each side")

ANALYSE = "Analyse"
WHO = "Who says what"
TIME = "Over time"
WHERE = "Where the detectors look"
WHERE_ONE = "Where {name} looks"
AMONG = "Among reference faces"
AMONG_ONE = "Among {name}'s reference faces"
PERSON = "Person {track}"
SCORE = "score {score}"
SCORE_OF = "{which}: score {score}"
SCALE = "Calibrated scores of the face that decides, 0 real to 1 fake; dotted: the threshold of the verdict."
SCALE_PAIR = "Calibrated scores of the face that decides in each file, 0 real to 1 fake."
SCORES_ALT = "Scores of person {track}, 0 real to 1 fake. {scores}"
TIMELINE_ALT = "Scores of person {track} over time."
PAIR = ("first", "second")
PAIR_SCORES_ALT = "Scores of both files side by side, 0 real to 1 fake. {scores}"
BRIGHTER = "Brighter is where a detector found more of what speaks for a manipulation."
HEATMAP_ALT = "face with the heatmap of {name}"
FACE_ALT = "a face that was found"
MEDIA = "The media"
JSON = "The result as JSON"
DOWNLOAD = "Download"

SIDES = ("First image or video", "Second image or video")
DO_COMPARE = "Compare"
PICTURE = "Picture"
HOW = "How"
SEED = "Seed: another gives another fake"
DO_FAKE = "Make a fake and ask"
AS_IT_IS = "The picture as it is"
FAKE_OF = "The fake: {how} ({kind})"
PAIR_ALT = "the picture and the fake made of it"
NO_SEED = ("the seed is missing", "give a whole number, such as 1")
KINDS = {
    "sbi": "blended with a changed copy of itself", "fwa": "blurred and put back, as a small network would draw it",
    "face": "the face blended in", "mouth": "the mouth blended in", "eyes": "the eyes blended in",
    "resolution": "the face at a lower resolution", "rendered_face": "the face drawn by a small network",
    "rendered_part": "a part drawn by a small network", "rendered_whole": "all of it drawn by a small network",
}  # fmt: skip
"""What is done to a picture, by the method's name."""
