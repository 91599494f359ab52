"""models.yaml: models, the labelled data they are tried on, and what must hold for their outputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from crossfarm.spec.base import Declared, Name
from crossfarm.spec.sources import FactorySource, FileSource, Package, PackageSource, Source, UrlSource

DType = Literal["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool"]
Extent = Annotated[int, Field(ge=1, le=2**31 - 1)]
TensorName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Input(Declared):
    """One input of a model, with its shape made static."""

    name: TensorName
    shape: tuple[Extent, ...]
    dtype: DType = "float32"
    layout: Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,6}$")] | None = None
    """Meaning of the axes, one letter each: N batch, C channel, H row, W column, T time."""
    value: float | int | None = None
    """A scalar that is baked into the model; the input disappears."""
    range: tuple[float, float] = (-1.0, 1.0)
    """Bounds of the seeded random inputs, uniform, in units of the tensor."""
    carry_from: TensorName | None = None
    """Output whose value the next frame of a sequence feeds back here; zero at the start."""


class Resize(Declared):
    """Resizes an image; exactly one of the three forms."""

    shorter_side: Extent | None = None
    size: tuple[Extent, Extent] | None = None
    """Height and width, the aspect is not kept."""
    fit: tuple[Extent, Extent] | None = None
    """Height and width; scaled to the height, the aspect kept, cut or padded on the right with `pad_value`."""
    pad_value: float = 0.0
    """Raw value (0 to 255) of the padding that `fit` adds."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    @model_validator(mode="after")
    def _one_form(self) -> Resize:
        if sum(form is not None for form in (self.shorter_side, self.size, self.fit)) != 1:
            raise ValueError("give exactly one of shorter_side, size, fit")
        return self


class Framing(Declared):
    """Cuts 16-bit mono audio into frames of `size` samples, each preceded by the last `context` samples before it."""

    rate: Extent = 16000
    size: Extent
    context: Annotated[int, Field(ge=0)] = 0


class Preprocess(Declared):
    """From a raw file to the first input: resize, crop, channels, (x - mean) * scale, layout; audio is framed instead.

    Raw images are 0 to 255 per channel; raw audio is -1 to 1.
    """

    resize: Resize | None = None
    crop: tuple[Extent, Extent] | None = None
    """Height and width of the centre crop."""
    channels: Literal["RGB", "BGR", "GRAY"] = "RGB"
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    frames: Framing | None = None


class Images(Declared):
    """Image files of a wheel or of a folder. The label is group 1 of the regular expression `label`."""

    kind: Literal["images"]
    name: Name
    source: Package | FileSource
    glob: str
    label: str | None = None
    fixed_label: int | None = None
    limit: Extent | None = None
    rotations: tuple[Literal[0, 90, 180, 270], ...] = (0,)
    """Each image is shown once per counter-clockwise rotation; with more than one, the label is its place in the list."""


class Csv(Declared):
    """Rows of numbers in a (gzipped) CSV file: pixels row by row, then the label."""

    kind: Literal["csv"]
    name: Name
    source: PackageSource | FileSource | UrlSource
    height: Extent
    width: Extent
    limit: Extent | None = None
    """Rows are taken evenly over the file, so that every class is there."""


class RenderedText(Declared):
    """Lines of text drawn black on white with Pillow's built-in font. The label is the text, or the rotation's place."""

    kind: Literal["rendered_text"]
    name: Name
    texts: tuple[str, ...] = Field(min_length=1)
    font_size: Extent = 32
    rotations: tuple[Literal[0, 90, 180, 270], ...] = ()
    """With rotations, each text is shown once per counter-clockwise rotation, and the label is its place in the list."""


class Audio(Declared):
    """A mono 16-bit WAV file. `speech` lists the [from, to) seconds in which someone speaks."""

    kind: Literal["audio"]
    name: Name
    source: PackageSource | FileSource | UrlSource
    speech: tuple[tuple[float, float], ...] | None = None
    limit: Extent | None = None
    """Number of frames."""


Dataset = Annotated[Images | Csv | RenderedText | Audio, Field(discriminator="kind")]


class ClassNames(Declared):
    """Names of the classes in order: a list, or a JSON file (a list, or an object from index to name)."""

    names: tuple[str, ...] | None = None
    source: PackageSource | FileSource | UrlSource | None = None

    @model_validator(mode="after")
    def _one_form(self) -> ClassNames:
        if (self.names is None) == (self.source is None):
            raise ValueError("give exactly one of names, source")
        return self


class Classify(Declared):
    """The first output holds one score per class."""

    kind: Literal["classify"]
    classes: ClassNames | None = None
    top: Extent = 5
    labels: tuple[int, ...] | None = None
    """The class that each label of the data stands for, where the model numbers its classes otherwise."""


class CtcText(Declared):
    """The first output is [1, time, characters] scores: greedy CTC with blank 0, characters from the model's metadata."""

    kind: Literal["ctc_text"]
    metadata_key: str = "character"


class Detect(Declared):
    """The first output is one probability per frame; above `threshold` counts as class 1."""

    kind: Literal["threshold"]
    threshold: float = 0.5


Decode = Annotated[Classify | CtcText | Detect, Field(discriminator="kind")]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Checks(Declared):
    """What must hold. Shares are of the cases of a data set."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Largest |target - reference| of an output, as a share of the output's scale (the largest |reference|)."""
    argmax: Share = 1.0
    """Share of cases whose argmax equals the reference's, for models that are decoded."""
    top1: Share | None = None
    """Share of labelled cases that must be right. `top5` likewise."""
    top5: Share | None = None
    text: Share | None = None
    """Share of texts that must be read exactly."""


class Skip(Declared):
    """A target that a model is not built for, and why."""

    target: Name
    reason: Annotated[str, StringConstraints(min_length=3)]


class Model(Declared):
    """One entry of models.yaml."""

    name: Name
    source: Source
    format: Literal["onnx", "tflite", "torch"] = "onnx"
    licence: str
    description: str = ""
    inputs: tuple[Input, ...] = Field(min_length=1)
    preprocess: Preprocess | None = None
    data: tuple[Name, ...] = ()
    decode: Decode | None = None
    checks: Checks = Checks()
    variants: tuple[Literal["float32", "int8"], ...] = ("float32",)
    """`int8` names a model that is quantised already."""
    skip: tuple[Skip, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0
    random_cases: Annotated[int, Field(ge=1, le=64)] = 2

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if (self.format == "torch") != isinstance(self.source, FactorySource):
            raise ValueError("format torch goes with a source that has a factory, and only with such a one")
        if self.data and self.preprocess is None:
            raise ValueError("data needs preprocess, which says how a raw sample becomes the first input")
        return self


class ModelsFile(Declared):
    """The whole of models.yaml. `defaults` is merged under every model, mapping by mapping, before validation."""

    defaults: dict[str, object] = {}
    datasets: tuple[Dataset, ...] = ()
    models: tuple[Model, ...] = Field(min_length=1)
