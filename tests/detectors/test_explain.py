"""Maps of every detector: where the evidence is, as bright as the detector is sure, no trace left in the network."""

import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import ui.overlay
from detectors import store
from detectors.base import Detector, DetectorConfig, DetectorOutput
from detectors.explain import KINDS, NotExplained, explain, grad_cam, road_score
from detectors.landmark_evidence import attribution, draw
from detectors.methods.dual_level import DualLevel, DualLevelConfig
from detectors.methods.lrnet import LRNet, LRNetConfig
from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.overlay import overlay
from detectors.predict import predict
from detectors.store import LoadedDetector, WeightCard
from preprocessing.inputs import ClipInput, FaceInput

ORIGIN = {"licence": "Apache-2.0", "data": "none", "command": "pytest", "date": "2026-01-01", "profile": "compact"}


CARD = WeightCard(
    detector="none", profile="compact", name="one", file="one.safetensors", sha256="0" * 64, bytes=1, licence="none",
    data="none", command="pytest", date="2026-01-01", config={},
)  # fmt: skip


class Red(Detector):
    """Counts red pixels, in a face or in a clip of four; `passes` makes its layer see the frames in so many turns."""

    name = "red"

    def __init__(self, clip: bool, passes: int = 1) -> None:
        super().__init__()
        self.config, self.passes = DetectorConfig(), passes
        face = FaceInput(32)
        self.input = ClipInput(4, 1, face) if clip else face
        self.layer = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(inplace=True))
        with torch.no_grad():
            self.layer[0].weight.copy_(torch.tensor([[1.0, -1, 0], [0, 0, 0]])[:, :, None, None])  # type: ignore[operator]

    def forward(self, batch: Tensor) -> DetectorOutput:
        frames = batch if batch.ndim == 5 else batch[:, None]
        parts = [self.layer(part.flatten(0, 1)).unflatten(0, (len(batch), -1)) for part in frames.chunk(self.passes, 1)]
        seen = torch.cat(parts, 1)[:, :, 0]
        return DetectorOutput(20 * seen.mean((1, 2, 3)) - 1, heatmap=seen[:, 0] if self.native_map else None)

    def cam_layer(self) -> nn.Module:
        return self.layer[0]


class RedWithMap(Red):
    native_map = True


def red(clip: bool = False, passes: int = 1, own: bool = False) -> LoadedDetector:
    return LoadedDetector((RedWithMap if own else Red)(clip, passes).eval(), CARD)


def red_square(*shape: int) -> NDArray[np.uint8]:
    """Grey pictures (*shape, 32, 32, 3), some of them with a red square in rows 4 to 12, columns 18 to 26."""
    pictures = np.full((*shape, 32, 32, 3), 90, np.uint8)
    pictures[..., 4:12, 18:26, 0] = 255
    return pictures


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedDetector:
    torch.manual_seed(0)
    store.save(MesoNet(MesoConfig()), tmp_path, name="one", **ORIGIN)
    return store.load("mesonet", weights=tmp_path)


@pytest.fixture
def spot_finder(tmp_path: Path) -> LoadedDetector:
    """Meso-4 set by hand so that bright red is its only evidence for fake."""
    model = MesoNet(MesoConfig(arch="meso4"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
        for stage in model.stages:
            convolution = stage[0][0]  # type: ignore[index]
            convolution.bias.zero_()
            convolution.weight[0, 0, convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2] = 1
        rows = torch.arange(1024) % 16 == 0
        model.hidden.weight[0, rows] = 1.0
        model.hidden.bias.zero_()
        model.output.weight[0, 0] = 8.0
        model.output.bias.fill_(-4.0)
    store.save(model, tmp_path, name="spot", **ORIGIN)
    return store.load("mesonet", weights=tmp_path)


def test_the_map_shows_where_the_evidence_is(spot_finder: LoadedDetector) -> None:
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    picture[0, 160:224, 32:96, 0] = 255
    found = explain(spot_finder, picture).maps
    assert found is not None
    assert found[0, 164:220, 36:92].min() > 0.99
    outside = found[0].copy()
    outside[144:240, 16:112] = 0
    assert outside.max() < 1e-6
    assert explain(spot_finder, picture[..., ::-1]).maps[0].max() < 0.05  # type: ignore[index]


def test_no_map_is_brighter_than_the_score(loaded: LoadedDetector) -> None:
    batch = loaded.detector.prepare(faces(5))
    found = grad_cam(loaded, batch)
    assert found is not None and found.shape == (5, 32, 32) and found.dtype == torch.float32
    scores = loaded.score(predict(loaded, faces(5)).logits)
    peaks = found.amax((1, 2)).numpy()
    assert bool((found >= 0).all())
    assert np.all(np.isclose(peaks, scores, atol=1e-5) | (peaks == 0))
    assert peaks.max() > 0


def test_a_face_that_is_surely_real_has_a_dark_map(spot_finder: LoadedDetector) -> None:
    faint = np.zeros((1, 256, 256, 3), np.uint8)
    faint[0, 64:72, 64:72, 0] = 2
    found = explain(spot_finder, faint).maps
    assert found is not None
    assert 0 < found.max() < 0.02


@pytest.mark.slow
def test_the_formula_is_the_librarys(loaded: LoadedDetector) -> None:
    cam_library = pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is a development dependency")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")

    class FakeLogit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = loaded.detector

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.detector(batch).logit[:, None]

    batch = loaded.detector.prepare(faces(4))
    ours = grad_cam(loaded, batch)
    assert ours is not None
    with cam_library.GradCAM(model=FakeLogit(), target_layers=[loaded.detector.cam_layer()]) as cam:
        cam(input_tensor=batch, targets=[targets.ClassifierOutputTarget(0)] * 4)
        kept = cam.activations_and_grads
        raw = cam.get_cam_image(batch, None, None, kept.activations[0].numpy(), kept.gradients[0].numpy())
    theirs = np.maximum(raw, 0)
    peaks = theirs.max((1, 2), keepdims=True)
    assert peaks.max() > 0
    expected = theirs / np.where(peaks > 0, peaks, 1) * loaded.score(predict(loaded, faces(4)).logits)[:, None, None]
    assert np.allclose(ours, expected, atol=1e-5)


def test_the_network_is_left_as_it_was(loaded: LoadedDetector) -> None:
    before = {key: value.clone() for key, value in loaded.detector.state_dict().items()}
    explain(loaded, faces(2))
    for key, value in loaded.detector.state_dict().items():
        assert torch.equal(before[key], value), key
    assert all(p.grad is None for p in loaded.detector.parameters())
    assert not any(module._forward_hooks for module in loaded.detector.modules())


def test_maps_do_not_depend_on_the_batch_or_on_other_threads(loaded: LoadedDetector) -> None:
    pictures = faces(10)
    together = explain(loaded, pictures).maps
    assert together is not None and together.shape == (10, 256, 256) and together.dtype == np.float32
    alone: dict[int, NDArray[np.float32]] = {}

    def one(index: int) -> None:
        found = explain(loaded, pictures[index : index + 1]).maps
        assert found is not None
        alone[index] = found[0]

    threads = [threading.Thread(target=one, args=(i,)) for i in (0, 4, 9)]
    threads.append(threading.Thread(target=predict, args=(loaded, pictures)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, found in alone.items():
        assert np.allclose(found, together[index], atol=1e-4)


def test_a_method_that_sees_no_image_has_no_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    store.save(LRNet(LRNetConfig()), tmp_path, name="one", **ORIGIN)
    lrnet = store.load("lrnet", weights=tmp_path)
    rows = np.zeros((1, 30, 136), np.float32)
    with pytest.raises(NotExplained):
        explain(lrnet, rows, "grad-cam")
    assert grad_cam(lrnet, lrnet.detector.prepare(rows)) is None


def test_explaining_a_face_is_grad_cam_where_there_is_no_own_map(loaded: LoadedDetector) -> None:
    found = explain(loaded, faces(10))
    assert found.kind == "grad-cam" and found.maps.dtype == np.float32
    assert found.frames.tolist() == [0] * 10
    assert found.frame_maps is None and found.moments is None and found.landmarks is None


def test_an_own_map_comes_first_and_grad_cam_on_request() -> None:
    detector = red(own=True)
    found = explain(detector, red_square(9))
    assert found.kind == "native" and found.maps.shape == (9, 32, 32)
    assert np.allclose(found.maps[:, 4:12, 18:26], (255 - 90) / 255, atol=1e-6)
    assert explain(detector, red_square(1), "grad-cam").kind == "grad-cam"
    assert explain(detector, red_square(1), "native").kind == "native"
    with pytest.raises(NotExplained, match="no map of its own"):
        explain(red(), red_square(1), "native")


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_a_clip_has_a_map_for_each_frame(passes: int) -> None:
    clip = np.full((3, 4, 32, 32, 3), 90, np.uint8)
    clip[0, 2] = red_square()
    clip[1, 1:] = red_square()
    clip[1, 1, ..., 0] = np.minimum(clip[1, 1, ..., 0], 200)
    detector = red(clip=True, passes=passes)
    found = explain(detector, clip)
    score = detector.score(predict(detector, clip).logits)
    assert found.maps.shape == (3, 32, 32) and found.frames.tolist() == [2, 2, 0]
    assert found.frame_maps is not None and found.frame_maps.shape == (3, 4, 32, 32)
    assert found.moments is not None and np.array_equal(found.moments, found.frame_maps.max((2, 3)))
    assert np.allclose(found.moments[0], [0, 0, score[0], 0], atol=1e-6)
    assert np.allclose(found.moments[1], score[1] * np.array([0, 110 / 165, 1, 1]), atol=1e-6)
    assert np.allclose(found.maps[0, 4:12, 18:26], score[0]) and not found.maps[2].any()
    assert np.array_equal(found.maps[0], found.frame_maps[0, 2])


def clip_detector(**settings: Any) -> LoadedDetector:
    torch.manual_seed(0)
    return LoadedDetector(DualLevel(DualLevelConfig.model_validate({"frames": 6, **settings})).eval(), CARD)


def clips(loaded: LoadedDetector, count: int = 2) -> NDArray[np.uint8]:
    spec = loaded.detector.input
    assert isinstance(spec, ClipInput)
    shape = (count, spec.length, spec.face.size, spec.face.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_cutting_the_gradient_at_the_layer_changes_nothing() -> None:
    loaded = clip_detector(encoder="mobilenetv1", hidden=16, chunk=4)
    given = clips(loaded)
    detector = loaded.detector
    seen: list[Tensor] = []
    layer = detector.cam_layer()
    assert layer is not None
    hook = layer.register_forward_hook(lambda module, arguments, output: seen.append(output))
    logit = detector(detector.prepare(given)).logit
    hook.remove()
    gradients = torch.autograd.grad(logit.sum(), seen)
    assert len(seen) == 2
    maps = [
        (g.mean((2, 3), keepdim=True) * a).sum(1).relu().unflatten(0, (2, -1))
        for a, g in zip(seen, gradients, strict=True)
    ]
    plain = torch.cat(maps, 1)
    expected = plain / plain.amax((1, 2, 3), keepdim=True) * logit.sigmoid()[:, None, None, None]
    found = explain(loaded, given)
    assert found.moments is not None
    sized = nn.functional.interpolate(expected.detach(), (64, 64), mode="bilinear", align_corners=False)
    assert np.allclose(found.frame_maps, sized, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "mobilenetv1", "hidden": 16, "recurrent": "lstm", "bidirectional": True},
        {"encoder": "vit"},
        {"encoder": "resvit"},
        {"encoder": "dct", "frequencies": "24"},
        {"arch": "crnn", "encoder": "mobilenetv1"},
        {"arch": "resnet3d", "frames": 16},
    ],
    ids=lambda s: " ".join(map(str, s.values())),
)
def test_every_clip_network_is_explained_frame_by_frame(settings: dict[str, Any]) -> None:
    loaded = clip_detector(**settings)
    given = clips(loaded)
    found = explain(loaded, given)
    assert found.frame_maps is not None and found.frame_maps.shape == (2, given.shape[1], 64, 64)
    score = loaded.score(predict(loaded, given).logits)
    assert found.frame_maps.min() >= 0 and bool((found.frame_maps.max((1, 2, 3)) <= score + 1e-5).all())
    assert found.frame_maps.any()
    alone = explain(loaded, given[1:])
    assert np.allclose(alone.frame_maps, found.frame_maps[1:], atol=1e-4)


@pytest.mark.parametrize("kind", ["grad-cam++", "hires-cam", "layer-cam", "xgrad-cam"])
def test_the_librarys_formulas_show_the_red_square_too(kind: Any) -> None:
    pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is an extra")
    for detector, given in ((red(), red_square(3)), (red(clip=True, passes=2), red_square(3, 4))):
        found = explain(detector, given, kind)
        score = detector.score(predict(detector, given).logits)
        assert found.kind == kind and found.maps.shape == (3, 32, 32)
        assert np.allclose(found.maps[:, 4:12, 18:26], score[:, None, None], atol=1e-5)
        outside = found.maps.copy()
        outside[:, 4:12, 18:26] = 0
        assert not outside.any()


@pytest.mark.parametrize("what", ["map", "road"])
def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    for module in ("pytorch_grad_cam", "pytorch_grad_cam.metrics.road"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotExplained, match=r"pip install 'unmask-forensics\[explain\]'"):
        if what == "map":
            explain(red(), red_square(1), "grad-cam++")
        else:
            road_score(red(), red_square(1), np.zeros((1, 32, 32)))
    assert explain(red(), red_square(1), "grad-cam").maps.any()


def test_a_map_of_another_name_or_of_no_sample_is_refused(loaded: LoadedDetector) -> None:
    assert len(set(KINDS)) == len(KINDS)
    with pytest.raises(NotExplained, match="no map is called 'saliency'"):
        explain(loaded, faces(1), "saliency")  # type: ignore[arg-type]
    with pytest.raises(NotExplained, match="no landmarks"):
        explain(loaded, faces(1), "landmarks")
    with pytest.raises(ValueError, match="no sample"):
        explain(loaded, faces(0))


# Landmarks


def lrnet(arch: str = "torch", length: int = 30) -> LoadedDetector:
    torch.manual_seed(0)
    return LoadedDetector(LRNet(LRNetConfig.model_validate({"arch": arch, "length": length})).eval(), CARD)


def still_face(count: int = 1, length: int = 30) -> NDArray[np.float32]:
    face = np.random.default_rng(0).normal(0, 0.3, (count, 1, 136))
    return np.repeat(face, length, axis=1).astype(np.float32)


@pytest.mark.parametrize(("arch", "length"), [("torch", 30), ("keras", 60)])
def test_what_landmarks_and_moments_say_adds_up_to_the_logit(arch: str, length: int) -> None:
    loaded = lrnet(arch, length)
    rows = still_face(3, length) + np.random.default_rng(1).normal(0, 0.1, (3, length, 136)).astype(np.float32)
    moved = predict(loaded, rows).logits - predict(loaded, rows.mean(1, keepdims=True).repeat(length, 1)).logits
    found = explain(loaded, rows)
    assert found.kind == "landmarks" and found.landmarks is not None and found.moments is not None
    assert found.landmarks.shape == (3, 68) and found.moments.shape == (3, length)
    assert np.abs(moved).min() > 1e-3
    assert np.allclose(found.landmarks.sum(1), moved, atol=1e-4)
    assert np.allclose(found.moments.sum(1), moved, atol=1e-4)


def test_the_landmark_and_the_moment_that_move_are_found() -> None:
    loaded = lrnet()
    rows = still_face(2)
    # An untrained GRU has forgotten all but the last moments of either direction.
    rows[0, 28:, 60:62] += 0.4
    weights = attribution(loaded.detector, loaded.detector.prepare(rows))[0]
    assert not weights[:, [i for i in range(68) if i != 30]].abs().max() > 1e-7
    assert set(weights[:, 30].abs().topk(2).indices.tolist()) == {28, 29}
    found = explain(loaded, rows)
    assert found.landmarks is not None
    assert np.abs(found.landmarks[0]).argmax() == 30 and np.abs(found.landmarks[1]).max() < 1e-6


def test_landmarks_are_drawn_where_they_are_and_as_bright_as_the_score() -> None:
    loaded = lrnet()
    rows = still_face(2) + np.random.default_rng(1).normal(0, 0.05, (2, 30, 136)).astype(np.float32)
    points = np.random.default_rng(2).uniform(20, 100, (2, 30, 68, 2))
    found = explain(loaded, rows, points=points, size=128)
    assert found.maps.shape == (2, 128, 128) and found.maps.dtype == np.float32
    assert found.landmarks is not None and found.moments is not None
    assert np.array_equal(found.frames, found.moments.argmax(1))
    score = loaded.score(predict(loaded, rows).logits)
    for n in range(2):
        x, y = np.round(points[n, found.frames[n], found.landmarks[n].argmax()]).astype(int)
        assert found.maps[n, y, x] == pytest.approx(score[n], rel=0.1)
        assert found.maps[n].max() <= score[n] + 1e-6
        assert found.maps[n, :10].max() < 1e-3


def test_without_points_landmarks_lie_in_the_square_of_their_rows() -> None:
    loaded = lrnet()
    rows = still_face()
    rows[0, :, 0::2], rows[0, :, 1::2] = 0.5, -0.5
    rows[0, 10, 20:22] += 0.2
    found = explain(loaded, rows, size=200)
    landmark = found.landmarks
    assert landmark is not None
    if landmark[0, 10] > 0:
        y, x = np.unravel_index(found.maps[0].argmax(), (200, 200))
        shift = 20 if found.frames[0] == 10 else 0
        assert (x, y) == pytest.approx((149.5 + shift, 49.5 + shift), abs=1)
    else:
        assert not found.maps.any()


def test_where_dots_overlap_the_brighter_one_shows() -> None:
    points, weights = np.full((68, 2), 40.0), np.zeros(68)
    weights[[3, 4]] = 0.2, 0.7
    points[4] += 1
    picture = draw(points, weights, 0.9, 100)
    assert picture[41, 41] == pytest.approx(0.9) and picture.max() == pytest.approx(0.9)
    assert picture[60, 60] < 1e-6
    assert np.array_equal(draw(points, -weights, 0.9, 100), np.zeros((100, 100)))


def test_landmarks_have_one_map_and_points_that_fit() -> None:
    with pytest.raises(NotExplained, match="sees landmarks"):
        explain(lrnet(), still_face(), "grad-cam")
    with pytest.raises(ValueError, match=r"should be \(1, 30, 68, 2\)"):
        explain(lrnet(), still_face(), points=np.zeros((1, 68, 2)))


# The value of a map, and the overlay


def noise(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(5).random(shape)


def test_a_map_of_the_evidence_is_worth_more_than_chance_and_one_beside_it_less() -> None:
    pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is an extra")
    given = red_square(2)
    right = noise(2, 32, 32) * 0.1
    right[:, 4:12, 18:26] += 1
    detector = red()
    good, bad, chance = (road_score(detector, given, m) for m in (right, 1 - right, noise(2, 32, 32)))
    assert good.shape == (2,) and good.dtype == np.float32
    assert bool((good > chance + 0.2).all()) and bool((chance > bad + 0.2).all())
    assert np.allclose(good, -bad, atol=0.05)
    assert np.abs(chance).max() < 0.1
    assert bool((road_score(detector, given, explain(detector, given).maps) > chance + 0.2).all())


def test_a_clips_maps_are_worth_something_where_each_is_its_frames() -> None:
    pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is an extra")
    detector, given = red(clip=True), red_square(2, 4)
    found = explain(detector, given).frame_maps
    assert found is not None
    good, bad = (road_score(detector, given, maps) for maps in (found, noise(2, 4, 32, 32)))
    assert good.shape == (2,) and bool((good > bad + 0.2).all())


def test_a_value_is_the_same_each_time_and_draws_from_nobodys_numbers() -> None:
    pytest.importorskip("pytorch_grad_cam", reason="the Grad-CAM library is an extra")
    detector, maps = red(), np.zeros((1, 32, 32))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = road_score(detector, red_square(1), maps)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert np.array_equal(first, road_score(detector, red_square(1), maps))
    assert np.isfinite(first).all() and np.abs(first).max() < 0.1


def test_maps_that_do_not_fit_have_no_value() -> None:
    with pytest.raises(ValueError, match=r"should be \(2, 32, 32\)"):
        road_score(red(), red_square(2), np.zeros((2, 16, 16)))
    with pytest.raises(ValueError, match=r"should be \(1, 4, 32, 32\)"):
        road_score(red(clip=True), red_square(1, 4), np.zeros((1, 32, 32)))
    with pytest.raises(NotExplained, match="removes pixels"):
        road_score(lrnet(), still_face(), np.zeros((1, 256, 256)))


def test_one_overlay_serves_every_map_and_is_the_pages() -> None:
    crop = faces(1)[0]
    for found in (explain(red(), red_square(1)), explain(lrnet(), still_face() + 0.01 * faces(1)[0, :30, :136, 0])):
        drawn = overlay(crop, found.maps[0])
        assert drawn.shape == (256, 256, 3) and drawn.dtype == np.uint8
    dark = overlay(crop, np.zeros((64, 64)))
    assert np.array_equal(dark, crop)
    grey = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    files = []
    for pixels in (crop, grey):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        files.append(out.getvalue())
    assert np.array_equal(ui.overlay.overlay(*files, 0.5), overlay(crop, grey / 255, 0.5))
