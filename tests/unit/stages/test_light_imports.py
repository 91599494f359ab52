"""A warm run plans hundreds of jobs and runs none, so stages import what is heavy only when they run."""

from __future__ import annotations

import subprocess
import sys

from crossfarm.stages import STAGES
from crossfarm.util.paths import HOME

HEAVY = {"numpy", "PIL", "onnx", "onnxruntime", "tvm", "torch", "tflite", "requests", "urllib3"}


def test_a_plan_imports_nothing_heavy_for_any_stage() -> None:
    names = [f"crossfarm.stages.{name}" for name in STAGES]
    code = f"import sys, crossfarm.boards.transports.local, {', '.join(names)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOME).stdout
    assert set(names) <= set(loaded.split())
    assert not HEAVY & set(loaded.split())
