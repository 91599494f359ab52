"""Runs one job file: `python -m crossfarm.engines.run_job JOB.json`, in this process, in a container or on a worker.

What became of the job stands in `outcome.json` beside the job file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import sys
import time
import traceback
from pathlib import Path

from crossfarm.errors import EXIT_CHECK_FAILED, EXIT_INFRASTRUCTURE, CrossfarmError
from crossfarm.stages import STAGES
from crossfarm.stages.job import Job, Outcome, failed
from crossfarm.util.files import write_json
from crossfarm.util.text import one_line

MEMORY = "CROSSFARM_JOB_MEMORY"
"""The environment variable with the most bytes of memory that a job may take which takes a stranger's model apart."""


def run_job_file(path: Path) -> Outcome:
    """Run the job of a job file in this process and write outcome.json beside it. Never raises for a failed job."""
    started = time.monotonic()
    try:
        job = Job.read(path)
        stage = STAGES[job.stage]
        if stage.DECLARATION.opens_models:  # a compiler may take more, and what runs on a board is limited there
            _limit_memory()
        stage.run(job)
    except CrossfarmError as error:
        traceback.print_exc()
        outcome = failed(error, time.monotonic() - started)
    except MemoryError:
        traceback.print_exc()
        outcome = Outcome(
            good=False,
            seconds=time.monotonic() - started,
            fault="infrastructure",
            cause="out of memory; give jobs more with --memory, or run fewer at once with --jobs 1",
        )
    except Exception as error:
        traceback.print_exc()
        disk_full = isinstance(error, OSError) and error.errno is not None
        outcome = Outcome(
            good=False,
            seconds=time.monotonic() - started,
            cause=one_line(f"{type(error).__name__}: {error}"),
            fault="infrastructure" if disk_full else "product",
        )
    else:
        outcome = Outcome(good=True, seconds=time.monotonic() - started)
    with contextlib.suppress(OSError):
        write_json(path.with_name("outcome.json"), dataclasses.asdict(outcome))
    return outcome


def _limit_memory() -> None:
    """Limit what this process may write to, where its engine says so: address space that libraries reserve is free."""
    most = os.environ.get(MEMORY, "")
    if most.isdecimal():
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def main(arguments: list[str]) -> int:
    """Run one job file and return the exit code: 0, 1 for the product's fault, 3 for the infrastructure's."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m crossfarm.engines.run_job JOB.json\n")
        return 2
    path = Path(arguments[0])
    os.environ.setdefault("PYTHONHASHSEED", "0")
    outcome = run_job_file(path)
    if outcome.good:
        return 0
    sys.stderr.write(f"{path}: {outcome.cause}\n")
    return EXIT_CHECK_FAILED if outcome.fault == "product" else EXIT_INFRASTRUCTURE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
