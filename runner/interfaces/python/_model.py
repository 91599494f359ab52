"""An open model: checks what goes in, runs it, hands out what comes out."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy

from ._description import MODEL, Port, find
from ._engines import Library, ModelError, Server

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]

__all__ = ["Model", "ModelError", "shared_model"]


class Model:
    """The model, opened once. Calls from several threads come one after the other; `predict` of the module has a
    model for each thread instead.

        with Model(threads=4) as model:
            scores = model.predict(array)
    """

    def __init__(self, threads: int = 1) -> None:
        """Open the model.

        Args:
            threads: that one run is shared between, 1 to 256.

        Raises:
            ValueError: `threads` is out of its range.
            ModelError: the files were made for another machine, or do not belong together.
            FileNotFoundError: a file of the model is missing.
        """
        if not 1 <= threads <= 256:
            raise ValueError(f"threads is {threads}; give 1 to 256")
        self._lock = threading.Lock()
        self._engine: Library | Server | None = _open(threads)
        self._process = os.getpid()

    def predict(self, *inputs: Array) -> Array | tuple[Array, ...]:
        """Run the model once; see `predict` of the module."""
        checked = _checked(inputs)
        outputs = tuple(numpy.empty(port.shape, dtype=port.dtype) for port in MODEL.outputs)
        with self._lock:
            if self._engine is None:
                raise ModelError("the model is closed; open another one")
            if self._process != os.getpid():
                raise ModelError("the model was opened before this process was forked; open one in each process")
            self._engine.run(checked, outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def predict_image(self, image: Any) -> Array | tuple[Array, ...]:
        """Run the model once on an image; see `predict_image` of the module."""
        from ._images import image_tensor

        inputs = [numpy.zeros(port.shape, dtype=port.dtype) for port in MODEL.inputs]
        inputs[MODEL.image_input] = image_tensor(image)
        return self.predict(*inputs)

    def close(self) -> None:
        """Give back the memory; a second call does nothing."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None and self._process == os.getpid():
            engine.close()

    def __enter__(self) -> Model:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def __del__(self) -> None:
        """Close the model that nobody closed."""
        if getattr(self, "_engine", None) is not None and not sys.is_finalizing():
            self.close()


class _OfThread(threading.local):
    model: Model | None = None
    process = 0


_of_thread = _OfThread()


def shared_model() -> Model:
    """Return this thread's model on one thread, opened on first use; a forked process opens its own."""
    model = _of_thread.model
    if model is None or _of_thread.process != os.getpid():
        model = _of_thread.model = Model()
        _of_thread.process = os.getpid()
    return model


def _open(threads: int) -> Library | Server:
    weights = find("weights.bin")
    library = f"lib{MODEL.name}.so"
    engine: Library | Server
    try:
        found = find(library)
    except FileNotFoundError:
        engine = Server(find("server"), weights, threads)
    else:
        engine = Library(found, weights, threads)
    if engine.identity() != MODEL.identity:
        engine.close()
        raise ModelError("library and model.json are of different builds; install or copy the model again")
    return engine


def _checked(inputs: tuple[Any, ...]) -> list[Array]:
    """Return the inputs as C-ordered arrays of the machine's byte order."""
    ports = MODEL.inputs
    if len(inputs) != len(ports):
        wanted = "; ".join(map(str, ports))
        raise TypeError(f"{MODEL.name} takes {len(ports)} inputs ({wanted}), got {len(inputs)}")
    return [_checked_input(numpy.asarray(inputs[number]), port) for number, port in enumerate(ports)]


def _checked_input(array: Array, port: Port) -> Array:
    if array.dtype != numpy.dtype(port.dtype):
        message = "input {} got dtype {}; convert it, for instance with array.astype({!r})"
        raise TypeError(message.format(port, array.dtype, port.dtype))
    if array.shape != port.shape:
        raise ValueError(f"input {port} got shape {list(array.shape)}")
    return numpy.asarray(array, dtype=port.dtype, order="C")
