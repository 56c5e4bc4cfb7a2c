"""Grad-CAM toward *fake* (Selvaraju et al., ICCV 2017, arXiv 1610.02391), for methods without a map of their own.

The usual picture divides each map by its own maximum, so that the faintest trace of evidence in a real face glows as
red as a forgery. Here the maximum of a map is the face's calibrated score instead: where the detector says 0.03,
nothing on the picture is brighter than 0.03. So brightness compares between faces; within one face the map is still
relative, coarse (the layer's resolution) and no proof that the marked pixels were changed.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from detectors.store import LoadedDetector


def grad_cam(loaded: LoadedDetector, batch: Tensor) -> Tensor | None:
    """Maps of a prepared batch, (B, h, w) in 0..score at the resolution of `cam_layer`; None where there is none.

    The formula stands here, because importing the library for it costs more than a whole scan; the tests hold the two
    against each other.
    """
    if loaded.detector.cam_layer() is None:
        return None
    # A hook would see the forward passes of other threads too, hence a network of our own.
    detector = copy.deepcopy(loaded.detector)
    seen: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    layer = detector.cam_layer()
    assert layer is not None
    layer.register_forward_hook(keep)
    with torch.enable_grad():
        logit = detector(batch.clone().requires_grad_()).logit
        (activation,) = seen
        # Samples do not touch in evaluation mode: the gradient of the sum is each one's own.
        (gradient,) = torch.autograd.grad(logit.sum(), activation)
    weight = gradient.mean((2, 3), keepdim=True)
    evidence = (weight * activation.detach()).sum(1).relu()
    peak = evidence.amax((1, 2), keepdim=True)
    relative = torch.where(peak > 0, evidence / peak.clamp_min(torch.finfo(peak.dtype).tiny), 0.0)
    score = torch.from_numpy(loaded.score(logit.detach().cpu().numpy()).astype(np.float32)).to(relative.device)
    return relative * score[:, None, None]
