"""What a conformance run sets aside, and what it counts."""

from __future__ import annotations

import pytest

from tests.conformance.attempt import REFUSED, RIGHT, WRONG, Outcome
from tests.conformance.run import is_of_shapes


def _outcome(status: str, reason: str) -> Outcome:
    return Outcome(id="node/reshape/as_is", operator="Reshape", opset=25, status=status, reason=reason)


@pytest.mark.parametrize(
    "reason",
    [
        "tensor 'y' keeps the dynamic shape (unknown) after all inputs were fixed",
        "operator Tile (node 'a', number 0) cannot be imported: input 1 is computed when the model runs, and has to "
        "be a constant here",
        "operator Loop (node 'walk') cannot be compiled: its number of trips depends on data",
    ],
)
def test_a_refusal_because_of_a_shape_is_set_aside(reason: str) -> None:
    assert is_of_shapes(_outcome(REFUSED, reason))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            REFUSED,
            "operator Cast (node 'c', number 0) needs a tensor of type float8_e4m3fn, and a board has the C library",
        ),
        (REFUSED, "nothing here compiles operator DFT (node 'd', number 0)"),
        (WRONG, "output 0: 3 of 4 values differ; its shape depends on data"),
        (RIGHT, ""),
    ],
)
def test_a_refusal_for_another_reason_counts_though_a_shape_is_open_too(status: str, reason: str) -> None:
    assert not is_of_shapes(_outcome(status, reason))
