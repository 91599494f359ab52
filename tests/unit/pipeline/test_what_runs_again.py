"""What a change of a source file makes run again: no more and no less than what it can change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from crossfarm.config.pipelines import STAGES
from crossfarm.util.paths import HOME

PARTS = (
    "crossfarm",
    "runner",
    "tuning",
    "toolchains",
    "pipelines",
    "dockerfiles",
    "models.yaml",
    "requirements",
    "models",
    "requirements.lock",
)

KEYS = """
import dataclasses, json, sys
from pathlib import Path
from crossfarm.backends.project_files import load_project
from crossfarm.boards.inventory import Inventory
from crossfarm.config.accelerators import VARIANTS
from crossfarm.config.pipelines import STAGES as ORDER
from crossfarm.pipeline.key_context import read_key_context, stage_context
from crossfarm.pipeline.plan import Selection, make_plan
from crossfarm.stages import STAGES

project = load_project(
    models=Path("models.yaml"), toolchains=Path("toolchains"), pipeline=Path("pipelines/smoke.yaml")
)
pipeline = project.pipeline.model_copy(update={"variants": VARIANTS})
project = dataclasses.replace(project, pipeline=pipeline)
selection = Selection(only=("x86_64-ppocr_cls-*",), stages=ORDER)
for line in sys.stdin:
    stage_context.cache_clear()
    plan = make_plan(project, selection, stages=STAGES, context=read_key_context(project, Inventory()))
    print(json.dumps({name: job.key for name, job in plan.jobs.items()}), flush=True)
"""

BUNDLE_ON = {"bundle", "measure", "check"}
COMPILE_ON = {"compile", "interfaces", *BUNDLE_ON}
QUANTIZE_ON = {"quantize", "quantize_shift", *COMPILE_ON}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what keys are made of."""
    folder = tmp_path_factory.mktemp("clone")
    for name in PARTS:
        if (HOME / name).is_dir():
            shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(HOME / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def changed(clone: Path) -> Iterator[Callable[[Iterable[str]], set[str]]]:
    """Return a function that appends a line to files, and says the jobs of which stages have other keys then."""
    command = [sys.executable, "-c", KEYS]
    with subprocess.Popen(command, cwd=clone, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as planner:

        def keys() -> Mapping[str, str]:
            assert planner.stdin is not None
            assert planner.stdout is not None
            planner.stdin.write("plan\n")
            planner.stdin.flush()
            found: Mapping[str, str] = json.loads(planner.stdout.readline())
            return found

        before = keys()
        assert {name.partition(":")[0] for name in before} == set(STAGES)

        def stages(files: Iterable[str]) -> set[str]:
            kept = {clone / file: (clone / file).read_bytes() if (clone / file).exists() else None for file in files}
            for path, content in kept.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((content or b"") + b"\n# \n")
            try:
                after = keys()
            finally:
                for path, content in kept.items():
                    path.unlink() if content is None else path.write_bytes(content)
            assert after.keys() == before.keys()
            return {name.partition(":")[0] for name in after if after[name] != before[name]}

        yield stages


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(("runner/interfaces/example/preprocess.cpp",), {"interfaces"}, id="the C++ example"),
        pytest.param(("crossfarm/bundles/interfaces.py",), {"interfaces"}, id="the writer of the C++ example"),
        pytest.param(
            ("crossfarm/errors.py", "crossfarm/backends/tvm/unsupported.py", "crossfarm/util/text.py"),
            set(),
            id="texts of errors",
        ),
        pytest.param(
            ("crossfarm/pipeline/scheduler.py", "crossfarm/reports/junit.py", "crossfarm/engines/local.py"),
            set(),
            id="the farm itself",
        ),
        pytest.param(
            ("crossfarm/backends/toy/backend.py", "crossfarm/boards/simulators/toy.py"), set(), id="another backend"
        ),
        pytest.param(("crossfarm/backends/tvm/schedules/dense.py",), COMPILE_ON, id="a schedule"),
        pytest.param(("crossfarm/bundles/make.py",), BUNDLE_ON, id="the making of programs"),
        pytest.param(("crossfarm/bundles/contents.py",), BUNDLE_ON, id="the making of bundles"),
        pytest.param(("runner/program/main.c",), {"runner", *BUNDLE_ON}, id="the runner"),
        pytest.param(
            ("crossfarm/bundles/linking/c_compiler.py",), {"c_library", "runner", *BUNDLE_ON}, id="the C compiler"
        ),
        pytest.param(("crossfarm/bundles/packages/wheel.py",), set(), id="wheels"),
        pytest.param(("crossfarm/boards/transports/remote.sh",), {"measure", "check"}, id="the way to a board"),
        pytest.param(("crossfarm/boards/leases/rules.py",), set(), id="leases"),
        pytest.param(("crossfarm/stages/check/rows.py",), {"check"}, id="a check"),
        pytest.param(("crossfarm/stages/quantize/scales.py",), QUANTIZE_ON, id="quantisation"),
        pytest.param(
            ("crossfarm/stages/quantize_shift/exponents.py",), {"quantize_shift", *COMPILE_ON}, id="scales that shift"
        ),
        pytest.param(
            ("crossfarm/stages/prepare/static_onnx.py",), {"prepare", "reference", *QUANTIZE_ON}, id="preparation"
        ),
    ],
)
def test_a_change_of_a_file_runs_again_what_it_can_change_and_nothing_else(
    files: tuple[str, ...], expected: set[str], changed: Callable[[Iterable[str]], set[str]]
) -> None:
    assert changed(files) == expected
