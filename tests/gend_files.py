"""Published GenD checkpoints with random numbers, and the encoders of transformers written out from their names."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

WIDTH, HEADS, DEPTH, PATCH = 48, 3, 2, 32
DINO_WIDTH, DINO_PATCH = 32, 16


class Clip:
    """Random numbers in the names of a published GenD on CLIP, and transformers' vision tower written out."""

    def __init__(self, size: int = 224) -> None:
        self.random = torch.Generator().manual_seed(0)
        prefix = "feature_extractor.vision_model."
        self.state = {
            f"{prefix}embeddings.class_embedding": self.draw(WIDTH),
            f"{prefix}embeddings.patch_embedding.weight": self.draw(WIDTH, 3, PATCH, PATCH) / 30,
            f"{prefix}embeddings.position_embedding.weight": self.draw((size // PATCH) ** 2 + 1, WIDTH),
            f"{prefix}embeddings.position_ids": torch.arange((size // PATCH) ** 2 + 1)[None],
            "feature_extractor.visual_projection.weight": self.draw(32, WIDTH),
        }
        for norm in ("pre_layrnorm", "post_layernorm"):
            self.norm(f"{prefix}{norm}")
        for number in range(DEPTH):
            layer = f"{prefix}encoder.layers.{number}."
            self.norm(f"{layer}layer_norm1")
            self.norm(f"{layer}layer_norm2")
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                self.linear(f"{layer}self_attn.{name}", WIDTH, WIDTH)
            self.linear(f"{layer}mlp.fc1", 4 * WIDTH, WIDTH)
            self.linear(f"{layer}mlp.fc2", WIDTH, 4 * WIDTH)
        self.linear("model.linear", 2, WIDTH)

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def norm(self, name: str) -> None:
        self.state |= {f"{name}.weight": 1 + 0.3 * self.draw(WIDTH), f"{name}.bias": 0.3 * self.draw(WIDTH)}

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.state |= {
            f"{name}.weight": self.draw(outputs, inputs) / inputs**0.5,
            f"{name}.bias": 0.3 * self.draw(outputs),
        }

    def apply(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self.state[f"feature_extractor.vision_model.{name}.{part}"] for part in ("weight", "bias"))
        return functional.layer_norm(x, (WIDTH,), weight, bias, 1e-5) if weight.ndim == 1 else x @ weight.T + bias

    def features(self, batch: Tensor) -> Tensor:
        """The class token after the post layer norm (B, WIDTH)."""
        of = {k.rpartition("embeddings.")[2]: v for k, v in self.state.items() if "embeddings." in k}
        patches = functional.conv2d(batch, of["patch_embedding.weight"], stride=PATCH).flatten(2).transpose(1, 2)
        start = of["class_embedding"].expand(len(batch), 1, WIDTH)
        x = torch.cat([start, patches], 1) + of["position_embedding.weight"]
        x = self.apply("pre_layrnorm", x)
        for number in range(DEPTH):
            layer = f"encoder.layers.{number}."
            normed = self.apply(f"{layer}layer_norm1", x)
            q, k, v = (
                self.apply(f"{layer}self_attn.{n}_proj", normed).unflatten(2, (HEADS, -1)).transpose(1, 2)
                for n in "qkv"
            )
            weights = (q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(3)
            x = x + self.apply(f"{layer}self_attn.out_proj", (weights @ v).transpose(1, 2).flatten(2))
            hidden = self.apply(f"{layer}mlp.fc1", self.apply(f"{layer}layer_norm2", x))
            x = x + self.apply(f"{layer}mlp.fc2", hidden * torch.sigmoid(1.702 * hidden))
        return self.apply("post_layernorm", x[:, 0])

    def classes(self, features: Tensor) -> Tensor:
        return features @ self.state["model.linear.weight"].T + self.state["model.linear.bias"]


class Dinov3(Clip):
    """The same for a GenD on DINOv3: transformers' DINOv3ViTModel inside `feature_extractor.backbone`."""

    def __init__(self, width: int = DINO_WIDTH, depth: int = DEPTH, inner: int = 4) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.width, self.depth = width, depth
        before = "feature_extractor.backbone."
        self.state = {
            f"{before}embeddings.cls_token": self.draw(1, 1, width),
            f"{before}embeddings.mask_token": self.draw(1, 1, width),
            f"{before}embeddings.register_tokens": self.draw(1, 4, width),
            f"{before}embeddings.patch_embeddings.weight": self.draw(width, 3, DINO_PATCH, DINO_PATCH) / 16,
            f"{before}embeddings.patch_embeddings.bias": self.draw(width),
        }
        self.affine(f"{before}norm")
        for number in range(depth):
            layer = f"{before}layer.{number}."
            for name in ("norm1", "norm2"):
                self.affine(f"{layer}{name}")
                self.state[f"{layer}layer_scale{name[-1]}.lambda1"] = self.draw(width)
            for name in ("k_proj", "v_proj", "q_proj", "o_proj"):
                self.linear(f"{layer}attention.{name}", width, width)
            del self.state[f"{layer}attention.k_proj.bias"]
            self.linear(f"{layer}mlp.up_proj", inner * width, width)
            self.linear(f"{layer}mlp.down_proj", width, inner * width)
        self.linear("model.linear", 2, width)

    def affine(self, name: str) -> None:
        self.state |= {
            f"{name}.weight": 1 + 0.3 * self.draw(self.width),
            f"{name}.bias": 0.3 * self.draw(self.width),
        }

    def of(self, name: str) -> Tensor:
        return self.state[f"feature_extractor.backbone.{name}"]

    def apply(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.of(f"{name}.weight"), self.state.get(f"feature_extractor.backbone.{name}.bias")
        return (
            functional.layer_norm(x, (self.width,), weight, bias, 1e-5) if weight.ndim == 1 else linear(x, weight, bias)
        )

    def turned(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Rotary positions on the patches of queries or keys (B, heads, 5 + patches, d), angle by angle.

        A quarter of a head's numbers turns with the row, a quarter with the column, each with its partner half a head
        away; a patch's centre lies in -1..1, periods go from 1 to 100.
        """
        size = x.shape[-1]
        turned = x.clone()
        for at in range(rows * columns):
            place = [2 * (at // columns + 0.5) / rows - 1, 2 * (at % columns + 0.5) / columns - 1]
            for index in range(size // 2):
                axis, step = divmod(index, size // 4)
                angle = 2 * math.pi * place[axis] / 100 ** (4 * step / size)
                one, two = x[..., 5 + at, index], x[..., 5 + at, index + size // 2]
                turned[..., 5 + at, index] = one * math.cos(angle) - two * math.sin(angle)
                turned[..., 5 + at, index + size // 2] = two * math.cos(angle) + one * math.sin(angle)
        return turned

    def tokens(self, batch: Tensor) -> Tensor:
        """All tokens after the last norm, (B, 5 + patches, width)."""
        weight, bias = (self.of(f"embeddings.patch_embeddings.{part}") for part in ("weight", "bias"))
        patches = functional.conv2d(batch, weight, bias, stride=DINO_PATCH)
        rows, columns = patches.shape[-2:]
        start = [self.of(f"embeddings.{name}").expand(len(batch), -1, -1) for name in ("cls_token", "register_tokens")]
        x = torch.cat([*start, patches.flatten(2).transpose(1, 2)], 1)
        for number in range(self.depth):
            layer = f"layer.{number}."
            normed = self.apply(f"{layer}norm1", x)
            q, k, v = (
                self.apply(f"{layer}attention.{n}_proj", normed).unflatten(2, (2, -1)).transpose(1, 2) for n in "qkv"
            )
            q, k = self.turned(q, rows, columns), self.turned(k, rows, columns)
            weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(3)
            found = self.apply(f"{layer}attention.o_proj", (weights @ v).transpose(1, 2).flatten(2))
            x = x + self.of(f"{layer}layer_scale1.lambda1") * found
            hidden = functional.gelu(self.apply(f"{layer}mlp.up_proj", self.apply(f"{layer}norm2", x)))
            x = x + self.of(f"{layer}layer_scale2.lambda1") * self.apply(f"{layer}mlp.down_proj", hidden)
        return self.apply("norm", x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.T + (0 if bias is None else bias)


def written(state: dict[str, Tensor], folder: Path, head: str | None = "LinearNorm", name: str = "") -> Path:
    """As save_pretrained leaves it."""
    path = folder / (name or "model.safetensors")
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    if head:
        (folder / "config.json").write_text(json.dumps({"backbone": "openai/clip", "head": head, "model_type": "GenD"}))
    return path
