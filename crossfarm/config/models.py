"""models.yaml: models, the labelled data they are tried on, and what must hold for their outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from crossfarm.config.accelerators import Variant
from crossfarm.config.base import (
    Count,
    Declared,
    Integer,
    Line,
    Name,
    Number,
    RelativePath,
    TensorName,
    Text,
    refuse_repeated,
)
from crossfarm.config.checks import Checks
from crossfarm.config.decoding import Decode
from crossfarm.config.exceptions import Expected, Skip
from crossfarm.config.quantisation import Quantisation
from crossfarm.config.samples import ByteWindow, Files, Tokens, TokenWindow, label_pattern
from crossfarm.config.sources import FactorySource, FileOrPackage, SingleFile, Source

DType = Literal["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool"]
Extent = Count
Bounds = tuple[Number, Number]
HeightWidth = tuple[Extent, Extent]
PerChannel = Number | tuple[Number, ...]
Sizes = dict[TensorName, Extent | Annotated[tuple[Extent, ...], Field(min_length=1)]]
Rotation = Literal[0, 90, 180, 270]
Box = tuple[Number, Number, Number, Number]
"""Left, top, right and bottom in pixels of the image."""

_DATA = {"frames": "audio", "bytes": "files", "tokens": "texts"}
MAX_RANK = 8
MAX_ELEMENTS = 2**28
"""Most elements of an input: 1 GiB of float32."""


class Input(Declared):
    """One input of a model, with its shape made static."""

    name: TensorName
    shape: Annotated[tuple[Extent, ...], Field(max_length=MAX_RANK)]
    """Extent of each axis; a scalar has []."""
    dtype: DType = "float32"
    """Type of the elements."""
    layout: Annotated[str, Field(pattern=r"^[A-Z]{1,8}$", description="one capital letter for each axis")] | None = None
    """Meaning of the axes, one letter each: N batch, C channel, H row, W column, T time."""
    value: Number | Integer | None = None
    """A scalar that is baked into the model; the input disappears."""
    range: Bounds = (-1.0, 1.0)
    """Bounds of the seeded random inputs, uniform, in units of the tensor."""
    carry_from: TensorName | None = None
    """Output whose value the next frame of a sequence feeds back here; zero at the start."""
    carry: Literal["own", "reference"] | None = None
    """With `carry_from`: whose output of the frame before each run is fed. `own`, the default: its own, so that errors
    add up as they would in use; `reference`: the reference's, so that each frame is judged alone."""

    @model_validator(mode="after")
    def _fits_together(self) -> Input:
        if math.prod(self.shape) > MAX_ELEMENTS:
            raise ValueError(f"shape has {math.prod(self.shape)} elements, more than {MAX_ELEMENTS}; make it smaller")
        if self.layout is not None and len(self.layout) != len(self.shape):
            raise ValueError(
                f"layout {self.layout} names {len(self.layout)} axes, but shape has {len(self.shape)}; "
                "give one letter for each axis"
            )
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range must rise, got {list(self.range)}; give the lower bound first")
        if self.value is not None:
            self._check_value(self.value)
        if self.carry is not None and self.carry_from is None:
            raise ValueError("carry says how carry_from is carried; add carry_from, or leave carry out")
        return self

    def _check_value(self, value: float) -> None:
        if math.prod(self.shape) != 1:
            raise ValueError("value bakes in one number, so shape must be [] or have one element")
        if self.carry_from is not None:
            raise ValueError("value and carry_from exclude each other; a baked input cannot be carried")
        if not self.dtype.startswith("float") and not float(value).is_integer():
            raise ValueError(f"value {value} is no integer, but dtype is {self.dtype}; change one of them")


class Resize(Declared):
    """Resizes an image; exactly one of the three forms."""

    shorter_side: Extent | None = None
    """Length of the shorter side; the aspect is kept."""
    size: HeightWidth | None = None
    """Height and width, the aspect is not kept."""
    fit: HeightWidth | None = None
    """Height and width; scaled to the height, the aspect kept, cut or padded on the right with `pad_value`."""
    pad_value: Number = 0.0
    """Raw value (0 to 255) of the padding that `fit` adds."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """How pixels between pixels are made, as Pillow does it."""

    @model_validator(mode="after")
    def _one_form(self) -> Resize:
        if sum(form is not None for form in (self.shorter_side, self.size, self.fit)) != 1:
            raise ValueError("give exactly one of shorter_side, size, fit")
        return self

    def smallest(self) -> HeightWidth:
        """Return the least height and width of an image that was resized so."""
        least = self.shorter_side or 1
        return self.size or self.fit or (least, least)


class Framing(Declared):
    """Cuts 16-bit mono audio into frames of `size` samples, each preceded by the last `context` samples before it."""

    rate: Extent = 16000
    """Samples a second that the model expects."""
    size: Extent
    """New samples of each frame."""
    context: Annotated[Integer, Field(ge=0, le=2**24)] = 0
    """Samples of the past in front of each frame."""


class Preprocess(Declared):
    """From a raw file to the first input: resize, crop, channels, (x - mean) * scale, layout; audio is framed instead.

    Raw images are 0 to 255 per channel; raw audio is -1 to 1.
    """

    resize: Resize | None = None
    """Comes first."""
    crop: HeightWidth | None = None
    """Height and width of the centre crop."""
    channels: Literal["RGB", "BGR", "GRAY"] = "RGB"
    """Order of the colours; GRAY is one channel."""
    mean: PerChannel = 0.0
    """Subtracted; one number, or one for each channel in the order of `channels`."""
    scale: PerChannel = 1.0
    """Multiplied after that; as for mean."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes of the input."""
    frames: Framing | None = None
    """For audio."""
    bytes: ByteWindow | None = None
    """For files."""
    tokens: TokenWindow | None = None
    """For texts that were made into tokens."""

    @model_validator(mode="after")
    def _fits_together(self) -> Preprocess:
        others = [key for key in ("frames", "bytes", "tokens") if getattr(self, key) is not None]
        if others and (self.resize is not None or self.crop is not None):
            raise ValueError(
                f"{others[0]} is for {_DATA[others[0]]}, resize and crop are for images; remove one or the other"
            )
        if len(others) > 1:
            raise ValueError(f"{others[0]} and {others[1]} are for different data; remove one of them")
        count = self.channel_count
        for key, value in (("mean", self.mean), ("scale", self.scale)):
            if isinstance(value, tuple) and len(value) != count:
                raise ValueError(f"{key} has {len(value)} numbers for {count} channels; give one number, or {count}")
        if self.resize is not None and self.crop is not None:
            height, width = self.resize.smallest()
            if self.crop[0] > height or self.crop[1] > width:
                raise ValueError(
                    f"crop {list(self.crop)} may be larger than the resized image, [{height}, {width}]; "
                    "resize to more, or crop less"
                )
        return self

    @property
    def channel_count(self) -> int:
        """Number of channels after preprocessing; what is no image has one."""
        return 1 if not self.is_about_images or self.channels == "GRAY" else 3

    @property
    def is_about_images(self) -> bool:
        """Whether the data are images."""
        return self.frames is None and self.bytes is None and self.tokens is None

    def shape(self) -> tuple[int | None, ...]:
        """Return the shape of one preprocessed sample, without the batch; None where the raw file decides."""
        if self.frames is not None:
            return (self.frames.context + self.frames.size,)
        if self.bytes is not None:
            return (self.bytes.head + self.bytes.tail,)
        if self.tokens is not None:
            return (self.tokens.length,)
        resized = (self.resize.size or self.resize.fit) if self.resize is not None else None
        height, width = self.crop or resized or (None, None)
        return (self.channel_count, height, width) if self.layout == "NCHW" else (height, width, self.channel_count)


class Images(Declared):
    """Image files of a wheel or of a folder. The label is group 1 of the regular expression `label`."""

    kind: Literal["images"]
    name: Name
    source: FileOrPackage
    """A package (the whole wheel), or `file`: a folder."""
    glob: RelativePath
    """Which files of it."""
    label: Annotated[Line, AfterValidator(label_pattern)] | None = None
    """Regular expression over the file's name; group 1 is the label."""
    fixed_label: Annotated[Integer, Field(ge=0)] | None = None
    """The label of every image."""
    limit: Extent | None = None
    """At most so many images, in the order of their names."""
    boxes: Mapping[Line, tuple[Box, ...]] | None = None
    """Name of a file without its ending -> boxes around what it shows; files that are not named show nothing."""
    rotations: Annotated[tuple[Rotation, ...], Field(min_length=1)] = (0,)
    """Each image is shown once per counter-clockwise rotation; with several, the label is its place in the list."""

    @model_validator(mode="after")
    def _one_label(self) -> Images:
        refuse_repeated("rotations", self.rotations)
        if sum((self.label is not None, self.fixed_label is not None, len(self.rotations) > 1)) > 1:
            raise ValueError("label, fixed_label and several rotations each give the label; keep one of them")
        if self.boxes is not None and self.rotations != (0,):
            raise ValueError("boxes are those of the image as it is; leave rotations out")
        return self


class Csv(Declared):
    """Rows of numbers in a (gzipped) CSV file: pixels row by row, then the label."""

    kind: Literal["csv"]
    name: Name
    source: SingleFile
    """The CSV file."""
    height: Extent
    """Rows of an image."""
    width: Extent
    """Columns of an image."""
    limit: Extent | None = None
    """Rows are taken evenly over the file, so that every class is there."""


class RenderedText(Declared):
    """Lines of text drawn black on white with Pillow's own font. The label is the text, or the rotation's place."""

    kind: Literal["rendered_text"]
    name: Name
    texts: Annotated[tuple[Text, ...], Field(min_length=1)]
    """One picture each; a line break begins a new line of the picture."""
    font_size: Annotated[Extent, Field(le=512)] = 32
    """In pixels."""
    rotations: tuple[Rotation, ...] = ()
    """With rotations, each text is shown once per counter-clockwise rotation; the label is its place in the list."""

    @model_validator(mode="after")
    def _different_rotations(self) -> RenderedText:
        refuse_repeated("rotations", self.rotations)
        return self


class Audio(Declared):
    """A mono 16-bit WAV file."""

    kind: Literal["audio"]
    name: Name
    source: SingleFile
    """The WAV file."""
    speech: tuple[Bounds, ...] | None = None
    """The [from, to) seconds in which someone speaks."""
    limit: Extent | None = None
    """Number of frames."""

    @model_validator(mode="after")
    def _speech_lasts(self) -> Audio:
        for start, stop in self.speech or ():
            if not 0 <= start < stop:
                raise ValueError(f"speech [{start}, {stop}] must begin at 0 or later and end after it begins")
        return self


Dataset = Annotated[Images | Csv | RenderedText | Audio | Files | Tokens, Field(discriminator="kind")]


class Model(Declared):
    """One entry of models.yaml."""

    name: Name
    """Names the model's cells and files, and the C symbols of its library."""
    source: Source
    """Where it comes from; exactly one of file, url, package, factory."""
    format: Literal["onnx", "tflite", "torch", "torchscript"] = "onnx"
    """`torch` goes with a factory."""
    licence: Line
    """SPDX expression: `Apache-2.0`."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """One line for people."""
    tags: tuple[Name, ...] = ()
    """Words by which a pipeline leaves it out (`without_tags`)."""
    inputs: Annotated[tuple[Input, ...], Field(min_length=1, max_length=64)]
    """Every input of the model; the first one takes the data."""
    sizes: Annotated[Sizes, Field(default_factory=dict)]
    """Tensor whose extent depends on data -> its largest count, or its shape."""
    preprocess: Preprocess | None = None
    """From a raw sample of `data` to the first input."""
    data: tuple[Name, ...] = ()
    """Names of data sets."""
    decode: Decode | None = None
    """What the first output means."""
    checks: Checks = Checks()
    """What must hold."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = ("float32",)
    """`int8` beside `float32` is made from it; alone it names a model that is quantised already. `int8_shift` stands
    beside `float32`: all its scales are powers of two, one for each tensor."""
    quantisation: Quantisation = Quantisation()
    """How int8 is made, and what must hold for it."""
    skip: tuple[Skip, ...] = ()
    """Targets that it is not built for."""
    expected: tuple[Expected, ...] = ()
    """Failures that are known."""
    seed: Annotated[Integer, Field(ge=0, le=2**63 - 1)] = 0
    """Of the random inputs."""
    random_cases: Annotated[Integer, Field(ge=1, le=64)] = 2
    """Number of random inputs that it is tried on besides `data`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if (self.format == "torch") != isinstance(self.source, FactorySource):
            raise ValueError("format torch goes with a source that has a factory, and only with such a one")
        refuse_repeated("names of inputs", (item.name for item in self.inputs))
        refuse_repeated("names in data", self.data)
        refuse_repeated("names in quantisation.data", self.quantisation.data)
        refuse_repeated("variants", self.variants)
        refuse_repeated("targets in skip", (item.target for item in self.skip))
        if self.calibration_data and self.preprocess is None:
            raise ValueError("data needs preprocess, which says how a raw sample becomes the first input")
        if self.is_quantised_here and not self.calibration_data:
            raise ValueError("int8 beside float32 is calibrated from data; add data, or leave int8 out of variants")
        if "int8_shift" in self.variants and not ("float32" in self.variants and self.calibration_data):
            raise ValueError("int8_shift is made from float32 and data; add both, or leave int8_shift out of variants")
        self._check_first_input()
        self._check_limits()
        return self

    @property
    def calibration_data(self) -> tuple[str, ...]:
        """Names of the data sets that quantised variants are calibrated from."""
        return self.quantisation.data or self.data

    @property
    def is_quantised_here(self) -> bool:
        """Whether int8 is made from float32, not ready-made."""
        return {"float32", "int8"} <= set(self.variants)

    def _check_first_input(self) -> None:
        first = next((item for item in self.inputs if item.value is None), None)
        if first is None:
            raise ValueError("every input has a value, so nothing is left to run on; bake in fewer")
        if self.preprocess is None:
            return
        made = self.preprocess.shape()
        batch, sample = first.shape[: -len(made)], first.shape[-len(made) :]
        agrees = len(sample) == len(made) and all(b in (None, a) for a, b in zip(sample, made, strict=True))
        if not agrees or math.prod(batch) != 1:
            shown = ", ".join("?" if extent is None else str(extent) for extent in made)
            raise ValueError(
                f"preprocess gives [{shown}], but the input {first.name!r} has shape {list(first.shape)}; "
                "change preprocess (resize, crop, channels, layout, frames) or the shape"
            )

    def _check_limits(self) -> None:  # each needs a case that is held against it
        kind = self.decode.kind if self.decode is not None else None
        for key, limit, kinds in (
            ("top1", self.checks.top1, ("classify", "threshold")),
            ("top5", self.checks.top5, ("classify",)),
            ("text", self.checks.text, ("ctc_text",)),
            ("map50", self.checks.map50, ("boxes",)),
            ("rank1", self.checks.rank1, ("embeddings",)),
        ):
            if limit is not None and (kind not in kinds or not self.data):
                raise ValueError(f"checks.{key} needs data, and decode of kind {' or '.join(kinds)}; add them")


class ModelsFile(Declared):
    """The whole of models.yaml."""

    defaults: Annotated[dict[str, object], Field(default_factory=dict)]
    """Merged under every model, mapping by mapping, before validation; lists and scalars are replaced."""
    datasets: tuple[Dataset, ...] = ()
    """Labelled data that models may name."""
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """The models."""
