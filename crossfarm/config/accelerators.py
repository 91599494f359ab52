"""What the `code:` sections of accelerators share, and which variants of a model a target may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from crossfarm.config.base import Declared, Integer

Variant = Literal["float32", "int8", "int8_shift"]
"""How a model is prepared for a target. `int8_shift`: all scales are powers of two, one for each tensor."""
VARIANTS: tuple[Variant, ...] = get_args(Variant)
QUANTISING: dict[str, str] = {"int8": "quantize", "int8_shift": "quantize_shift"}
"""Variant that is made from float32 -> the stage that makes it."""


class AcceleratorCode(Declared):
    """The `code:` section of a toolchain file whose backend is for an accelerator; backends add their own keys."""

    TAKES: ClassVar[tuple[Variant, ...]] = VARIANTS
    """Variants that the backend can compile; a toolchain file may name fewer."""
    FORMATS: ClassVar[tuple[str, ...]] = ("onnx", "tflite", "torch", "torchscript")
    """Formats in which a model may come; a compiler that reads the original file knows its own alone."""
    ORIGINALS: ClassVar[Mapping[Variant, str]] = {}
    """Variant -> format of the file that the backend reads as the model came, and no other; the stage `prepare` keeps
    it beside model.onnx."""
    QUANTISES: ClassVar[bool] = False
    """The backend quantises float32 itself; it gets inputs to calibrate from."""
    ROUNDS_OTHERWISE: ClassVar[bool] = False
    """Its integers are rounded otherwise than ONNX Runtime does, also where it takes a quantised model as it is. Like
    what it quantised itself, its answers are judged by what they decide."""

    @property
    def card(self) -> str | None:
        """Return the card that its bundles run on, by its name in boards.yaml; None where there is none."""
        return None

    megahertz: Annotated[Integer, Field(ge=1, le=100_000)]
    """Clock of the array; cycles become time by it."""
