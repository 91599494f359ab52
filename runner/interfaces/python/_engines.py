"""The two ways to the compiled model: a shared library in this process, or a program on a pipe.

Both are opened with the path of the weights, which they map into memory, and run on C-ordered arrays.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from pathlib import Path
from typing import Any, Sequence

GOOD = 0
WRONG_USE = 2


class ModelError(RuntimeError):
    """The model cannot be opened or run here; the message says why."""


class _Options(ctypes.Structure):
    _fields_ = (
        ("threads", ctypes.c_uint),
        ("processor_count", ctypes.c_uint),
        ("processors", ctypes.POINTER(ctypes.c_uint)),
    )


class Library:
    """A handle of the shared library."""

    def __init__(self, library: Path, weights: Path, threads: int) -> None:
        """Open the model.

        Raises:
            ModelError: the library was made for another machine, or it refuses the weights.
        """
        self._handle = ctypes.c_void_p()
        try:
            self._calls = ctypes.CDLL(str(library))
        except OSError as error:
            machine = os.uname().machine
            raise ModelError(f"{library.name}: cannot be loaded on this {machine}: {error}") from error
        self._calls.crossfarm_model_error_text.restype = ctypes.c_char_p
        self._calls.crossfarm_model_identity.restype = ctypes.c_char_p
        self._calls.crossfarm_model_close.restype = None
        options = _Options(threads, 0, None)
        path = os.fsencode(str(weights))
        self._check(self._calls.crossfarm_model_open(path, ctypes.byref(options), ctypes.byref(self._handle)))

    def identity(self) -> str:
        """Return the 64 digits that tie code and weights together."""
        return bytes(self._calls.crossfarm_model_identity()).decode("ascii")

    def run(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run once; Python's other threads go on meanwhile.

        Raises:
            ModelError: the model's code reported an error.
        """
        self._check(self._calls.crossfarm_model_run(self._handle, _pointers(inputs), _pointers(outputs)))

    def close(self) -> None:
        """Give back everything; a second call does nothing."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle:
            self._calls.crossfarm_model_close(handle)

    def _check(self, status: int) -> None:
        if status != GOOD:
            raise ModelError(self._calls.crossfarm_model_error_text().decode("utf-8", "replace"))


class Server:
    """The program `server` of a statically linked bundle; its protocol stands at the top of serve.c."""

    def __init__(self, program: Path, weights: Path, threads: int) -> None:
        """Start it.

        Raises:
            ModelError: it does not start, or it refuses the weights.
        """
        command = [str(program), str(weights), str(threads)]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        except OSError as error:
            raise ModelError(f"{program}: cannot be started: {error.strerror}") from error
        try:
            self._check()
            self._identity = bytes(self._read(64)).decode("ascii")
        except BaseException:
            self.close()
            raise

    def identity(self) -> str:
        """Return the 64 digits that tie code and weights together."""
        return self._identity

    def run(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Run once.

        Raises:
            ModelError: the model's code reported an error, or the program has ended.
        """
        assert self._process.stdin is not None  # noqa: S101
        try:
            for array in inputs:
                rest = memoryview(array.reshape(-1).view("uint8"))
                while rest:
                    rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError:
            raise self._gone() from None
        self._check()
        for array in outputs:
            self._fill(memoryview(array.reshape(-1).view("uint8")))

    def close(self) -> None:
        """End the program; a second call does nothing."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _check(self) -> None:
        (status,) = struct.unpack("=I", self._read(4))
        if status != GOOD:
            (length,) = struct.unpack("=I", self._read(4))
            raise ModelError(bytes(self._read(length)).decode("utf-8", "replace"))

    def _read(self, count: int) -> bytearray:
        content = bytearray(count)
        self._fill(memoryview(content))
        return content

    def _fill(self, rest: memoryview) -> None:
        assert self._process.stdout is not None  # noqa: S101
        while rest:
            count = self._process.stdout.readinto(rest)  # type: ignore[attr-defined]
            if not count:
                raise self._gone()
            rest = rest[count:]

    def _gone(self) -> ModelError:
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ModelError(f"the program that runs the model {how}")


def _pointers(arrays: Sequence[Any]) -> Any:
    """Return a C array of the addresses of arrays; the caller keeps the arrays alive."""
    addresses: list[int] = [array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * (len(addresses) or 1))(*addresses)
