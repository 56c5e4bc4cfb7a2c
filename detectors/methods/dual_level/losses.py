"""The losses of one branch: binary cross entropy mixed with a differentiable AUC, or the focal loss.

The AUC is the Wilcoxon-Mann-Whitney statistic: the share of pairs (fake, real) in which the fake scores higher. Its
surrogate (Yan et al., ICML 2003) charges each pair that is not `gamma` apart (Pu et al. 2022, section 3).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Pairs = Literal["all", "violating"]


def auc_loss(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 0.15,
    power: float = 2.0,
    pairs: Pairs = "all",
    published_orientation: bool = False,
) -> Tensor:
    """Mean over pairs of (gamma - (s_fake - s_real)) ** power where s_fake - s_real < gamma, else 0; a scalar.

    `logits`, `targets` (N,): s is the sigmoid of the logit, a target above 0.5 is fake. 0 where one class is absent.
    The mean is over all pairs, as in the paper. The published code differs twice, and both can be asked for to compare
    with it: it takes the mean over the pairs that violate the margin (`pairs`), and it wants *real* to score higher
    (`published_orientation`), against the cross entropy beside it.
    """
    scores, fake = logits.sigmoid(), targets > 0.5
    higher, lower = scores[fake], scores[~fake]
    if published_orientation:
        higher, lower = lower, higher
    short = (gamma - (higher[:, None] - lower[None, :])).clamp_min(0)
    count = (short > 0).sum() if pairs == "violating" else short.numel()
    # An empty sum divided by one keeps the gradient's path and its value of zero.
    return short.pow(power).sum() / max(int(count), 1)


def focal_loss(logits: Tensor, targets: Tensor, focus: float = 2.0, fake_weight: float = 0.6) -> Tensor:
    """Mean of -a (1 - s)^g y log s - (1 - a) s^g (1 - y) log(1 - s) (Lin et al., ICCV 2017), a scalar."""
    scores = logits.sigmoid()
    fake = -fake_weight * (1 - scores).pow(focus) * targets * functional.logsigmoid(logits)
    real = -(1 - fake_weight) * scores.pow(focus) * (1 - targets) * functional.logsigmoid(-logits)
    return (fake + real).mean()


def branch_loss(
    logits: Tensor,
    targets: Tensor,
    kind: Literal["auc", "bce", "focal"] = "auc",
    alpha: float = 0.5,
    gamma: float = 0.15,
    power: float = 2.0,
) -> Tensor:
    """The loss of the video scores or of the frame scores, both (N,).

    "auc" is alpha * BCE + (1 - alpha) * auc_loss, and plain BCE where there is no pair or no pair violates the margin.
    """
    if kind == "focal":
        return focal_loss(logits, targets)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets)
    if kind == "bce":
        return entropy
    ranking = auc_loss(logits, targets, gamma, power)
    return torch.where(ranking > 0, alpha * entropy + (1 - alpha) * ranking, entropy)
