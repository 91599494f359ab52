"""Random numbers of these tests do not depend on which other tests ran before."""

from __future__ import annotations

import pytest

from tests.integration.backends.tvm.onnx_graphs import GENERATOR


@pytest.fixture(autouse=True)
def fresh_numbers() -> None:
    """Let the generator of the test's numbers begin anew."""
    GENERATOR.seed()
