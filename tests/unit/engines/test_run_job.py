"""How a job file is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.engines.run_job import MEMORY
from crossfarm.stages.job import Job, read_outcome
from crossfarm.util.paths import HOME

GREEDY = """
import sys, types
from pathlib import Path
from crossfarm.engines import run_job
run_job.STAGES = {sys.argv[1]: types.SimpleNamespace(
    DECLARATION=run_job.STAGES[sys.argv[1]].DECLARATION, run=lambda job: bytes(2 << 30)
)}
run_job.run_job_file(Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("stage", "memory", "is_good"),
    [
        ("prepare", str(1 << 30), False),
        ("reference", str(1 << 30), False),
        ("quantize", str(1 << 30), False),
        ("prepare", str(4 << 30), True),
        ("prepare", "", True),
        ("compile", str(1 << 30), True),
    ],
)
def test_a_job_that_takes_a_model_apart_has_no_more_memory_than_its_engine_says(
    stage: str, memory: str, is_good: bool, tmp_path: Path
) -> None:
    path = tmp_path / "job.json"
    Job(id="x", stage=stage, key="0", parameters={}, inputs={}, output=tmp_path, root=tmp_path).write(path)
    environment = {**os.environ, MEMORY: memory}
    command = [sys.executable, "-c", GREEDY, stage, str(path)]
    subprocess.run(command, env=environment, cwd=HOME, check=True, capture_output=True)
    outcome = read_outcome(path)
    assert outcome is not None
    assert outcome.good is is_good, outcome.cause
    assert is_good or "out of memory; give jobs more with --memory" in outcome.cause
