"""From the published checkpoints' names (lukemelas' EfficientNet, the authors' decoder and heads) to this module's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from detectors.checkpoints import CheckpointError, set_aside

STAGE_STARTS = (0, 2, 6, 10, 16, 22, 30)
"""The published blocks are numbered through; timm's by stage."""
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_FIRST_STAGE = _SQUEEZE | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = _SQUEEZE | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_HEADS = {"hm": "heatmap_head", "cstency": "consistency_head", "cls": "class_head"}


def converted(state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The state in this module's names; an unknown name stays as it is, for the check that follows to name.

    The file holds the inception block twice. Raises CheckpointError where the two differ, because then it is not known
    which of them the network ran.
    """
    for key, value in state.items():
        if key.startswith("inception_block."):
            twin = state.get(key.replace("inception_block.", "deconv_4.0.", 1))
            if twin is None or not torch.equal(twin, value):
                raise CheckpointError(f"{what} is no LAA-Net as published: {key} and deconv_4.0 should be the same")
            set_aside(key)
    return {_renamed(k): v for k, v in state.items() if not k.startswith("inception_block.")}


def _renamed(key: str) -> str:
    first, _, rest = key.partition(".")
    if first in _OUTSIDE:
        return f"backbone.net.{_OUTSIDE[first]}.{rest}"
    if first in _HEADS:
        return f"{_HEADS[first]}.{rest}"
    if step := re.fullmatch(r"deconv_([1-4])\.(.+)", key):
        return f"decoder.steps.{int(step[1]) - 1}.{step[2]}"
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        number = int(block[1])
        stage = sum(number >= start for start in STAGE_STARTS) - 1
        names = _FIRST_STAGE if stage == 0 else _LATER_STAGES
        if block[2] in names:
            return f"backbone.net.blocks.{stage}.{number - STAGE_STARTS[stage]}.{names[block[2]]}.{block[3]}"
    return key
