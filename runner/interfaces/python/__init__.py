"""A compiled model. It needs Python 3.8 or newer and NumPy, and no compiler.

    import MODEL_NAME as model

    scores = model.predict(array)
    for name, score in model.best(scores):
        print(name, score)

`MODEL` says what goes in and comes out. `predict` may be called from several threads at once. `Model(threads=4)` opens
the model with threads of its own. `predict_image` takes an image file or a Pillow image, where Pillow is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._decoding import best, text
from ._description import MODEL, Description, Port
from ._model import Model, ModelError, shared_model

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

__all__ = [
    "MODEL",
    "Description",
    "Model",
    "ModelError",
    "Port",
    "best",
    "classify",
    "predict",
    "predict_image",
    "text",
]
__version__ = MODEL.version


def predict(*inputs: Array) -> Array | tuple[Array, ...]:
    """Run the model once, on one thread.

    Args:
        inputs: one array per input of the model, with the shape and dtype that `MODEL.inputs` names.

    Returns:
        The output; a tuple of outputs where the model has several.

    Raises:
        TypeError: another number of inputs, or one has another dtype.
        ValueError: an input has another shape.
        ModelError: the model cannot be opened or run here.
    """
    return shared_model().predict(*inputs)


def predict_image(image: Any) -> Array | tuple[Array, ...]:
    """Run the model once on an image: resized, cropped and scaled as the model was trained.

    Args:
        image: path of an image file, or a PIL.Image.Image. Any other inputs are zero.

    Returns:
        As for `predict`.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the model takes no images, or this one is too small.
        OSError: the file cannot be read.
    """
    return shared_model().predict_image(image)


def classify(image: Any, count: int = 5) -> list[tuple[str, float]]:
    """Return names and scores of the best classes of an image, the best first; see `predict_image` and `best`."""
    result = predict_image(image)
    return best(result[0] if isinstance(result, tuple) else result, count)
