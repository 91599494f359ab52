"""`./inv inspect`: what users say of shapes, and what they are told."""

from __future__ import annotations

import pytest

from crossfarm.cli.inspection import _shapes, _told
from crossfarm.errors import ConfigError
from crossfarm.pipeline.inspection import Inspected


def test_shapes_are_read_by_name_and_a_name_may_hold_an_equals_sign() -> None:
    assert _shapes(("image=1x3x8x8", "a=b=2", "scalar=")) == {"image": (1, 3, 8, 8), "a=b": (2,), "scalar": ()}


@pytest.mark.parametrize("word", ["image", "image=1x0", "image=1xN", "image=-1"])
def test_a_shape_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="give NAME=1x3x224x224"):
        _shapes((word,))


def test_a_refusal_is_told_with_its_place_and_targets() -> None:
    port = {"name": "x", "dtype": "float32", "shape": [1, 8]}
    signature = {"inputs": [port], "outputs": [port], "nodes": 1, "opset": 17, "parameters": 0}
    told = _told(
        Inspected(name="net", place="models.yaml:3", signature=signature, targets=("armv7",), refused=("operator A",))
    )
    assert told.splitlines() == [
        "net (models.yaml:3)",
        "  inputs: x float32 [1, 8]",
        "  outputs: x float32 [1, 8]",
        "  1 node, operator set 17",
        "  refused for armv7: operator A",
    ]
