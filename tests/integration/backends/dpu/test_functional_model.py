"""The functional model answers as ONNX Runtime does, bit for bit, whatever the array, and refuses damaged files."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from crossfarm.backends.dpu.array import PARALLELISM
from crossfarm.backends.dpu.commands import COMMAND, HEADER, PORT, Command
from tests.integration.backends.dpu import nets
from tests.integration.backends.dpu.building import build, code, equal, expected, int8_shift, random_inputs

pytestmark = pytest.mark.integration

FIELDS = list(Command.__dataclass_fields__)


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("net", [nets.digits, nets.everything], ids=["digits", "everything"])
def test_it_answers_as_onnx_runtime_does_bit_for_bit(
    net, parallelism: str, tmp_path: Path, checked_program: Path
) -> None:
    real, shape = net()
    quantised = int8_shift(real, shape)
    made = build(tmp_path / "made", quantised, code(parallelism), checked_program)
    inputs = random_inputs(shape, 6, seed=9)
    equal(made.simulate(inputs).outputs, expected(quantised, inputs))


@pytest.mark.parametrize("depth", [20, 24, 40])
def test_banks_that_hold_no_tensor_wholly_change_nothing_but_the_number_of_tiles(
    depth: int, tmp_path: Path, checked_program: Path
) -> None:
    real, shape = nets.everything()
    quantised = int8_shift(real, shape)
    wide = build(tmp_path / "wide", quantised, code(), checked_program)
    narrow = build(tmp_path / "narrow", quantised, code(bank_depth=depth, bank_num=6), checked_program)
    sizes = [sum(path.stat().st_size for path in made.folder.glob("*.commands")) for made in (wide, narrow)]
    assert sizes[1] > sizes[0]
    inputs = random_inputs(shape, 3, seed=9)
    equal(narrow.simulate(inputs).outputs, expected(quantised, inputs))


def _refused(program: Path, folder: Path, content: bytes) -> str:
    (folder / "0.commands").write_bytes(content)
    (folder / "constants").write_bytes(b"")
    command = [str(program), str(folder / "0.commands"), str(folder / "constants"), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3, (done.returncode, done.stderr)
    assert "refused" in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, checked_program: Path) -> bytes:
    real, shape = nets.everything()
    made = build(tmp_path_factory.mktemp("commands") / "made", int8_shift(real, shape), code(), checked_program)
    (path,) = made.folder.glob("*.commands")
    return path.read_bytes()


def _signed(numbers: np.ndarray) -> bytes:
    content = numbers.astype("<u4").tobytes()
    return content + struct.pack("<I", zlib.crc32(content))


def test_a_damaged_or_short_command_list_is_refused(commands: bytes, checked_program: Path, tmp_path: Path) -> None:
    for at in (5, 40, len(commands) // 2, len(commands) - 2):
        flipped = bytes((*commands[:at], commands[at] ^ 1, *commands[at + 1 :]))
        _refused(checked_program, tmp_path, flipped)
    for size in (0, 3, 64, len(commands) - 4, len(commands) - 1):
        _refused(checked_program, tmp_path, commands[:size])
    assert "checksum" in _refused(checked_program, tmp_path, commands[:-4] + b"\0\0\0\0")


def test_whatever_number_of_a_command_is_wrong_nothing_is_touched_beyond_the_banks(
    commands: bytes, checked_program: Path, tmp_path: Path
) -> None:
    """Numbers become extremes: the list is refused, or runs under the sanitizers without a word."""
    numbers = np.frombuffer(commands[:-4], "<u4")
    first = HEADER + PORT * int(numbers[11] + numbers[12])
    (constants,) = [tmp_path / "constants"]
    constants.write_bytes(bytes(int(numbers[8] * numbers[3])))
    generator = np.random.default_rng(3)
    refused = 0
    for trial in range(120):
        changed = numbers.copy()
        at = int(generator.integers(2, len(numbers))) if trial % 3 == 0 else None
        if at is None:
            command = int(generator.integers(0, (len(numbers) - first) // COMMAND))
            at = first + COMMAND * command + trial % COMMAND
        changed[at] = generator.choice([0, 1, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
        (tmp_path / "changed").write_bytes(_signed(changed))
        (tmp_path / "in").write_bytes(bytes(1 << 16))
        command = [str(checked_program), str(tmp_path / "changed"), str(constants), "1"]
        files = [str(tmp_path / "in"), str(tmp_path / "out")]
        done = subprocess.run([*command, *files], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 2, 3), (trial, at, done.returncode, done.stderr[-2000:])
        refused += done.returncode == 3
    assert refused > 20


def test_a_number_that_leads_beyond_the_banks_is_refused_with_its_command(
    commands: bytes, checked_program: Path, tmp_path: Path
) -> None:
    numbers = np.frombuffer(commands[:-4], "<u4").copy()
    first = HEADER + PORT * int(numbers[11] + numbers[12])
    ops = numbers[first::COMMAND]
    convolution = int(np.argmax(ops == 4))
    numbers[first + COMMAND * convolution + FIELDS.index("in_rows")] = 60_000
    assert f"reads beyond the banks (command {convolution})" in _refused(checked_program, tmp_path, _signed(numbers))
