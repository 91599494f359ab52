"""The spec's table of names is what the LLVM inside the pinned TVM says, and that LLVM ignores other names."""

from __future__ import annotations

import pytest

from crossfarm.backends.tvm.processor_names import llvm_names, text
from crossfarm.config.processor_names import TABLE
from crossfarm.errors import ToolError

pytestmark = pytest.mark.integration


def test_the_table_is_what_llvm_says() -> None:
    assert TABLE.read_text() == text(), "run `.venv/bin/python -m crossfarm.backends.tvm.processor_names`"


def test_an_architecture_that_llvm_does_not_know_ends_with_an_error_of_ours() -> None:
    with pytest.raises(ToolError, match="lists no processors for nonsense"):
        llvm_names("nonsense-linux-gnu")
