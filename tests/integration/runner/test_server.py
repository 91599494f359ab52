"""The program that stands in for a shared library: one request after the other over a pipe."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.integration.runner.building import (
    FAIL,
    HERE,
    IDENTITY,
    MEMORY_SANITIZERS,
    RUNNER,
    WEIGHTS,
    build,
    expected_share,
    library_sources,
    weights_file,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(runner_folder: Path) -> Path:
    """Return the server of the sample model, built with sanitizers, with its weights beside it."""
    folder = runner_folder / "server"
    folder.mkdir()
    sources = [RUNNER / "server/serve.c", HERE / "sample_model.c", *library_sources()]
    build(folder, sources, [*MEMORY_SANITIZERS, "-o", "server", "-lm", "-pthread"])
    (folder / "weights.bin").write_bytes(weights_file())
    return folder / "server"


def _ask(server: Path, *requests: bytes, threads: str = "2", weights: str = "weights.bin") -> tuple[int, bytes, str]:
    done = subprocess.run(
        [server, server.parent / weights, threads],
        input=b"".join(requests),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def _request(values: np.ndarray, command: int = 0) -> bytes:  # type: ignore[type-arg]
    return values.astype("<f4").tobytes() + struct.pack("<i", command)


HELLO = struct.pack("=I", 0) + IDENTITY.encode()


def test_every_request_is_answered_in_turn(server: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 2, 8)).astype(np.float32)
    code, said, errors = _ask(server, *(_request(value) for value in values))
    assert (code, errors) == (0, "")
    assert said.startswith(HELLO)
    size = 4 + 2 * 8 * 4 + 4 + 16 * 4
    answers = [said[len(HELLO) + k * size :][:size] for k in range(3)]
    assert len(said) == len(HELLO) + 3 * size
    for answer, share in zip(answers, expected_share(values), strict=True):
        assert struct.unpack_from("=I", answer) == (0,)
        np.testing.assert_allclose(np.frombuffer(answer, "<f4", 16, 4).reshape(2, 8), share, rtol=1e-5)
        np.testing.assert_array_equal(np.frombuffer(answer, "<f4", 16, 4 + 64 + 4), WEIGHTS)


def test_a_failed_run_is_told_and_the_next_one_is_answered(server: Path) -> None:
    values = np.ones((2, 8), np.float32)
    code, said, errors = _ask(server, _request(values, FAIL), _request(values))
    assert (code, errors) == (0, "")
    status, length = struct.unpack_from("=II", said, len(HELLO))
    assert status == 4
    text = said[len(HELLO) + 8 :][:length].decode()
    assert text
    assert struct.unpack_from("=I", said, len(HELLO) + 8 + length) == (0,)


def test_a_request_that_breaks_off_ends_the_program(server: Path) -> None:
    code, said, _ = _ask(server, _request(np.ones((2, 8), np.float32))[:-1])
    assert (code, said) == (2, HELLO)


def test_weights_of_another_model_are_told_over_the_pipe(server: Path) -> None:
    (server.parent / "other.bin").write_bytes(weights_file(identity="f" * 64))
    code, said, _ = _ask(server, weights="other.bin")
    status, length = struct.unpack_from("=II", said)
    assert (code, status) == (3, 3)
    assert len(said[8:]) == length > 0


@pytest.mark.parametrize("threads", ["0", "257", "two", "-1"])
def test_a_wrong_number_of_threads_is_refused(server: Path, threads: str) -> None:
    code, said, errors = _ask(server, threads=threads)
    assert (code, said) == (2, b"")
    assert errors.startswith("usage:")
