"""Which of timm's tensors each Keras layer's arrays are, network by network: layer name -> tensors in the file's order.

Names and orders are those of keras.applications (keras_applications 1.0.8 beside Keras 2.3, and later), and for the
EfficientNets also those of the package keras_efficientnets, which the reference uses and which leaves naming to Keras.
Keras numbers automatic names in the order in which the layers were made, whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from detectors.checkpoints import CheckpointError, KerasLayer
from detectors.methods.frame_cnn.backbones import KerasBackbone

Table = dict[str, tuple[str, ...]]

NORM = ("weight", "bias", "running_mean", "running_var")
"""Keras' order: gamma, beta, moving mean, moving variance."""
EFFICIENTNETS: tuple[KerasBackbone, ...] = ("efficientnet_b0", "efficientnet_b5")
INCEPTIONS: tuple[KerasBackbone, ...] = ("inception_v3", "inception_resnet_v2")


def table_of(backbone: KerasBackbone, layers: Sequence[KerasLayer], expected: dict[str, Tensor]) -> Table:
    """The table of a file's layers; `expected` is our network's state. Raises CheckpointError for wrong counts."""
    keys = [key.removeprefix("backbone.net.") for key in expected if key.startswith("backbone.net.")]
    if backbone == "xception":
        return _xception(layers)
    if backbone in INCEPTIONS:
        return _inception(backbone, layers, keys)
    if backbone == "resnet50":
        return _resnet(layers, keys)
    if backbone == "nasnet_large":
        return _nasnet()
    named = any(layer.name == "top_conv" for layer in layers)
    return _efficientnet(keys) if named else _unnamed_efficientnet(backbone, layers, keys)


def _norm(module: str) -> tuple[str, ...]:
    return tuple(f"{module}.{part}" for part in NORM)


def _made(layers: Iterable[KerasLayer], kind: str, count: int, what: str) -> list[str]:
    """The names of the layers with an automatic name of `kind`, in the order in which they were made."""
    found = sorted((layer for layer in layers if layer.kind == kind), key=lambda layer: layer.number)
    if len(found) != count:
        raise CheckpointError(f"{what} has {count} layers named {kind}, and the file {len(found)}")
    return [layer.name for layer in found]


def _xception(layers: Sequence[KerasLayer]) -> Table:
    """Keras counts blocks from 1 with the stem; timm's block k is Keras' k + 1, its last two layers are Keras' 14."""
    table: Table = {}

    def separable(name: str, module: str, norm: str) -> None:
        table[name] = (f"{module}.conv1.weight", f"{module}.pointwise.weight")
        table[f"{name}_bn"] = _norm(norm)

    for number in (1, 2):
        table[f"block1_conv{number}"] = (f"conv{number}.weight",)
        table[f"block1_conv{number}_bn"] = _norm(f"bn{number}")
    for block in range(1, 13):
        # An activation stands before every separable convolution but the very first.
        first = 0 if block == 1 else 1
        for index in range(3 if 4 <= block <= 11 else 2):
            at = first + 3 * index
            separable(f"block{block + 1}_sepconv{index + 1}", f"block{block}.rep.{at}", f"block{block}.rep.{at + 1}")
    separable("block14_sepconv1", "conv3", "bn3")
    separable("block14_sepconv2", "conv4", "bn4")
    for kind, part in (("conv2d", "skip"), ("batch_normalization", "skipbn")):
        for block, name in zip((1, 2, 3, 12), _made(layers, kind, 4, "Xception"), strict=True):
            module = f"block{block}.{part}"
            table[name] = (f"{module}.weight",) if part == "skip" else _norm(module)
    return table


def _inception(backbone: KerasBackbone, layers: Sequence[KerasLayer], keys: list[str]) -> Table:
    """Every convolution has a norm without gamma; both makers go through the branches of a block in the same order.

    InceptionResNetV2 names what closes a residual block, by its kind and its number from 1, and its last convolution.
    """
    table: Table = {}
    units = [key.removesuffix(".conv.weight") for key in keys if key.endswith(".conv.weight")]
    if backbone == "inception_resnet_v2":
        units.remove("conv2d_7b")
        table |= {"conv_7b": ("conv2d_7b.conv.weight",), "conv_7b_bn": _norm("conv2d_7b.bn")[1:]}
        residual = [(f"block35_{n + 1}", f"repeat.{n}") for n in range(10)]
        residual += [(f"block17_{n + 1}", f"repeat_1.{n}") for n in range(20)]
        residual += [(f"block8_{n + 1}", f"repeat_2.{n}") for n in range(9)] + [("block8_10", "block8")]
        for name, module in residual:
            table[f"{name}_conv"] = (f"{module}.conv2d.weight", f"{module}.conv2d.bias")
    for kind in ("conv2d", "batch_normalization"):
        for unit, name in zip(units, _made(layers, kind, len(units), backbone), strict=True):
            table[name] = (f"{unit}.conv.weight",) if kind == "conv2d" else _norm(f"{unit}.bn")[1:]
    return table


def _resnet(layers: Sequence[KerasLayer], keys: list[str]) -> Table:
    """Stages from 2; part `0` is the shortcut. keras_applications' first ResNet50 names them `res2a_branch2a`."""
    old = any(layer.name == "res2a_branch2a" for layer in layers)
    stem = ("conv1", "bn_conv1") if old else ("conv1_conv", "conv1_bn")
    table: Table = {stem[0]: ("conv1.weight", "conv1.bias"), stem[1]: _norm("bn1")}
    blocks = sorted({(int(key[5]), int(key.split(".")[1])) for key in keys if key.startswith("layer")})
    for stage, block in blocks:
        parts = [(str(number), f"conv{number}", f"bn{number}") for number in (1, 2, 3)]
        if block == 0:
            parts.append(("0", "downsample.0", "downsample.1"))
        for part, convolution, norm in parts:
            if old:
                place = f"{stage + 1}{chr(ord('a') + block)}_branch" + ("1" if part == "0" else f"2{' abc'[int(part)]}")
                names = (f"res{place}", f"bn{place}")
            else:
                place = f"conv{stage + 1}_block{block + 1}_{part}"
                names = (f"{place}_conv", f"{place}_bn")
            module = f"layer{stage}.{block}"
            table[names[0]] = (f"{module}.{convolution}.weight", f"{module}.{convolution}.bias")
            table[names[1]] = _norm(f"{module}.{norm}")
    return table


def _nasnet() -> Table:
    """Cells by what follows their number in Keras: timm counts normal cells and reductions apart."""
    table: Table = {"stem_conv1": ("conv0.conv.weight",), "stem_bn1": _norm("conv0.bn")}

    def unit(convolution: str, norm: str, module: str) -> None:
        table[convolution] = (f"{module}.conv.weight",)
        table[norm] = _norm(f"{module}.bn")

    def cell(kind: str, number: str, module: str, branches: dict[str, str], before: str) -> None:
        """`before`: how the output before last is fitted: by two shifted paths, a 1 x 1 convolution, or not at all."""
        unit(f"{kind}_conv_1_{number}", f"{kind}_bn_1_{number}", f"{module}.conv_1x1")
        if before == "paths":
            for path in (1, 2):
                table[f"adjust_conv_{path}_{number}"] = (f"{module}.path_{path}.conv.weight",)
            table[f"adjust_bn_{number}"] = _norm(f"{module}.final_path_bn")
        elif before == "projection":
            unit(f"adjust_conv_projection_{number}", f"adjust_bn_{number}", f"{module}.conv_prev_1x1")
        for name, branch in branches.items():
            place = f"{kind}_{name}_{number}"
            for half in (1, 2):
                own = f"{module}.comb_iter_{branch}"
                separable = f"{own}.separable_{half}"
                weights = (f"{separable}.depthwise_conv2d.weight", f"{separable}.pointwise_conv2d.weight")
                table[f"separable_conv_{half}_{place}"] = weights
                table[f"separable_conv_{half}_bn_{place}"] = _norm(f"{own}.bn_sep_{half}")

    normal = {"left1": "0_left", "right1": "0_right", "left2": "1_left", "right2": "1_right", "left5": "4_left"}
    reduction = {"left1": "0_left", "right1": "0_right", "right2": "1_right", "right3": "2_right", "left4": "4_left"}
    cell("reduction", "stem_1", "cell_stem_0", reduction, "")
    cell("reduction", "stem_2", "cell_stem_1", reduction, "paths")
    for index in range(2):
        cell("reduction", f"reduce_{6 * index + 6}", f"reduction_cell_{index}", reduction, "projection")
    for index in range(18):
        number = index if index < 6 else index + 1  # after the first reduction Keras leaves one out
        cell("normal", str(number), f"cell_{index}", normal, "projection" if index % 6 else "paths")
    return table


def _blocks(keys: list[str]) -> list[tuple[int, int]]:
    """Stage and place of each of an EfficientNet's blocks."""
    return sorted({(int(key.split(".")[1]), int(key.split(".")[2])) for key in keys if key.startswith("blocks.")})


def _convolutions(stage: int) -> tuple[str, ...]:
    """timm's names of a block's convolutions, depthwise among them; the first stage's blocks have no expansion."""
    return ("conv_pw", "conv_dw", "conv_pwl") if stage else ("conv_dw", "conv_pw")


def _efficientnet(keys: list[str]) -> Table:
    """keras.applications names a block by its stage from 1 and a letter."""
    table: Table = {"stem_conv": ("conv_stem.weight",), "stem_bn": _norm("bn1")}
    for stage, index in _blocks(keys):
        block, ours = f"block{stage + 1}{chr(ord('a') + index)}", f"blocks.{stage}.{index}"
        names = (("expand_conv", "expand_bn"), ("dwconv", "bn"), ("project_conv", "project_bn"))[0 if stage else 1 :]
        for number, ((layer, norm), module) in enumerate(zip(names, _convolutions(stage), strict=True), 1):
            table[f"{block}_{layer}"] = (f"{ours}.{module}.weight",)
            table[f"{block}_{norm}"] = _norm(f"{ours}.bn{number}")
        for layer, module in (("se_reduce", "conv_reduce"), ("se_expand", "conv_expand")):
            table[f"{block}_{layer}"] = (f"{ours}.se.{module}.weight", f"{ours}.se.{module}.bias")
    return table | {"top_conv": ("conv_head.weight",), "top_bn": _norm("bn2")}


def _unnamed_efficientnet(backbone: KerasBackbone, layers: Sequence[KerasLayer], keys: list[str]) -> Table:
    """keras_efficientnets: automatic names; the squeeze stands between the depthwise convolution and the last."""
    convolutions: list[tuple[str, ...]] = [("conv_stem.weight",)]
    depthwise: list[tuple[str, ...]] = []
    norms = [_norm("bn1")]
    for stage, index in _blocks(keys):
        ours = f"blocks.{stage}.{index}"
        *before, deep, project = (f"{ours}.{name}.weight" for name in _convolutions(stage))
        convolutions += [(name,) for name in before]
        depthwise.append((deep,))
        convolutions += [tuple(f"{ours}.se.conv_{s}.{p}" for p in ("weight", "bias")) for s in ("reduce", "expand")]
        convolutions.append((project,))
        norms += [_norm(f"{ours}.bn{number}") for number in range(1, len(before) + 3)]
    convolutions.append(("conv_head.weight",))
    norms.append(_norm("bn2"))
    table: Table = {}
    kinds = (("conv2d", convolutions), ("depthwise_conv2d", depthwise), ("batch_normalization", norms))
    for kind, tensors in kinds:
        table |= zip(_made(layers, kind, len(tensors), backbone), tensors, strict=True)
    return table
