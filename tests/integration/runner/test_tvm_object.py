"""Code that TVM really compiles: parallel loops, barriers and workspaces find what they need in the runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.integration.runner.building import IDENTITY, build, library_sources, run, weights_file

pytestmark = pytest.mark.integration

TABLES = """
#include "model_tables.h"
int __tvm_ffi_double_then_exponential(void *, const crossfarm_ffi_any *, int32_t, crossfarm_ffi_any *);
static const int64_t shape[] = {ROWS, 256};
static const crossfarm_table_tensor tensors[] = {
    {shape, 0, ROWS * 1024, 2, CROSSFARM_PLACE_ARENA, 2, 32},
    {shape, ROWS * 1024, ROWS * 1024, 2, CROSSFARM_PLACE_ARENA, 2, 32}};
static const uint32_t arguments[] = {0, 1};
static const crossfarm_table_call calls[] = {
    {__tvm_ffi_double_then_exponential, "double_then_exponential", 0, 2}};
static const crossfarm_table_port inputs[] = {{"x", 0}};
static const crossfarm_table_port outputs[] = {{"y", 1}};
const crossfarm_model_tables crossfarm_tables = {
    .model = "parallel", .identity = IDENTITY, .target = "host", .weights_bytes = 64, .arena_bytes = 2 * ROWS * 1024,
    .tensors = tensors, .calls = calls, .arguments = arguments, .inputs = inputs, .outputs = outputs,
    .tensor_count = 2, .call_count = 1, .argument_count = 2, .input_count = 1, .output_count = 1};
"""
DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
int main(int count, char **arguments) {
  static float x[ROWS * 256], y[ROWS * 256];
  const crossfarm_model_options options = {.threads = count > 1 ? (unsigned)atoi(arguments[1]) : 1};
  crossfarm_model *model;
  const void *inputs[] = {x};
  void *outputs[] = {y};
  for (int i = 0; i < ROWS * 256; ++i) x[i] = (float)i / (ROWS * 256);
  int status = (int)crossfarm_model_open("weights.bin", &options, &model);
  for (int i = 0; i < 100 && status == 0; ++i) status = (int)crossfarm_model_run(model, inputs, outputs);
  if (status != 0) {
    fprintf(stderr, "%s\\n", crossfarm_model_error_text());
    return status;
  }
  fprintf(stderr, "%zu\\n", crossfarm_model_workspace_peak_bytes(model));
  crossfarm_model_close(model);
  return fwrite(y, 1, sizeof y, stdout) == sizeof y ? 0 : 5;
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with prim_funcs.o: two parallel loops with a workspace between them."""
    tvm = pytest.importorskip("tvm")
    from tvm.script import tirx as T  # noqa: N812

    @T.prim_func  # type: ignore[untyped-decorator]
    def double_then_exponential(x: T.Buffer((64, 256), "float32"), y: T.Buffer((64, 256), "float32")) -> None:  # type: ignore[valid-type]
        T.func_attr({"tirx.noalias": True})
        doubled = T.alloc_buffer((64, 256), "float32")
        for i in T.parallel(64):
            for j in range(256):
                doubled[i, j] = x[i, j] * T.float32(2)
        for i in T.parallel(64):
            for j in range(256):
                y[i, j] = T.exp(doubled[63 - i, j])

    folder = tmp_path_factory.mktemp("tvm-object")
    module = tvm.IRModule({"double_then_exponential": double_then_exponential})
    target = tvm.target.Target({"kind": "llvm"})
    tvm.tirx.build(module, target).write_to_file(str(folder / "prim_funcs.o"), "o")
    return folder


@pytest.fixture(scope="module")
def program(compiled: Path) -> Path:
    (compiled / "tables.c").write_text(TABLES)
    (compiled / "driver.c").write_text(DRIVER)
    (compiled / "weights.bin").write_bytes(weights_file())
    # As a user links it: TVM's empty pointers come first, and the archive's members are taken as they are needed.
    macros = ["-DROWS=64", f'-DIDENTITY="{IDENTITY}"', "-O1", "-g"]
    build(compiled, [compiled / "tables.c", *library_sources()], [*macros, "-c"])
    objects = [compiled / "prim_funcs.o", *sorted(set(compiled.glob("*.o")) - {compiled / "prim_funcs.o"})]
    done = run(["ar", "rcs", compiled / "libmodel.a", *objects])
    assert done.returncode == 0, done.stderr
    build(compiled, [compiled / "driver.c", compiled / "libmodel.a"], [*macros, "-o", "program", "-pthread", "-lm"])
    return compiled / "program"


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_parallel_loops_of_tvm_run_on_the_threads_of_the_handle(program: Path, threads: str) -> None:
    done = subprocess.run([program, threads], cwd=program.parent, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"65536\n")
    x = np.arange(64 * 256, dtype=np.float32).reshape(64, 256) / (64 * 256)
    y = np.frombuffer(done.stdout, dtype=np.float32).reshape(64, 256)
    np.testing.assert_allclose(y, np.exp(2 * x[::-1]), rtol=1e-6)


def test_tvm_asks_for_nothing_that_the_runner_lacks(compiled: Path, program: Path) -> None:
    names = run(["nm", compiled / "prim_funcs.o"]).stdout.split()
    assert "__TVMBackendParallelLaunch" in names
    assert "__TVMBackendAllocWorkspace" in names
    addresses = {line.split()[-1]: line.split()[-2] for line in run(["nm", program]).stdout.splitlines()}
    for name in ("__TVMBackendParallelLaunch", "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace"):
        assert addresses[name] == "D"  # the runner's own, filled; TVM's empty one would be "V"
