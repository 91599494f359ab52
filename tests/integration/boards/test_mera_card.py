"""A bundle of MERA on a board with a card, over a real sshd.

There is no card here. What stands for it is a library that this test makes under the name of EdgeCortix's: it answers
each input with its double. All else is real: the program of the bundle, the C++ runner, the compiler, ssh.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossfarm.backends.mera import backend
from crossfarm.backends.mera.card_program import write_card_program
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.protocol import ExitResult, Purpose, open_board
from crossfarm.boards.result import RunResult
from crossfarm.bundles.compile_report import PortType
from crossfarm.bundles.manifest import InputFile, Manifest
from crossfarm.config.boards import Board
from crossfarm.pipeline.key_context import access
from tests.integration.boards.conftest import Server
from tests.unit.backends.mera.test_backend import target_file

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed; ./inv setup --pipeline accelerators"),
]

PURPOSE = Purpose(target="mera_f200", machine=("dna-f200",), emulator=None, code=None)
LIBRARY = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { int32_t type, id; } Device;
typedef struct { uint8_t code, bits; uint16_t lanes; } Type;
typedef struct {
  void *data; Device device; int32_t ndim; Type dtype; int64_t *shape, *strides; uint64_t offset;
} Tensor;
typedef union { int64_t i; double f; void *p; const char *s; } Value;
static float input[4], output[4];
static int64_t shape[2] = {1, 4};
static const char *names[] = {"create", "load_params", "mera_runtime_init_device", "get_input", "set_input", "run",
                              "get_num_outputs", "get_output"};
static Tensor *tensor(float *data) {
  Tensor *made = calloc(1, sizeof *made);
  *made = (Tensor){data, {1, 0}, 2, {2, 32, 1}, shape, 0, 0};
  return made;
}
const char *TVMGetLastError(void) { return "the stand-in of a card failed"; }
int TVMModLoadFromFile(const char *file, const char *format, void **module) {
  (void)format;
  FILE *there = fopen(file, "r");
  if (!there) return -1;
  fclose(there);
  *module = input;
  return 0;
}
int TVMModGetFunction(void *module, const char *name, int imports, void **function) {
  (void)module, (void)imports;
  for (int i = 0; i < 8; ++i)
    if (!strcmp(names[i], name)) *function = &names[i];
  return 0;
}
int TVMFuncGetGlobal(const char *name, void **function) { (void)name; *function = &names[0]; return 0; }
int TVMFuncCall(void *function, Value *values, int *codes, int count, Value *result, int *code) {
  (void)codes, (void)count, (void)code;
  switch ((const char **)function - names) {
    case 0: result->p = input; break;
    case 2: if (values[0].i != DEVICE) abort(); break;
    case 3: result->p = tensor(input); break;
    case 4: memcpy(input, ((Tensor *)values[1].p)->data, sizeof input); break;
    case 5: for (int i = 0; i < 4; ++i) output[i] = 2 * input[i]; break;
    case 6: result->i = 1; break;
    case 7: result->p = tensor(output); break;
  }
  return 0;
}
int TVMFuncFree(void *function) { (void)function; return 0; }
int TVMArrayFree(Tensor *array) { free(array); return 0; }
"""
CASES = np.arange(12, dtype=np.float32).reshape(3, 1, 4)


def make_bundle(folder: Path, *, reference: Any = 2 * CASES[0]) -> Path:
    """Write the bundle of a model with one input and one output; nothing of it comes from MERA."""
    artefact = folder / "deploy" / f"IP-{os.uname().machine}"
    artefact.mkdir(parents=True)
    for name in ("deploy.so", "deploy.json", "deploy.params"):
        (artefact / name).write_text("{}")
    CASES[0].tofile(artefact / "input0.bin")
    reference.tofile(artefact / "ref_result_0.bin")
    shutil.copyfile(backend.RUNNER, folder / "deploy" / "runner.cpp")
    (folder / "inputs").mkdir()
    CASES.tofile(folder / "inputs" / "0.bin")
    Manifest(
        model="m",
        target="mera_f200",
        variant="float32",
        cell="mera_f200-m-float32",
        identity="ab" * 32,
        cases=len(CASES),
        inputs=(InputFile(name="x", dtype="float32", shape=(1, 4), file="inputs/0.bin"),),
        outputs=(PortType(name="it's $(y)", dtype="float32", shape=(1, 4)),),
        files=(),
        provenance={},
    ).write(folder / "manifest.json")
    write_card_program(folder, card="dna-f200", inputs="inputs")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return the folder of the library that stands for EdgeCortix's, with a card that is device 2."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    (folder / "stub.c").write_text(LIBRARY)
    words = ["gcc", "-shared", "-fPIC", "-DDEVICE=2", "-o", str(folder / "libmeratvm_runtime.so")]
    subprocess.run([*words, str(folder / "stub.c")], check=True)
    return folder


def ran(server: Server, bundle: Path, folder: Path, environment: Mapping[str, str]) -> ExitResult:
    """Run a bundle on the board; its login shell has some variables, as a board's owner would set them."""
    output = folder / "out"
    output.mkdir()
    program = bundle / "program"
    lines = "".join(f"export {name}={value}\n" for name, value in environment.items())
    program.write_text(program.read_text().replace("set -u\n", f"set -u\n{lines}", 1))
    board = server.board(folder=str(folder / "board"), targets=["mera_f200"], cards=["dna-f200"])
    with open_board(board, PURPOSE, token=3, simulator=backend.DECLARATION.simulator) as opened:
        opened.preflight()
        placed = opened.deploy(bundle)
        words = ["--threads", "1", "--warmup", "1", "--repeat", "5"]
        return opened.run(placed, words, output=output, timeout=120)


def test_a_card_answers_all_cases_and_its_times_are_kept(server: Server, library: Path, tmp_path: Path) -> None:
    ended = ran(server, make_bundle(tmp_path / "bundle"), tmp_path, {"MERA_LIBRARIES": str(library)})
    assert ended.code == 0, ended.tail
    assert "output 0: max abs diff 0, mean abs diff 0, correct ratio 1.000000" in ended.tail
    result = RunResult.model_validate_json((tmp_path / "out" / "result.json").read_text())
    assert (result.identity, result.cases, result.warmup, len(result.latency_ns)) == ("ab" * 32, 3, 1, 5)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["outputs"][0]["name"] == "it's $(y)"
    answers = np.fromfile(tmp_path / "out" / "outputs" / "0.bin", np.float32)
    assert np.array_equal(answers, 2 * CASES.ravel())


def test_a_card_that_answers_otherwise_is_no_good_run(server: Server, library: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", reference=3 * CASES[0])
    ended = ran(server, bundle, tmp_path, {"MERA_LIBRARIES": str(library)})
    assert ended.code == 4
    assert "the card answers otherwise than the functional model" in ended.tail and "max abs diff 3" in ended.tail


def test_without_the_vendor_s_library_it_says_what_to_install(server: Server, tmp_path: Path) -> None:
    nowhere = {"MERA_LIBRARIES": str(tmp_path / "none"), "PATH": "/usr/bin:/bin"}
    ended = ran(server, make_bundle(tmp_path / "bundle"), tmp_path, nowhere)
    assert ended.code == 5
    assert "libmeratvm_runtime.so is not here; install MERA" in ended.tail


@pytest.mark.parametrize(("cards", "boards"), [(("dna-f200",), ("here",)), (("dna-f100",), ()), ((), ())])
def test_nothing_is_started_on_a_board_without_the_card(
    server: Server, cards: tuple[str, ...], boards: tuple[str, ...]
) -> None:
    board: Board = server.board(targets=["mera_f200"], cards=list(cards))
    found = access(target_file("mera_f200"), Inventory(declared={"here": board}, chosen={"here": board}))
    assert found.boards == boards
