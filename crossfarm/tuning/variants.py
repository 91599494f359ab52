"""The variants of a layer that are worth trying: the rule's own, then its neighbours, the most promising first.

TVM is imported by what this module imports, so it belongs into the processes that build.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from crossfarm.backends.tvm.schedules import depthwise, nchwc_im2col, packing, winograd
from crossfarm.backends.tvm.schedules.choices import Choice, DepthwiseChoice, Layer, ProductChoice, WinogradChoice
from crossfarm.backends.tvm.schedules.processor import PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.register_tiling import depth_unroll, depth_unrolls, product_of, with_tile
from crossfarm.backends.tvm.schedules.tiles import Product, divisors, register_tiles

MOST = 11
"""Variants of a layer; what takes time is building them."""
_WINOGRAD_TILES, _WINOGRAD_STRIPS = 2, 3
_DEPTH_BLOCKS = (128, 64, 32, 16)
_DEEP = 512
"""Floats between pixels that a window of 1x1 reads one after the other from which on they crowd a set of the cache."""
_SHALLOW = 8
"""Channels of an image up to which the sum over them is so short that patches may pay."""
_PATCHES = 65_536
"""Floats of a strip's patches at most: a quarter of a second-level cache of 1 MB."""
_TILES = 6
_STRIP, _PIXELS = 14, 16


def variants_of(layer: Layer, processor: Processor, *, most: int = MOST) -> tuple[Choice, ...]:
    """Return the variants of a layer, the rule's choice first; nothing when no rule covers it.

    Args:
        layer: which.
        processor: what for.
        most: how many at most.
    """
    ruled = packing.choose(layer, processor)
    if ruled is None:
        return ()
    if isinstance(ruled, DepthwiseChoice):
        others: Iterable[Choice] = _depthwise(layer, processor, ruled)
    elif isinstance(ruled, ProductChoice):
        others = (
            *_blocked(layer, processor),
            *_gathered(layer, processor),
            *_winograd(layer, processor),
            *_products(layer, processor, ruled),
        )
    else:
        others = ()
    return tuple(dict.fromkeys([ruled, *others]))[:most]


def _blocked(layer: Layer, processor: Processor) -> Iterator[ProductChoice]:
    """The largest and a smaller block of channels, where there is a window or pixels lie far apart."""
    if not nchwc_im2col.applies(layer) or (layer.kernel == (1, 1) and layer.depth * layer.strides[1] < _DEEP):
        return
    sizes = [size for size in _DEPTH_BLOCKS if layer.depth % size == 0 and layer.depth > size]
    is_even = layer.kernel == (1, 1)
    for size in [*sizes[:1], *sizes[2:3]]:
        run = layer.pixels if is_even else layer.output[1]
        product = dataclasses.replace(product_of(layer), run=run, depth=size)
        for tile in register_tiles(processor, product)[:1]:
            yield dataclasses.replace(
                with_tile(layer, tile, columns_first=False), depth_unroll=depth_unroll(size, tile), depth_block=size
            )


def _gathered(layer: Layer, processor: Processor) -> Iterator[ProductChoice]:
    """Strips as large as fit beside the weights, and small ones; images are shallow where this may pay."""
    if not nchwc_im2col.applies(layer) or layer.depth > _SHALLOW or layer.kernel == (1, 1):
        return
    height, width = layer.output
    rows = [each for each in divisors(height, height) if each * width * layer.steps <= _PATCHES]
    for strip in dict.fromkeys([*rows[-1:], *rows[:1]]):
        pixels = strip * width
        product = Product(rows=pixels, run=pixels, columns=layer.channels, steps=layer.steps, depth=layer.steps)
        for tile in register_tiles(processor, product)[:1]:
            strips = layer.image[0] * height // strip
            yield dataclasses.replace(
                with_tile(layer, tile, columns_first=False),
                depth_unroll=depth_unroll(layer.steps, tile),
                shared_loops=1 if layer.flops > PARALLEL_FLOPS and strips > 1 else 0,
                gathered_rows=strip,
            )


def _winograd(layer: Layer, processor: Processor) -> Iterator[Choice]:
    """Tiles of 4, whose strips are small, large and all of the image; and one of 2, for images that are not worth 4."""
    if not winograd.applies(layer):
        return
    for tile in (4, 2):
        strips = winograd.strips(layer, tile)
        chosen = (
            [strips[place * (len(strips) - 1) // 2] for place in range(_WINOGRAD_STRIPS)] if tile == 4 else strips[-1:]
        )
        for strip in dict.fromkeys(chosen):
            yield from _winograd_tiles(layer, processor, tile=tile, strip=strip)


def _winograd_tiles(layer: Layer, processor: Processor, *, tile: int, strip: int) -> Iterator[Choice]:
    rows = winograd.tiles_in_strip(layer, tile=tile, strip=strip)
    product = Product(rows=rows, run=rows, columns=layer.channels, steps=layer.depth, depth=layer.depth)
    fitting = [each for each in register_tiles(processor, product) if rows % each.rows == 0]
    for each in fitting[: _WINOGRAD_TILES if tile == 4 else 1]:
        yield WinogradChoice(
            tile=tile,
            strip=strip,
            rows=each.rows,
            vectors=each.vectors,
            lanes=each.lanes,
            is_shared=layer.flops > PARALLEL_FLOPS,
        )


def _products(layer: Layer, processor: Processor, ruled: ProductChoice) -> Iterator[Choice]:
    """Tiles by the rule's own model of their cost, the first of them also in the other order and unrolled otherwise."""
    tiles = register_tiles(processor, product_of(layer))[:_TILES]
    unrolls = depth_unrolls(layer)
    choices = [with_tile(layer, tile, columns_first=ruled.columns_first) for tile in tiles]
    yield with_tile(layer, ruled, columns_first=not ruled.columns_first)
    yield from _unrolled(ruled, unrolls)
    for number, tile in enumerate(tiles):
        yield choices[number]
        yield with_tile(layer, tile, columns_first=not ruled.columns_first)
    for choice in choices:
        yield from _unrolled(choice, unrolls)


def _unrolled(choice: ProductChoice, unrolls: Sequence[int]) -> Iterator[ProductChoice]:
    for steps in unrolls:
        if steps != choice.depth_unroll:
            yield dataclasses.replace(choice, depth_unroll=steps)


def _depthwise(layer: Layer, processor: Processor, ruled: DepthwiseChoice) -> Iterator[Choice]:
    height, width = layer.output
    strips = sorted(divisors(height, _STRIP), key=lambda strip: abs(strip - ruled.strip))[:4]
    pixels = sorted(divisors(width, _PIXELS), key=lambda count: abs(count - ruled.pixels))[:4]
    others = [dataclasses.replace(ruled, unroll_kernel=not ruled.unroll_kernel)]
    others += [dataclasses.replace(ruled, pixels=count) for count in pixels]
    others += [dataclasses.replace(ruled, strip=strip) for strip in strips]
    others += [dataclasses.replace(ruled, lanes=lanes) for lanes in processor.lanes if layer.channels % lanes == 0]
    others += [dataclasses.replace(ruled, strip=strip, pixels=count) for strip in strips for count in pixels]
    yield from (depthwise.divided(layer, other) for other in others)
