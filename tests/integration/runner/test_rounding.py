"""Rounding functions for processors without such instructions are those of a C library, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.runner.building import HERE, RUNNER, WARNINGS, run

pytestmark = pytest.mark.integration


def test_every_function_rounds_as_the_c_library_of_this_machine_does(tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    words = ["gcc", *WARNINGS, "-O2", f"-I{RUNNER / 'mcu/library'}", HERE / "rounding_driver.c", "-o", driver, "-lm"]
    done = run(words)
    assert (done.returncode, done.stderr) == (0, "")
    done = run([driver])
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[-2]) > 1_000_000
