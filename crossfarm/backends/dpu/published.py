"""Thirteen networks by their layers, and the latency that AMD published of each: what the estimate is held against.

Source of the figures: Vitis AI 2.5 Model Zoo, README, end-to-end frames per second of one thread, which is one core and
one image at a time: ZCU104 with B4096 at 300 MHz, ZCU102 with B4096 at 281 MHz. `gop` is AMD's label of the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from crossfarm.backends.dpu.layers import Kind, Layer, Network, Tensor

_V1 = (64, 128, 256, 512)
_INCEPTION: tuple[tuple[int, ...], ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
"""Channels of the branches of each module: 1x1, 3x3 and before it, 3x3 for 5x5 and before it, pool; () halves."""
_INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""MobileNet v2: expansion, channels, repeats, stride."""


class _Builder:
    """Adds layers one behind the other; a tensor is named by the layer that gives it."""

    def __init__(self, extent: int, channels: int = 3) -> None:
        self.tensors = {"image": Tensor(channels=channels, height=extent, width=extent)}
        self.layers: list[Layer] = []

    def convolution(self, source: str, channels: int, kernel: int = 1, stride: int = 1) -> str:
        return self._windowed("conv", source, channels, kernel, stride)

    def depthwise(self, source: str, stride: int) -> str:
        return self._windowed("depthwise", source, self.tensors[source].channels, 3, stride)

    def maximum(self, source: str, kernel: int, stride: int) -> str:
        return self._windowed("max", source, self.tensors[source].channels, kernel, stride)

    def over_all(self, kind: Literal["conv", "average"], source: str, channels: int = 0) -> str:
        """Add a layer whose window is the whole tensor: a mean, or a fully connected layer."""
        tensor = self.tensors[source]
        window = (tensor.height, tensor.width)
        return self._add(kind, (source,), Tensor(channels=channels or tensor.channels), kernel=window)

    def joined(self, kind: Literal["add", "concat"], sources: Sequence[str]) -> str:
        tensor = self.tensors[sources[0]]
        channels = tensor.channels if kind == "add" else sum(self.tensors[name].channels for name in sources)
        return self._add(kind, tuple(sources), dataclasses.replace(tensor, channels=channels))

    def network(self) -> Network:
        last = self.layers[-1].output
        return Network(tensors=self.tensors, layers=tuple(self.layers), inputs=("image",), outputs=(last,))

    def _windowed(self, kind: Kind, source: str, channels: int, kernel: int, stride: int) -> str:
        extent = -(-self.tensors[source].height // stride)
        around = (kernel - 1) // 2
        return self._add(
            kind,
            (source,),
            Tensor(channels=channels, height=extent, width=extent),
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(around, around),
        )

    def _add(
        self,
        kind: Kind,
        inputs: tuple[str, ...],
        tensor: Tensor,
        *,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
    ) -> str:
        name = f"{kind} {len(self.layers)}"
        self.tensors[name] = tensor
        lefts = (0,) * len(inputs) if kind in ("add", "concat") else ()
        self.layers.append(
            Layer(
                name=name,
                kind=kind,
                inputs=inputs,
                output=name,
                kernel=kernel,
                stride=stride,
                padding=padding,
                lefts=lefts,
            )
        )
        return name


def _resnet(depths: Sequence[int], *, halves: Literal["last", "first", "plain"]) -> Network:
    """ResNet. `last`: bottlenecks, the last 3x3 of a stage halves (TF-Slim); `first`: the first one does (v1.5)."""
    net = _Builder(224)
    at = net.maximum(net.convolution("image", 64, 7, 2), 3, 2)
    for stage, (depth, width) in enumerate(zip(depths, _V1, strict=True)):
        out = width if halves == "plain" else 4 * width
        for unit in range(depth):
            is_halving = unit == depth - 1 and stage < 3 if halves == "last" else unit == 0 and stage > 0
            stride = 2 if is_halving else 1
            if halves == "plain":
                inside = net.convolution(net.convolution(at, width, 3, stride), width, 3)
            else:
                inside = net.convolution(net.convolution(net.convolution(at, width), width, 3, stride), out)
            if net.tensors[at].channels != out:
                at = net.convolution(at, out, 1, stride)
            elif stride > 1:
                at = net.maximum(at, 1, stride)
            at = net.joined("add", (inside, at))
    net.over_all("conv", net.over_all("average", at), 1000)
    return net.network()


def _vgg(repeats: Sequence[int]) -> Network:
    net, at = _Builder(224), "image"
    for repeat, channels in zip(repeats, (64, 128, 256, 512, 512), strict=True):
        for _ in range(repeat):
            at = net.convolution(at, channels, 3)
        at = net.maximum(at, 2, 2)
    for channels in (4096, 4096, 1000):
        at = net.over_all("conv", at, channels)
    return net.network()


def _mobilenet_v1(factor: float, extent: int) -> Network:
    net = _Builder(extent)
    at = net.convolution("image", int(32 * factor), 3, 2)
    rest = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in rest:
        at = net.convolution(net.depthwise(at, stride), int(channels * factor))
    net.over_all("conv", net.over_all("average", at), 1000)
    return net.network()


def _mobilenet_v2(factor: float) -> Network:
    net = _Builder(224)
    at = net.convolution("image", _eighths(32 * factor), 3, 2)
    for expansion, channels, repeats, first_stride in _INVERTED:
        out = _eighths(channels * factor)
        for number in range(repeats):
            stride, before = first_stride if number == 0 else 1, at
            if expansion > 1:
                at = net.convolution(at, net.tensors[at].channels * expansion)
            at = net.convolution(net.depthwise(at, stride), out)
            if stride == 1 and net.tensors[before].channels == out:
                at = net.joined("add", (at, before))
    at = net.convolution(at, max(1280, _eighths(1280 * factor)))
    net.over_all("conv", net.over_all("average", at), 1000)
    return net.network()


def _inception_v1() -> Network:
    net = _Builder(224)
    at = net.convolution(net.maximum(net.convolution("image", 64, 7, 2), 3, 2), 64)
    at = net.maximum(net.convolution(at, 192, 3), 3, 2)
    for module in _INCEPTION:
        if not module:
            at = net.maximum(at, 3, 2)
            continue
        one, before_3, three, before_5, five, pooled = module
        branches = (
            net.convolution(at, one),
            net.convolution(net.convolution(at, before_3), three, 3),
            net.convolution(net.convolution(at, before_5), five, 3),
            net.convolution(net.maximum(at, 3, 1), pooled),
        )
        at = net.joined("concat", branches)
    net.over_all("conv", net.over_all("average", at), 1000)
    return net.network()


def _eighths(channels: float) -> int:
    """Return the multiple of 8 that is nearest, and not less than nine tenths of it."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found + 8 if found < 0.9 * channels else found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A network and what AMD published of it: operations in units of 10**9, frames per second on both boards."""

    name: str
    network: Callable[[], Network]
    gop: str
    zcu104: float
    zcu102: float | None = None


PUBLISHED: tuple[Published, ...] = (
    Published(
        name="resnet50 v1",
        network=lambda: _resnet((3, 4, 6, 3), halves="last"),
        gop="6.97",
        zcu104=93.84,
        zcu102=87.95,
    ),
    Published(
        name="resnet50 v1.5",
        network=lambda: _resnet((3, 4, 6, 3), halves="first"),
        gop="8.2",
        zcu104=83.56,
        zcu102=77.58,
    ),
    Published(
        name="resnet101 v1",
        network=lambda: _resnet((3, 4, 23, 3), halves="last"),
        gop="14.4",
        zcu104=49.54,
        zcu102=46.38,
    ),
    Published(
        name="resnet152 v1",
        network=lambda: _resnet((3, 8, 36, 3), halves="last"),
        gop="21.83",
        zcu104=33.81,
        zcu102=31.64,
    ),
    Published(
        name="resnet18",
        network=lambda: _resnet((2, 2, 2, 2), halves="plain"),
        gop="3.63",
        zcu104=217.68,
        zcu102=205.03,
    ),
    Published(name="vgg16", network=lambda: _vgg((2, 2, 3, 3, 3)), gop="30.96", zcu104=21.49, zcu102=20.15),
    Published(name="vgg19", network=lambda: _vgg((2, 2, 4, 4, 4)), gop="39.28", zcu104=18.54, zcu102=17.37),
    Published(name="inception v1", network=_inception_v1, gop="3", zcu104=202.49),
    Published(name="mobilenet v1 1.0 224", network=lambda: _mobilenet_v1(1.0, 224), gop="1.14", zcu104=344.85),
    Published(name="mobilenet v1 0.5 160", network=lambda: _mobilenet_v1(0.5, 160), gop="0.15", zcu104=950.02),
    Published(name="mobilenet v1 0.25 128", network=lambda: _mobilenet_v1(0.25, 128), gop="0.027", zcu104=1375.03),
    Published(
        name="mobilenet v2 1.0 224", network=lambda: _mobilenet_v2(1.0), gop="0.602", zcu104=284.18, zcu102=268.07
    ),
    Published(name="mobilenet v2 1.4 224", network=lambda: _mobilenet_v2(1.4), gop="1.16", zcu104=203.20),
)
"""Of all that README lists, those whose layers are public and known."""
