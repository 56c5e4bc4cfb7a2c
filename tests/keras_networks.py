"""What Keras computes with the networks of keras.applications and keras_efficientnets, from its own layers, one by one.

Each takes random layers (`Keras`, which keeps them as a file has them) and frames, and gives the last map.
"""

import math

import torch
from keras_files import Keras, as_in, same
from torch import Tensor
from torch.nn import functional

Steps = tuple[tuple[int, int | tuple[int, int]], ...]


def unit(
    keras: Keras, x: Tensor, out: int, k: int | tuple[int, int] = 1, stride: int = 1, pad: str = "same", name: str = ""
) -> Tensor:
    """The Inceptions' convolution, norm without gamma and ReLU."""
    x = keras.conv(name or keras.automatic("conv2d"), x, out, k, stride, pad)
    return keras.norm(f"{name}_bn" if name else keras.automatic("batch_normalization"), x, scaled=False).relu()


def pixels(x: Tensor) -> Tensor:
    """Average pool 3 x 3, "same": of the pixels that there are."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def halved(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2)


def inception_stem(keras: Keras, x: Tensor) -> Tensor:
    x = unit(keras, unit(keras, x, 32, 3, 2, "valid"), 32, 3, 1, "valid")
    x = halved(unit(keras, x, 64, 3))
    return halved(unit(keras, unit(keras, x, 80, 1, 1, "valid"), 192, 3, 1, "valid"))


def chain(keras: Keras, x: Tensor, *steps: tuple[int, int | tuple[int, int]], last: int = 1) -> Tensor:
    """Units one after another; the last with stride 2 is unpadded."""
    for number, (out, k) in enumerate(steps, 1):
        stride = last if number == len(steps) else 1
        x = unit(keras, x, out, k, stride, "valid" if stride == 2 else "same")
    return x


def inception_v3(keras: Keras, x: Tensor) -> Tensor:
    row, column = (1, 7), (7, 1)
    x = inception_stem(keras, x)
    for pooled in (32, 64, 64):
        branches = [chain(keras, x, (64, 1)), chain(keras, x, (48, 1), (64, 5))]
        branches += [chain(keras, x, (64, 1), (96, 3), (96, 3)), chain(keras, pixels(x), (pooled, 1))]
        x = torch.cat(branches, 1)
    x = torch.cat([chain(keras, x, (384, 3), last=2), chain(keras, x, (64, 1), (96, 3), (96, 3), last=2), halved(x)], 1)
    for c in (128, 160, 160, 192):
        branches = [chain(keras, x, (192, 1)), chain(keras, x, (c, 1), (c, row), (192, column))]
        branches.append(chain(keras, x, (c, 1), (c, column), (c, row), (c, column), (192, row)))
        x = torch.cat([*branches, chain(keras, pixels(x), (192, 1))], 1)
    branches = [chain(keras, x, (192, 1), (320, 3), last=2)]
    branches.append(chain(keras, x, (192, 1), (192, row), (192, column), (192, 3), last=2))
    x = torch.cat([*branches, halved(x)], 1)
    for _ in range(2):
        branches = [chain(keras, x, (320, 1))]
        for steps in (((384, 1),), ((448, 1), (384, 3))):
            before = chain(keras, x, *steps)
            branches += [chain(keras, before, (384, (1, 3))), chain(keras, before, (384, (3, 1)))]
        x = torch.cat([*branches, chain(keras, pixels(x), (192, 1))], 1)
    return x


def inception_resnet_v2(keras: Keras, x: Tensor) -> Tensor:
    def residual(x: Tensor, name: str, scale: float, *branches: Steps) -> Tensor:
        mixed = torch.cat([chain(keras, x, *steps) for steps in branches], 1)
        return x + scale * keras.conv(f"{name}_conv", mixed, x.shape[1], 1, bias=True)

    x = inception_stem(keras, x)
    branches = [chain(keras, x, (96, 1)), chain(keras, x, (48, 1), (64, 5))]
    branches += [chain(keras, x, (64, 1), (96, 3), (96, 3)), chain(keras, pixels(x), (64, 1))]
    x = torch.cat(branches, 1)
    for n in range(1, 11):
        paths = (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))
        x = residual(x, f"block35_{n}", 0.17, *paths).relu()
    branches = [chain(keras, x, (384, 3), last=2), chain(keras, x, (256, 1), (256, 3), (384, 3), last=2)]
    x = torch.cat([*branches, halved(x)], 1)
    for n in range(1, 21):
        x = residual(x, f"block17_{n}", 0.1, ((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))).relu()
    branches = [chain(keras, x, (256, 1), (384, 3), last=2), chain(keras, x, (256, 1), (288, 3), last=2)]
    x = torch.cat([*branches, chain(keras, x, (256, 1), (288, 3), (320, 3), last=2), halved(x)], 1)
    for n in range(1, 11):
        paths = (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))
        x = residual(x, f"block8_{n}", 0.2 if n < 10 else 1.0, *paths)
        x = x.relu() if n < 10 else x
    return unit(keras, x, 1536, name="conv_7b")


def resnet50(keras: Keras, x: Tensor, old: bool = False) -> Tensor:
    """`old`: keras_applications' first, with other names and Keras' default epsilon."""

    def both(place: tuple[str, str], x: Tensor, out: int, k: int, stride: int = 1, pad: str = "valid") -> Tensor:
        convolution, norm = place
        return keras.norm(norm, keras.conv(convolution, x, out, k, stride, pad, bias=True), 1e-3 if old else 1.001e-5)

    def names(stage: int, block: int, part: int) -> tuple[str, str]:
        if not old:
            place = f"conv{stage}_block{block}_{part}"
            return f"{place}_conv", f"{place}_bn"
        place = f"{stage}{'abcdef'[block - 1]}_branch{('1', '2a', '2b', '2c')[part]}"
        return f"res{place}", f"bn{place}"

    x = both(("conv1", "bn_conv1") if old else ("conv1_conv", "conv1_bn"), functional.pad(x, (3,) * 4), 64, 7, 2).relu()
    keras.layers["pool1_pad"] = []
    x = halved(functional.pad(x, (1,) * 4))
    for stage, blocks, width in ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512)):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            shortcut = both(names(stage, block, 0), x, 4 * width, 1, stride) if block == 1 else x
            x = both(names(stage, block, 1), x, width, 1, stride).relu()
            x = both(names(stage, block, 2), x, width, 3, pad="same").relu()
            x = (both(names(stage, block, 3), x, 4 * width, 1) + shortcut).relu()
    return x


def nasnet(keras: Keras, x: Tensor, filters: int, stem: int) -> Tensor:
    """NASNet-A as Large is built: six normal cells between reductions, the stem's two reductions before them."""

    def convolved(x: Tensor, out: int, name: str, norm: str) -> Tensor:
        return keras.norm(norm, keras.conv(name, x.relu(), out, 1))

    def twice(x: Tensor, out: int, k: int, block: str, stride: int = 1) -> Tensor:
        for half in (1, 2):
            wide = x.shape[1]
            deep, point = keras.draw(k, k, wide, 1, fan=k * k), keras.draw(1, 1, wide, out, fan=wide)
            keras.layers[f"separable_conv_{half}_{block}"] = [deep, point]
            x = keras.depthwise(deep, x.relu(), k, stride if half == 1 else 1)
            x = functional.conv2d(x, as_in(x, point).permute(3, 2, 0, 1))
            x = keras.norm(f"separable_conv_{half}_bn_{block}", x)
        return x

    def adjusted(p: Tensor, like: Tensor, out: int, block: str) -> Tensor:
        if p.shape[-1] != like.shape[-1]:
            p = p.relu()
            shifted = functional.pad(p, (0, 1, 0, 1))[:, :, 1:, 1:]
            paths = [p[:, :, ::2, ::2], shifted[:, :, ::2, ::2]]
            paths = [keras.conv(f"adjust_conv_{i}_{block}", path, out // 2, 1) for i, path in enumerate(paths, 1)]
            return keras.norm(f"adjust_bn_{block}", torch.cat(paths, 1))
        if p.shape[1] != out:
            return convolved(p, out, f"adjust_conv_projection_{block}", f"adjust_bn_{block}")
        return p

    def normal(x: Tensor, p: Tensor, out: int, block: str) -> Tensor:
        p = adjusted(p, x, out, block)
        h = convolved(x, out, f"normal_conv_1_{block}", f"normal_bn_1_{block}")
        one = twice(h, out, 5, f"normal_left1_{block}") + twice(p, out, 3, f"normal_right1_{block}")
        two = twice(p, out, 5, f"normal_left2_{block}") + twice(p, out, 3, f"normal_right2_{block}")
        five = twice(h, out, 3, f"normal_left5_{block}") + h
        return torch.cat([p, one, two, pixels(h) + p, pixels(p) + pixels(p), five], 1)

    def reduction(x: Tensor, p: Tensor | None, out: int, block: str) -> Tensor:
        p = x if p is None else adjusted(p, x, out, block)
        h = convolved(x, out, f"reduction_conv_1_{block}", f"reduction_bn_1_{block}")
        keras.layers[f"reduction_pad_1_{block}"] = []
        bordered = same(h, 3, 2, 0.0)
        one = twice(h, out, 5, f"reduction_left1_{block}", 2) + twice(p, out, 7, f"reduction_right1_{block}", 2)
        two = halved(bordered) + twice(p, out, 7, f"reduction_right2_{block}", 2)
        three = functional.avg_pool2d(bordered, 3, 2) + twice(p, out, 5, f"reduction_right3_{block}", 2)
        five = twice(one, out, 3, f"reduction_left4_{block}") + halved(bordered)
        return torch.cat([two, three, pixels(one) + two, five], 1)

    x = keras.norm("stem_bn1", keras.conv("stem_conv1", x, stem, 3, 2, "valid"))
    p: Tensor = x
    x = reduction(x, None, filters // 4, "stem_1")
    x, p = reduction(x, p, filters // 2, "stem_2"), x
    for part in range(3):
        if part:
            x = reduction(x, p, filters * 2**part, f"reduce_{6 * part}")
        for cell in range(6):
            number = cell if part == 0 else 6 * part + cell + 1
            x, p = normal(x, p, filters * 2**part, str(number)), x
    return x.relu()


def efficientnet(keras: Keras, x: Tensor, wide: float = 1.0, deep: float = 1.0, named: bool = True) -> Tensor:
    """`named` as in keras.applications; else by Keras, as in keras_efficientnets."""

    def width(channels: int) -> int:
        near = max(8, int(channels * wide + 4) // 8 * 8)
        return near if near >= 0.9 * channels * wide else near + 8

    def name(own: str, kind: str) -> str:
        return own if named else keras.automatic(kind)

    def both(own: tuple[str, str], x: Tensor, out: int, k: int = 1, stride: int = 1) -> Tensor:
        x = keras.conv(name(own[0], "conv2d"), x, out, k, stride)
        return keras.norm(name(own[1], "batch_normalization"), x)

    swish = functional.silu
    x = swish(both(("stem_conv", "stem_bn"), x, width(32), 3, 2))
    stages = ((1, 1, 16, 1, 3), (2, 6, 24, 2, 3), (2, 6, 40, 2, 5), (3, 6, 80, 2, 3))
    stages += ((3, 6, 112, 1, 5), (4, 6, 192, 2, 5), (1, 6, 320, 1, 3))
    for stage, (repeats, expand, out, stride, k) in enumerate(stages, 1):
        for index in range(math.ceil(repeats * deep)):
            block, shortcut, inside = f"block{stage}{chr(ord('a') + index)}", x, x.shape[1]
            if expand > 1:
                x = swish(both((f"{block}_expand_conv", f"{block}_expand_bn"), x, inside * expand))
            kernel = keras.draw(k, k, x.shape[1], 1, fan=k * k)
            keras.layers[name(f"{block}_dwconv", "depthwise_conv2d")] = [kernel]
            x = keras.depthwise(kernel, x, k, stride if index == 0 else 1)
            x = swish(keras.norm(name(f"{block}_bn", "batch_normalization"), x))
            squeezed = x.mean((2, 3), keepdim=True)
            few = max(1, int(inside * 0.25))
            squeezed = swish(keras.conv(name(f"{block}_se_reduce", "conv2d"), squeezed, few, 1, bias=True))
            x = x * torch.sigmoid(keras.conv(name(f"{block}_se_expand", "conv2d"), squeezed, x.shape[1], 1, bias=True))
            x = both((f"{block}_project_conv", f"{block}_project_bn"), x, width(out))
            x = x + shortcut if index else x
    return swish(both(("top_conv", "top_bn"), x, width(1280)))
