from __future__ import annotations

import pytest
from tvm import te

from crossfarm.backends.tvm.schedules import softmax
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor


@pytest.mark.parametrize("length", [16, 17, 6624, 6625])
def test_a_softmax_that_is_large_enough_is_shared_between_threads(length: int) -> None:
    rows = 40
    values = te.placeholder((1, rows, length), "float32", name="values")
    function = te.create_prim_func([values, softmax.compute(values)])
    scheduled = softmax.schedule(function, Processor(lanes=(8, 4), registers=16))
    assert ("T.parallel" in scheduled.script()) == (rows * length > PARALLEL_ELEMENTS)
