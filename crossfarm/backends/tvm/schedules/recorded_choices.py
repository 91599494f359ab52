"""Choices that a search found, in place of the rules' for the layers that it knows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from crossfarm.backends.tvm.schedules import depthwise, nchwc_im2col, packing, winograd
from crossfarm.backends.tvm.schedules.choices import (
    Choice,
    Choose,
    DepthwiseChoice,
    Layer,
    ProductChoice,
    WinogradChoice,
)
from crossfarm.backends.tvm.schedules.processor import Processor

_LOG = logging.getLogger(__name__)


def recorded(tuned: Mapping[str, Mapping[str, Any]]) -> Choose:
    """Return what decides by records, and by the rules where there is none or it does not fit.

    Args:
        tuned: key of a layer -> its choice as plain JSON values.
    """

    def choose(layer: Layer, processor: Processor) -> Choice | None:
        known = tuned.get(layer.key)
        choice = choice_for(layer, known, processor) if known is not None else None
        if isinstance(choice, DepthwiseChoice):
            # A search on one thread learns nothing about how threads share.
            return depthwise.divided(layer, choice)
        if choice is not None:
            return choice
        if known is not None:
            _LOG.warning("%s: the record %s does not fit; the rule decides", layer.key, dict(known))
        return packing.choose(layer, processor)

    return choose


def choice_for(layer: Layer, document: Mapping[str, Any], processor: Processor) -> Choice | None:
    """Return the choice that plain JSON values say; None when no right code can be made of it for a layer."""
    choice = choice_of(layer, document)
    return choice if choice is not None and _fits(layer, choice, processor) else None


def choice_of(layer: Layer, document: Mapping[str, Any]) -> Choice | None:
    """Return the choice that plain JSON values say; None when they say none for a layer of this kind."""
    kind: type[Choice] = DepthwiseChoice if layer.kind == "depthwise" else ProductChoice
    if "tile" in document and winograd.applies(layer):
        kind = WinogradChoice
    try:
        return kind(**document)
    except TypeError:
        return None


def _fits(layer: Layer, choice: Choice, processor: Processor) -> bool:
    """Say whether code that is right can be made; a record is data from outside."""
    if choice.lanes not in (*processor.lanes, 1):
        return False
    if isinstance(choice, DepthwiseChoice):
        height, width = layer.output
        vectors, left = divmod(layer.channels, choice.lanes)
        are_divisors = _divides(choice.strip, height) and _divides(choice.pixels, width)
        return are_divisors and left == 0 and _divides(choice.parts, vectors)
    if isinstance(choice, WinogradChoice):
        if choice.tile not in (2, 4) or choice.strip not in winograd.strips(layer, choice.tile):
            return False
        rows = winograd.tiles_in_strip(layer, tile=choice.tile, strip=choice.strip)
        return _divides(choice.rows, rows) and 1 <= choice.vectors <= layer.channels
    return (
        1 <= choice.rows <= layer.pixels
        and 1 <= choice.vectors <= layer.channels
        and _divides(choice.depth_unroll, choice.innermost(layer))
        and 0 <= choice.shared_loops <= 2
        and _is_rearrangeable(layer, choice)
    )


def _is_rearrangeable(layer: Layer, choice: ProductChoice) -> bool:
    if not choice.depth_block and not choice.gathered_rows:
        return True
    if not nchwc_im2col.applies(layer):
        return False
    height, width = layer.output
    if choice.depth_block:
        return not choice.gathered_rows and _divides(choice.depth_block, layer.depth)
    return _divides(choice.gathered_rows, height) and choice.rows <= choice.gathered_rows * width


def _divides(part: int, whole: int) -> bool:
    return part >= 1 and whole % part == 0
