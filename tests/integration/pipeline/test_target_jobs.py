"""The C library and the runner: a job each for a target, once for all its bundles, and only when one is linked."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from tests.integration.pipeline.waiting import Farm

pytestmark = pytest.mark.integration

C_LIBRARY, RUNNER = "c_library:aarch64", "runner:aarch64"
BUNDLES = ("bundle:aarch64-adder-float32", "bundle:aarch64-other-float32")
TOLD = "building the C library of aarch64-linux-gnu.2.17, once"


@pytest.fixture
def cold(farm: Farm, small_model: onnx.ModelProto) -> Farm:
    """Return a farm with two models for one target, and a cache of its own that is empty."""
    farm.environment["ZIG_GLOBAL_CACHE_DIR"] = str(farm.folder / "zig")
    farm.set_targets("aarch64")
    for name in ("adder", "other"):
        farm.add(name, small_model)
    return farm


def _log(farm: Farm, job: str) -> str:
    return (farm.out / "logs" / f"{job.replace(':', '-', 1)}.log").read_text()


def _bundle_bytes(farm: Farm, folder: Path) -> dict[str, bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    ended = farm.run("aarch64-adder-float32", "--to", str(folder), task="bundle")
    assert ended.code == 0, ended.output
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_c_library_and_the_runner_are_made_once_for_a_target_and_again_when_the_cache_is_gone(cold: Farm) -> None:
    planned = cold.run("--stages", "bundle", task="plan").output
    assert planned.count("c_library:") == planned.count("runner:") == 1
    ended = cold.run("--stages", "bundle", "--jobs", "2")
    assert ended.code == 0, ended.output
    states = cold.states()
    assert {states[job] for job in (C_LIBRARY, RUNNER, *BUNDLES)} == {"run"}
    assert TOLD in _log(cold, C_LIBRARY)
    assert not any(TOLD in _log(cold, job) or "waiting" in _log(cold, job) for job in BUNDLES)
    order = [record["job"] for record in cold.records()]
    assert max(order.index(job) for job in (C_LIBRARY, RUNNER)) < min(order.index(job) for job in BUNDLES)
    records = {record["job"]: record for record in cold.records()}
    assert (records[C_LIBRARY]["cell"], records[C_LIBRARY]["model"]) == (None, None)
    assert "2 cells" in ended.output and "3 cells" not in ended.output
    first = _bundle_bytes(cold, cold.folder / "first")

    cold.run("--stages", "bundle")
    assert set(cold.states().values()) == {"hit"}

    shutil.rmtree(cold.folder / "zig")
    unchanged = cold.run("--stages", "bundle")
    assert set(cold.states().values()) == {"hit"}, f"nothing links, so nobody needs the cache: {unchanged.output}"

    cold.environment["ZIG_GLOBAL_CACHE_DIR"] = str(cold.folder / "elsewhere")
    model = onnx.load(cold.folder / "other.onnx")
    model.graph.node[0].name = "renamed"
    cold.add("third", model)
    planned = cold.run("--stages", "bundle", task="plan").output
    line = next(line for line in planned.splitlines() if C_LIBRARY in line)
    assert line.startswith("run") and line.endswith("elsewhere has no C library of aarch64-linux-gnu.2.17")
    ended = cold.run("--stages", "bundle")
    assert ended.code == 0, ended.output
    states = cold.states()
    assert (states[C_LIBRARY], states[RUNNER]) == ("run", "hit")
    assert TOLD in _log(cold, C_LIBRARY)
    assert _bundle_bytes(cold, cold.folder / "second") == first
