"""Published tables run again: LRNet's demo in full; of the rest the path from data to verdict, on small real data."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut
from training_media import as_another

from detectors.base import Detector
from detectors.registry import create, entry
from detectors.store import SHIPPED, LoadedDetector, save
from preprocessing.datasets.items import Item
from preprocessing.samples import motion, photograph, write_video
from train.metrics import Estimate
from train.prepare import PreparedSet, PrepareSettings
from train.prepare.run import index, prepare
from train.recipe import RecipeError
from train.reproduce import ReproduceError, Sheet, load_protocol, protocols, reproduce
from train.reproduce.imbalance import PreparedClips, parts, sweep
from train.reproduce.landmarks import clip_scores
from train.reproduce.media import Scored, aggregated, coverage, estimates, select, voted
from train.reproduce.protocol import Data, Protocol, read_protocol
from train.reproduce.run import Choice, imported, load_weights
from train.reproduce.sheet import judged, matched
from train.reproduce.text import html, markdown, read_sheets

ROOT = Path(__file__).resolve().parents[2]
UNTRAINED = dict.fromkeys(("licence", "data", "command", "date"), "none") | {"profile": "paper", "name": "untrained"}
"""Of a card."""


# --- protocols


def test_every_protocol_is_of_a_detector_and_has_its_own_name() -> None:
    every = protocols()
    assert len(every) >= 12 and len({one.name for one in every}) == len(every)
    for one in every:
        assert one.profile in entry(one.detector).profiles and one.paper and one.table and one.needs
        for row in one.rows:
            assert all(number is None or 0 <= number <= 1 for number in row.published.values()), row.name


def test_a_wrong_protocol_names_the_key(tmp_path: Path) -> None:
    text = (ROOT / "train/reproduce/protocols/xception.yaml").read_text()
    (tmp_path / "one.yaml").write_text(text.replace("samples:", "sample:"))
    with pytest.raises(ReproduceError, match="did you mean 'samples'"):
        read_protocol(tmp_path / "one.yaml")
    (tmp_path / "two.yaml").write_text(text.replace("kind: media", "kind: imbalance"))
    with pytest.raises(ReproduceError, match="lacks what a protocol of kind imbalance needs"):
        read_protocol(tmp_path / "two.yaml")


def test_an_unknown_name_and_missing_folders_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ReproduceError, match="did you mean 'lrnet-demo'"):
        load_protocol("lrnet-dem")
    with pytest.raises(ReproduceError, match=r"does not exist: xception needs FaceForensics\+\+"):
        reproduce("xception", Choice((tmp_path / "none",)))
    (tmp_path / "file").write_text("")
    with pytest.raises(ReproduceError, match="is a file, not a folder"):
        reproduce("lrnet-demo", Choice((tmp_path / "file",)))


@pytest.mark.parametrize("name", [one.name for one in protocols()])
def test_without_data_a_sheet_says_what_is_missing(name: str) -> None:
    sheet = reproduce(name, Choice())
    assert sheet.lines and not any(line.reproduced for line in sheet.lines)
    assert all(line.why.startswith("data missing") for line in sheet.lines)


# --- verdicts


def test_a_figure_is_reproduced_where_its_interval_holds_the_published_one_on_all_the_data() -> None:
    ours = Estimate(0.90, 0.85, 0.95, 280)
    assert judged("row", "auc", 0.93, ours, "all").outcome == "reproduced"
    low = judged("row", "auc", 0.97, ours, "all")
    assert (low.outcome, low.why) == ("not reproduced", "our interval lies below the published figure")
    assert "above" in judged("row", "auc", 0.7, ours, "all").why
    part = judged("row", "auc", 0.93, ours, "part", "only part of the published data")
    assert not part.reproduced and part.why.endswith("the interval holds the published figure")
    assert judged("row", "auc", 0.9, None, "nothing", "data missing").why == "data missing"
    assert judged("row", "auc", 0.9, Estimate(None, None, None, 3, "one class"), "3 real").why == "one class"


def test_an_output_is_reproduced_within_its_tolerance_else_the_shift_is_told() -> None:
    assert matched("row", "mean", 0.5, 0.50001, 2e-5, 12, "12 clips").reproduced
    line = matched("row", "mean", 0.5, 0.75, 2e-5, 12, "the video", "other landmarks")
    assert not line.reproduced and line.why == "shift of +0.250: other landmarks"


def test_scores_of_frames_become_one_of_the_video_as_the_authors_say() -> None:
    scores = np.array([0.1, 0.5, 0.9, 0.9])
    assert aggregated(scores, "mean") == pytest.approx(0.6)
    assert aggregated(scores, "vote") == 0.75
    assert aggregated(scores, "top_third") == pytest.approx(0.9)
    logits = np.log(scores / (1 - scores))
    assert aggregated(scores, "mean_logit") == pytest.approx(1 / (1 + np.exp(-logits.mean())))
    assert np.isfinite(aggregated(np.array([0.0, 1.0]), "mean_logit"))


def test_frames_count_each_and_their_interval_resamples_videos() -> None:
    rng = np.random.default_rng(1)
    videos = [
        Scored(label, str(n), rng.uniform(0, 0.9, 1) + 0.1 * label + np.zeros(20))
        for n in range(12)
        for label in (0, 1)
    ]
    frame, video = (estimates(videos, level, "mean", 0.5)["auc"] for level in ("frame", "video"))
    assert frame.n == 480 and video.n == 24 and frame.value == pytest.approx(video.value)
    assert frame.low is not None and frame.high is not None and frame.high - frame.low > 0.2, "not of 480 examples"


def test_what_is_found_is_counted_and_what_lacks_is_told() -> None:
    wanted = Data(dataset="X", real=2, fake=2)
    videos = [
        Scored(0, "a", np.ones(3)),
        Scored(0, "b", np.ones(3)),
        Scored(1, "c", np.ones(3)),
        Scored(1, "d", np.ones(0)),
    ]
    assert coverage(videos, wanted)[0] == "2 real, 2 fake; 1 without a score"
    assert "only part" in coverage(videos, wanted)[1]
    assert coverage([*videos[:3], Scored(1, "e", np.ones(1))], wanted)[1] == ""
    assert coverage([], wanted) == ("nothing", "data missing: no X")
    assert "not stated" in coverage(videos, Data(dataset="X"))[1]


def test_rows_choose_by_data_set_method_compression_and_split() -> None:
    def item(name: str, label: int, method: str, split: str = "test", compression: str = "raw") -> tuple[Path, Item]:
        return Path(name), Item(name, label, "FaceForensics++", method, compression, split)

    every = [
        item("real", 0, ""), item("df", 1, "Deepfakes"), item("nt", 1, "NeuralTextures"),
        item("train", 1, "Deepfakes", "train"), item("c40", 1, "Deepfakes", "test", "c40"),
    ]  # fmt: skip
    wanted = Data(dataset="faceforensics++", methods=("Deepfakes",), compressions=("raw", "c0"), split="test")
    assert [str(path) for path in select(every, wanted)] == ["real", "df"]


# --- LRNet


def demo(shared: Path, *more: Path) -> Sheet:
    return reproduce("lrnet-demo", Choice((shared / "golden/lrnet", *more)))


def test_lrnets_demo_reproduces_fully_from_the_published_landmark_files(shared: Path) -> None:
    sheet = demo(shared)
    assert len(sheet.lines) == 28 and all(line.reproduced for line in sheet.lines)
    found = {(line.row, line.figure): line for line in sheet.lines}
    golden = json.loads((shared / "golden/lrnet_demo.json").read_text())["classification"]
    for case, weights in (("demo_weights", "demo weights"), ("training_torch_weights", "FF++ weights")):
        for video, expected in golden[f"demo_landmarks__{case}_block30"].items():
            for figure, key in (("vote", "video_score"), ("mean", "mean_clip_fake_prob")):
                ours = found[f"{video}, {weights}", figure].ours
                assert ours is not None and ours.value == pytest.approx(expected[key], abs=2e-5)
                assert ours.n == expected["n_clips"]


def test_every_clip_of_the_demo_has_its_published_score(shared: Path) -> None:
    from preprocessing.landmark_files import read_lrnet_txt

    files = sorted((shared / "golden/lrnet/demo/model_weights").iterdir())
    detector = imported("lrnet", files).detector
    golden = json.loads((shared / "golden/lrnet_demo.json").read_text())["classification"]
    for video, expected in golden["demo_landmarks__demo_weights_block30"].items():
        rows = read_lrnet_txt(shared / f"golden/lrnet/demo/landmarks/{video}.txt")
        assert np.allclose(clip_scores(detector, rows), expected["mix"], rtol=0, atol=2e-5)  # type: ignore[arg-type]


def test_from_a_video_the_shift_with_our_own_landmarks_is_told(shared: Path, tmp_path: Path) -> None:
    """A stand-in of the demo's name and 35 frames: its scores are others, and the sheet says by how much."""
    frames = [cv2.warpAffine(photograph(), motion(n), (448, 448)) for n in range(35)]
    write_video(tmp_path / "ff_real.mp4", frames)
    choice = Choice((shared / "golden/lrnet", tmp_path), save=tmp_path / "kept")
    sheet = reproduce("lrnet-demo", choice)
    own = [line for line in sheet.lines if line.found.startswith("the video, dlib68, 1 clips")]
    assert len(own) == 4 and len(sheet.lines) == 28 + 6, (
        "two figures for each of three weights; Keras' clips are longer"
    )
    shifted = [line for line in own if not line.reproduced]
    assert shifted and all(line.why.startswith("shift of ") and "dlib68" in line.why for line in shifted)
    assert (tmp_path / "kept/ff_real.dlib68.txt").is_file()
    assert any("no video of 000_003" in note for note in sheet.notes)


def test_a_folder_without_the_demo_and_wrong_weights_are_named(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ReproduceError, match="none of 000_003, dfo_fake"):
        reproduce("lrnet-demo", Choice((tmp_path,)))
    golden = shared / "golden"
    with pytest.raises(ReproduceError, match=r"lrnet is imported from files|LRNet needs one file named g1"):
        reproduce("lrnet-demo", Choice((golden / "lrnet",), weights=golden / "mesonet/weights"))
    with pytest.raises(ReproduceError, match=r"--weights .*Meso"):
        load_weights(load_protocol("lrnet"), golden / "mesonet/weights/Meso4_DF.h5")
    sheet = reproduce("lrnet-demo", Choice((golden / "lrnet/demo/landmarks",)))
    assert all(line.why.startswith("weights missing") for line in sheet.lines)


@pytest.fixture(scope="module")
def lrnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the paper's profile that nobody trained, with a card."""
    folder = tmp_path_factory.mktemp("weights")
    save(create("lrnet", "compact"), folder, half=False, **UNTRAINED)
    return folder


def test_lrnets_landmark_sets_are_scored_by_manipulation_and_compression(lrnet: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for folder in ("Origin", "DF", "NT"):
        place = tmp_path / "datasets" / folder / "raw" / "test"
        place.mkdir(parents=True)
        for n in range(3):
            name = f"{n:03d}.txt" if folder == "Origin" else f"{n:03d}_{n + 3:03d}.txt"
            np.savetxt(place / name, rng.normal(0, 0.3, (61 if n else 30, 136)), "%1.5f")
    sheet = reproduce("lrnet", Choice((tmp_path,), lrnet))
    found = {line.row: line for line in sheet.lines}
    one, every = found["DF, raw"], found["all four, raw"]
    assert one.found == "3 of 140 real, 3 of 140 fake; 2 without a score" and one.ours is not None and one.ours.n == 4
    assert every.ours is not None and every.ours.n == 6
    assert not one.reproduced and "only part of the published data" in one.why
    assert found["all four, c23"].why.startswith("data missing") and "untrained" in sheet.weights
    with pytest.raises(ReproduceError, match="no folder Origin/"):
        reproduce("lrnet", Choice((tmp_path / "datasets/DF",), lrnet))


# --- pictures and videos


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "MesoNet"
    for label in ("real", "fake"):
        (root / label).mkdir(parents=True)
        for n in (2, 3):
            shown = as_another(astronaut(), n + 10 * (label == "fake"), 40)
            cv2.imwrite(str(root / label / f"{n}.jpg"), shown[..., ::-1])
    return root


@pytest.mark.parametrize("above", [False, True])
def test_a_data_set_is_measured_where_it_lies_with_the_weights_given(
    pictures: Path, tmp_path: Path, above: bool
) -> None:
    choice = Choice((pictures.parent if above else pictures,), SHIPPED, save=tmp_path / "kept")
    sheet = reproduce("mesonet", choice)
    line, videos = sheet.lines
    assert videos.figure == "video accuracy" and videos.why == "data missing: no MesoNet-videos"
    assert line.figure == "frame accuracy" and line.ours is not None and line.ours.n == 4
    assert not line.reproduced and line.found == "2 of 4259 real, 2 of 2889 fake"
    assert "mesonet-compact" in sheet.weights and any(note.startswith("plain: ") for note in sheet.notes)
    assert len(list((tmp_path / "kept").glob("*.json"))) == 4
    assert reproduce("mesonet", choice).lines == sheet.lines, "taken up again from what was kept"
    assert reproduce("mesonet", Choice(choice.data, SHIPPED, limit=1)).lines[0].found.startswith("1 of 4259 real, 1 of")


def test_no_weights_and_no_data_set_are_told(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "store"))
    line = reproduce("mesonet", Choice((pictures,))).lines[0]
    assert line.why.startswith("weights missing: MesoInception_DF.h5")
    with pytest.raises(ReproduceError, match=r"--weights .* does not exist"):
        reproduce("mesonet", Choice((pictures,), tmp_path / "none.h5"))
    with pytest.raises(ReproduceError, match="is no data set that is known"):
        reproduce("mesonet", Choice((tmp_path,), SHIPPED))


def test_seven_networks_vote_on_a_video() -> None:
    protocol = load_protocol("metric_learning-vote")
    fake, real, none = np.array([0.9, 0.8]), np.array([0.1, 0.6]), np.zeros(0)

    def video(*members: np.ndarray) -> list[float]:
        return voted([Scored(1, "id1", scores) for scores in members], protocol).scores.tolist()

    assert video(fake, fake, fake, fake, real, real, real) == [1] and video(fake, real, real) == [0]
    assert video(fake, none, none) == [1] and video(none, none) == []


def test_voting_networks_are_measured_each_and_counted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dataset": "MesoNet"}
    two = Protocol(
        name="two", paper="none", table="none", kind="media", detector="mesonet", needs="pictures", weights="two files",
        networks=2, rows=({"name": "row", "published": {"accuracy": None}, "data": data},),
    )  # fmt: skip
    monkeypatch.setattr("train.reproduce.run.load_protocol", lambda name: two)
    for number in range(2):
        (tmp_path / "networks" / str(number)).mkdir(parents=True)
        torch.manual_seed(number)
        save(create("mesonet", "compact"), tmp_path / "networks" / str(number), **UNTRAINED | {"profile": "compact"})
    sheet = reproduce("two", Choice((pictures,), tmp_path / "networks", limit=1))
    (line,) = sheet.lines
    assert line.figure == "video accuracy" and line.ours is not None and line.ours.n == 2
    assert sheet.weights.count("compact") == 2
    (tmp_path / "networks/1").rename(tmp_path / "other")
    with pytest.raises(ReproduceError, match="holds 1 networks, two votes with 2"):
        reproduce("two", Choice((pictures,), tmp_path / "networks"))
    assert reproduce("two", Choice((pictures,))).lines[0].why == "weights missing: two files"


def test_scores_are_the_networks_own_whatever_calibration_its_card_has() -> None:
    loaded = load_weights(load_protocol("mesonet"), SHIPPED)
    assert isinstance(loaded, LoadedDetector) and loaded.card.calibration is None
    assert loaded.score(np.zeros(1))[0] == 0.5


# --- the imbalance sweep


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six real and five fake videos to train on, two and two to test on, all of one portrait."""
    folder = tmp_path_factory.mktemp("sweep")
    lines = ["path,label,split,identities"]
    for split, label, count in (("train", "real", 6), ("train", "fake", 5), ("test", "real", 2), ("test", "fake", 2)):
        for n in range(count):
            path = folder / "videos" / split / f"{label}{n}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = as_another(photograph(), n, 20 if label == "real" else 35)
            write_video(path, [cv2.warpAffine(shown, motion(n * 9 + i), (448, 448))[:320, 60:380] for i in range(6)])
            lines.append(f"{split}/{path.name},{label},{split},{split}{label}{n}")
    (folder / "videos/MANIFEST.csv").write_text("\n".join(lines))
    settings = PrepareSettings(runs=(1, 5), size=96, margin=1.6, detector="hog")
    found, notes = index("manifest", str(folder / "videos"), settings)
    prepare(found, found.items, str(folder / "set"), settings, local=True, notes=notes)
    return folder / "set"


def tiny(**row: Any) -> Protocol:
    base = load_protocol("dual_level")
    rows = [{"name": "1:2", "ratio": 2, "published": {"auc": 0.9}, **row}]
    return Protocol.model_validate({**base.model_dump(), "rows": rows, "recipe": "dual_level-compact"})


SMALL = ("config.frames=4", "config.stride=1", "epochs=2", "batch=4", "workers=0", "threads=1", "ema=0")


def sweeping(prepared: Path, runs: Path | None = None, **row: Any) -> Sheet:
    protocol = tiny(**row)
    sheet = Sheet(protocol.name, protocol.paper, protocol.table, "")
    sweep(protocol, Choice((prepared,), save=runs, overrides=SMALL), sheet)
    return sheet


@pytest.mark.parametrize(("loss", "minimum"), [("auc", 1), ("bce", None)])
def test_the_sweep_trains_on_few_fakes_and_measures_on_the_whole_test_set(
    prepared: Path, tmp_path: Path, loss: str, minimum: int | None
) -> None:
    sheet = sweeping(prepared, tmp_path, loss=loss, minimum=minimum)
    (line,) = sheet.lines
    assert line.found == "trained on 5 real, 2 fake, tested on 2 real, 2 fake videos"
    assert line.figure == "frame auc" and line.ours is not None and 0 <= (line.ours.value or -1) <= 1
    assert line.ours.n == 16, "four frames of each of four videos"
    assert not line.reproduced, "whatever its wide interval holds"
    for part in ("another data set: videos", "only part of the published test set: 2 real, 2 fake", "epochs=2"):
        assert part in line.why
    metrics = [json.loads(text) for text in (tmp_path / "1-2/metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and all(np.isfinite(epoch["train_loss"]) for epoch in metrics)
    again = sweeping(prepared, tmp_path, loss=loss, minimum=minimum)
    assert again.lines == sheet.lines, "a finished run is measured, not trained anew"


def test_a_row_trained_again_starts_from_the_same_weights(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, torch.Tensor]] = []

    def nothing(detector: Detector, *given: object, **options: object) -> None:
        started.append(detector.state_dict())
        raise RecipeError("that was all")

    monkeypatch.setattr("train.reproduce.imbalance.train", nothing)
    for _ in range(2):
        with pytest.raises(ReproduceError, match="that was all"):
            sweeping(prepared, tmp_path)
    one, other = started
    assert all(torch.equal(one[key], other[key]) for key in one), "the sheet names the seed"


def test_too_few_fakes_for_a_ratio_are_a_line_not_a_stop(prepared: Path) -> None:
    (line,) = sweeping(prepared, ratio=100).lines
    assert line.ours is None and "data missing: 1 fake for 100 real needs 0 fakes" in line.why


def test_short_videos_repeat_their_last_crop_which_does_not_count(prepared: Path) -> None:
    data = PreparedSet(prepared)
    spec = create("dual_level", "compact").input
    assert not isinstance(spec, tuple)
    training, validation, test = parts(data, 1)
    assert [len(part) for part in (training, validation, test)] == [9, 2, 4]
    assert {clip.label for clip in validation} == {0, 1}
    clips = PreparedClips(data, test, spec)  # type: ignore[arg-type]
    item = clips[0]
    assert item["inputs"].shape == (1, 16, 128, 128, 3) and clips.labels.tolist() == [clip.label for clip in test]
    assert (item["frame_label"][0, 3:] == -1).all() and (item["inputs"][0, 3:] == item["inputs"][0, 2]).all()


def test_other_data_than_the_sweep_needs_is_refused(prepared: Path, pictures: Path, lrnet: Path) -> None:
    with pytest.raises(ReproduceError, match=r"is no prepared set.*unmask prepare celebdf_v2"):
        reproduce("dual_level", Choice((pictures,)))
    with pytest.raises(ReproduceError, match="leave out --weights"):
        reproduce("dual_level", Choice((prepared,), lrnet))
    with pytest.raises(ReproduceError, match=r"did you mean 'epochs'"):
        reproduce("dual_level", Choice((prepared,), overrides=("epoch=1",)))


# --- what people read


def test_a_sheet_survives_json_and_becomes_a_page() -> None:
    sheet = Sheet("x", "A <paper>", "a table", "unmask reproduce x", "weights", ["a note"])
    sheet.lines.append(judged("row", "auc", 0.93, Estimate(0.9, 0.85, 0.95, 280), "140 real"))
    sheet.lines.append(judged("other", "auc", 0.93, None, "nothing", "data missing: all"))
    assert Sheet.from_dict(json.loads(json.dumps(sheet.as_dict()))) == sheet
    page = html(sheet)
    assert (
        "A &lt;paper&gt;" in page and "0.9000 (0.850 to 0.950)" in page and "not reproduced: data missing: all" in page
    )
    assert "http" not in page


def test_the_documentation_is_what_the_protocols_and_the_kept_sheets_say() -> None:
    sheets = read_sheets(sorted((ROOT / "docs/reproduction").glob("*.json")))
    assert (ROOT / "docs/reproduction.md").read_text() == markdown(protocols(), sheets)
    assert "lrnet-demo" in sheets
