"""A sample of the ONNX backend suite: what was right when docs/operators.md was written is right."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crossfarm.util.paths import HOME
from tests.conformance import page

pytestmark = pytest.mark.integration

EVERY = 16
"""One form of so many is tried; the rest `./inv conformance` tries."""


def test_what_was_right_is_right() -> None:
    assert len(page.baseline()) > 1000
    command = [sys.executable, "-m", "tests.conformance", "--baseline", f"--every={EVERY}"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    lost = [line for line in done.stdout.splitlines() if line.startswith("was right, ")]
    assert done.returncode == 0, "\n".join(lost) or done.stdout[-2000:] + done.stderr[-2000:]
    assert " right " in done.stdout
