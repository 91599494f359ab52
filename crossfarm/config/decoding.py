"""What the outputs of a model mean: `decode` in models.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossfarm.config.base import Count, Declared, Integer, Line, Number, Share, TensorName
from crossfarm.config.sources import SingleFile


class ClassNames(Declared):
    """Names of the classes in order: a list, or a JSON file (a list, or an object from index to name)."""

    names: Annotated[tuple[Line, ...], Field(min_length=1)] | None = None
    """The names, in the order of the scores."""
    source: SingleFile | None = None
    """The JSON file."""
    key: Line | None = None
    """Where in the file the names stand, if it is an object that holds more than them."""

    @model_validator(mode="after")
    def _one_form(self) -> ClassNames:
        if (self.names is None) == (self.source is None):
            raise ValueError("give exactly one of names, source")
        if self.key is not None and self.source is None:
            raise ValueError("key says where in a file the names stand; add source, or leave key out")
        return self


class Classify(Declared):
    """The first output holds one score per class."""

    kind: Literal["classify"]
    classes: ClassNames | None = None
    """For people; without it classes are numbers. A label that is a text is one of these names."""
    top: Count = 5
    """Number of best classes that the report lists."""
    labels: Annotated[tuple[Annotated[Integer, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The class that each label of the data stands for, where the model numbers its classes otherwise."""


class CtcText(Declared):
    """The first output is [1, time, characters] scores, read by greedy CTC with blank 0."""

    kind: Literal["ctc_text"]
    metadata_key: Line = "character"
    """Key of the ONNX metadata that holds the characters, one a line."""


class Detect(Declared):
    """The first output is one probability per frame; above `threshold` counts as class 1."""

    kind: Literal["threshold"]
    threshold: Number = 0.5
    """Least probability of class 1."""


class AnchorGrid(Declared):
    """A grid of anchors over the input, row by row; each stands in the middle of its cell."""

    stride: Count
    """Pixels of the input from one cell to the next, each way."""
    count: Count = 1
    """Anchors of a cell."""


class Anchors(Declared):
    """Boxes that are given against anchors: an output with [centre x, centre y, width, height, ...] of each in pixels
    of the input, the centre from the anchor's; and one with a logit for each."""

    boxes: TensorName
    """The output of the boxes; numbers behind the first four of an anchor are not read."""
    scores: TensorName
    """The output of the logits; their sigmoid is the score."""
    grids: Annotated[tuple[AnchorGrid, ...], Field(min_length=1)]
    """In the order of the anchors."""


class ScoreMap(Declared):
    """Boxes around the connected places of a map of probabilities, the first output, [..., height, width]. Its pixels
    are those of the input."""

    threshold: Share = 0.3
    """Least probability of a place."""
    growth: Annotated[Number, Field(ge=0.0)] = 1.5
    """The map shows shrunken things: each side of a box moves outwards by area * growth / perimeter."""
    least: Count = 3
    """Least pixels of a side before that."""


class Boxes(Declared):
    """The outputs hold boxes around things, all of one kind, with scores."""

    kind: Literal["boxes"]
    anchors: Anchors | None = None
    """How they are given: exactly one of `anchors` and `map`."""
    map: ScoreMap | None = None
    """As above."""
    threshold: Share = 0.5
    """Least score of a box."""
    overlap: Share = 0.3
    """A box is dropped when a better one covers it by more than this intersection over union."""

    @model_validator(mode="after")
    def _one_form(self) -> Boxes:
        if (self.anchors is None) == (self.map is None):
            raise ValueError("give exactly one of anchors, map")
        return self


class Masks(Declared):
    """The first output is one probability for each pixel; above `threshold` it belongs to the mask."""

    kind: Literal["masks"]
    threshold: Number = 0.5
    """Least probability of the mask."""


class Embeddings(Declared):
    """The first output is a vector; the more alike two inputs are, the larger is the cosine of theirs."""

    kind: Literal["embeddings"]


Decode = Annotated[Classify | CtcText | Detect | Boxes | Masks | Embeddings, Field(discriminator="kind")]
