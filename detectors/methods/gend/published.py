"""Published GenD checkpoints, in transformers' and timm's names, to this module's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from detectors.checkpoints import CheckpointError, read_torch, set_aside
from detectors.methods.gend.encoders import ENCODERS

CLIP = "feature_extractor.vision_model."
"""transformers' CLIP inside a published GenD."""
TIMM = "feature_extractor.backbone."
"""What holds the Perception Encoder, in timm's names, or DINOv3, in transformers'."""
_DINO_TOKENS, _DINO_PATCHES = f"{TIMM}embeddings.register_tokens", f"{TIMM}embeddings.patch_embeddings.weight"
_UNUSED = (
    f"{TIMM}embeddings.mask_token",
    "feature_extractor.visual_projection.weight",
    f"{CLIP}embeddings.position_ids",
)
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
_DINO_OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
_DINO_BLOCK = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "attention.q_proj.bias": "attn.q_bias",
    "attention.v_proj.bias": "attn.v_bias",
    "attention.o_proj.weight": "attn.proj.weight",
    "attention.o_proj.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "gamma_1",
    "layer_scale2.lambda1": "gamma_2",
    "mlp.up_proj.weight": "mlp.fc1.weight",
    "mlp.up_proj.bias": "mlp.fc1.bias",
    "mlp.down_proj.weight": "mlp.fc2.weight",
    "mlp.down_proj.bias": "mlp.fc2.bias",
}
"""transformers' DINOv3ViTModel (models/dinov3_vit), a layer's own names."""


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
    if _DINO_TOKENS in state and _DINO_PATCHES in state:
        known = ENCODERS["dinov3_l16"]
        patches = state[_DINO_PATCHES]
        if (patches.shape[0], patches.shape[-1]) == (known.width, known.patch):
            return "dinov3_l16"
        raise CheckpointError(f"{what}: DINOv3 is known here as L/16, not with patches of {tuple(patches.shape)}")
    reason = "its encoder is none of the three" if "model.linear.weight" in state else "no GenD"
    raise CheckpointError(
        f"{what} is refused: {reason}; a GenD on CLIP, the Perception Encoder L/14 or DINOv3 L/16 can be imported"
    )


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state in this module's names; queries, keys and values joined, as timm has them."""
    if _DINO_TOKENS in state:
        return _dinov3(state)
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in _UNUSED:
            set_aside(key)
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
            result |= _joined(state, key, f"encoder.blocks.{block[1]}.attn.qkv.{kind}")
        elif not (block and block[2] in ("self_attn.k_proj", "self_attn.v_proj")):
            result[key] = value
    return result


def _joined(state: Mapping[str, Tensor], queries: str, name: str) -> dict[str, Tensor]:
    """Queries, keys and values as timm's one tensor; nothing where one of them is missing."""
    parts = [state.get(queries.replace("q_proj", f"{part}_proj")) for part in "qkv"]
    return {name: torch.cat([p for p in parts if p is not None])} if all(p is not None for p in parts) else {}


def _dinov3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A GenD on DINOv3; a name that is not known stays as it is, for the check that follows to name."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in _UNUSED:
            set_aside(key)
            continue
        name = key.removeprefix(TIMM)
        layer = re.fullmatch(r"layer\.(\d+)\.(.+)", name)
        if key.startswith("model.linear."):
            result[f"head.{key.rpartition('.')[2]}"] = value
        elif name in _DINO_OUTSIDE:
            result[f"encoder.{_DINO_OUTSIDE[name]}"] = value
        elif layer and layer[2] in _DINO_BLOCK:
            result[f"encoder.blocks.{layer[1]}.{_DINO_BLOCK[layer[2]]}"] = value
        elif layer and layer[2] == "attention.q_proj.weight":
            result |= _joined(state, key, f"encoder.blocks.{layer[1]}.attn.qkv.weight")
        elif not (layer and layer[2] in ("attention.k_proj.weight", "attention.v_proj.weight")):
            result[key] = value
    return result
