"""Published GenD checkpoints, in transformers' and timm's names, to this module's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from detectors.checkpoints import CheckpointError, read_torch
from detectors.methods.gend.encoders import ENCODERS

CLIP = "feature_extractor.vision_model."
"""transformers' CLIP inside a published GenD."""
TIMM = "feature_extractor.backbone."
_UNUSED = ("feature_extractor.visual_projection.weight", f"{CLIP}embeddings.position_ids")
_OUTSIDE = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.position_embedding.weight": "pos_embed",
}
_NORMS = {"pre_layrnorm": "norm_pre", "post_layernorm": "norm"}
_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or PyTorch file, float32. Raises CheckpointError."""
    if path.suffix.lower() != ".safetensors":
        return read_torch(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read as safetensors: {str(error)[:200]}") from None


def normalised(path: Path) -> bool:
    """Whether the head sees features of length 1, from the config.json beside the weights. Raises CheckpointError."""
    beside = path.with_name("config.json")
    try:
        head = json.loads(beside.read_text(encoding="utf-8"))["head"]
    except (OSError, ValueError, KeyError, TypeError):
        head = None
    if head not in ("linear", "LinearNorm"):
        raise CheckpointError(
            f"{path.name} does not say what its head sees; put the published config.json beside it, with "
            '"head": "linear" (features as they are) or "LinearNorm" (of length 1)'
        )
    return bool(head == "LinearNorm")


def arch(state: Mapping[str, Tensor], what: str) -> str:
    """Which encoder it is, by names and by the shape of the patches. Raises CheckpointError for one not known here."""
    patches = state.get(f"{CLIP}embeddings.patch_embedding.weight")
    if patches is not None:
        for name, known in ENCODERS.items():
            if name.startswith("clip") and (known.width, known.patch) == (patches.shape[0], patches.shape[-1]):
                return name
        raise CheckpointError(f"{what}: no CLIP with patches of shape {tuple(patches.shape)} is known here")
    if f"{TIMM}attn_pool.latent" in state:
        return "pe_l14"
    reason = "its encoder is neither CLIP nor the Perception Encoder" if "model.linear.weight" in state else "no GenD"
    raise CheckpointError(f"{what} is refused: {reason}; GenD_CLIP_L_14 and GenD_PE_L can be imported")


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state in this module's names; queries, keys and values joined, as timm has them."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in _UNUSED:
            continue
        name = key.removeprefix(CLIP)
        stem, _, kind = name.rpartition(".")
        block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", stem)
        if key.startswith("model.linear."):
            result[f"head.{kind}"] = value
        elif key.startswith(TIMM):
            result[f"encoder.{key.removeprefix(TIMM)}"] = value
        elif name in _OUTSIDE:
            tokens = value.reshape(1, -1, value.shape[-1]) if "patch" not in name else value
            result[f"encoder.{_OUTSIDE[name]}"] = tokens
        elif stem in _NORMS:
            result[f"encoder.{_NORMS[stem]}.{kind}"] = value
        elif block and block[2] in _BLOCK:
            result[f"encoder.blocks.{block[1]}.{_BLOCK[block[2]]}.{kind}"] = value
        elif block and block[2] == "self_attn.q_proj":
            parts = [state.get(key.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            if all(part is not None for part in parts):
                joined = torch.cat([part for part in parts if part is not None])
                result[f"encoder.blocks.{block[1]}.attn.qkv.{kind}"] = joined
        elif not (block and block[2] in ("self_attn.k_proj", "self_attn.v_proj")):
            result[key] = value
    return result
