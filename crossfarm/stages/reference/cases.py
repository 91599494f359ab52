"""The cases that a model is tried on: seeded random inputs first, then every sample of its data sets."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import ImageOps

from crossfarm.config.models import Audio, Box, Csv, Dataset, Images, Input, Preprocess, RenderedText
from crossfarm.config.samples import Files, Tokens
from crossfarm.errors import ConfigError
from crossfarm.stages.data.audio import frames
from crossfarm.stages.data.datasets import samples
from crossfarm.stages.data.preprocessing import boxes_in_input, image_tensor, to_input
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.data.windows import file_rows, token_rows
from crossfarm.stages.fetch.artifact import fetched_bytes, fetched_file
from crossfarm.stages.reference.artifact import Case

_Found = TypeVar("_Found")
_PREPROCESS: Mapping[type, str] = {Audio: "frames", Files: "bytes", Tokens: "tokens"}
_WORDS = {"frames": "audio", "bytes": "data of kind files", "tokens": "data of kind tokens"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Made:
    """What preprocessing makes of a sample.

    Attributes:
        name: unique in its data set.
        values: of the first input.
        label: as it was found.
        boxes: in pixels of the input; None where nobody says.
    """

    name: str
    values: Array
    label: int | str | None
    boxes: tuple[Box, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A case and the tensors that are known before the model runs.

    Attributes:
        case: its name, data set and label.
        tensors: input name -> tensor; inputs that a sequence carries are missing.
        carried: "no" = all inputs are there; "start" = the missing ones are zero; "on" = they are outputs of the case
            before.
    """

    case: Case
    tensors: Mapping[str, Array]
    carried: Literal["no", "start", "on"] = "no"


def random_trials(inputs: Sequence[Input], *, seed: int, count: int) -> Iterator[Trial]:
    """Yield `count` cases of uniform random inputs."""
    for number in range(count):
        yield Trial(
            case=Case(name=f"random {number}", kind="random"),
            tensors={tensor.name: random_tensor(tensor, seed=seed, case=number) for tensor in inputs},
        )


def random_tensor(tensor: Input, *, seed: int, case: int) -> Array:
    """Return uniform random values within `tensor.range`, the same on every machine.

    The generator is NumPy's PCG64, seeded with the sha256 of seed, name and case, so that neither another input nor
    another case changes the numbers. Integers include both bounds, cut to what the dtype holds; bool is 0 or 1.

    Raises:
        ConfigError: there is no integer of the dtype within the range.
    """
    digest = hashlib.sha256(f"{seed}\0{tensor.name}\0{case}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    kind = np.dtype(tensor.dtype)
    low, high = tensor.range
    if kind.kind == "b":
        return generator.integers(0, 1, size=tensor.shape, endpoint=True).astype(kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        first, last = max(math.ceil(low), limits.min), min(math.floor(high), limits.max)
        if first > last:
            raise ConfigError(
                f"input {tensor.name}: range [{low}, {high}] holds no {tensor.dtype}; "
                f"give one such as [0, {limits.max}]"
            )
        return generator.integers(first, last, size=tensor.shape, dtype=np.int64, endpoint=True).astype(kind)
    return generator.uniform(low, high, size=tensor.shape).astype(kind)


def data_trials(
    dataset: Dataset,
    folder: Path | None,
    *,
    model: str,
    inputs: Sequence[Input],
    preprocess: Preprocess,
    seed: int,
    limit: int | None,
    is_text: bool,
) -> Iterator[Trial]:
    """Yield a case per sample of a data set: the first input is the sample, those that a sequence carries come from the
    case before, and others are random.

    Args:
        dataset: as declared.
        folder: the artifact of `fetch` of its source, None when it has none.
        model: its name, for messages.
        inputs: those that the prepared model has; at least one.
        preprocess: from raw data to the first input.
        seed: of the random inputs.
        limit: at most so many cases, spread over the labels; a sequence that carries is one whole and is not cut.
        is_text: labels are texts; otherwise those of digits alone are numbers (`07` is 7).

    Raises:
        ConfigError: the data does not fit the declarations or the model.
    """
    first, *others = inputs
    is_sequence = isinstance(dataset, Audio)
    carried = {tensor.name for tensor in others if is_sequence and tensor.carry_from is not None}
    where = f"model {model}, data {dataset.name}"
    values_of = _values(dataset, folder, preprocess, where)
    chosen = values_of if limit is None or carried else spread(list(values_of), limit, label=lambda value: value.label)
    for number, made in enumerate(chosen):
        known = {first.name: to_input(made.values, shape=first.shape, dtype=first.dtype, where=where)}
        known |= {
            tensor.name: random_tensor(tensor, seed=seed, case=number)
            for tensor in others
            if tensor.name not in carried
        }
        label = int(str(made.label)) if not is_text and str(made.label).isdecimal() else made.label
        yield Trial(
            case=Case(
                name=f"{dataset.name} {made.name}",
                kind="data",
                dataset=dataset.name,
                label=label,
                boxes=made.boxes,
                continues=bool(carried and number),
            ),
            tensors=known,
            carried="no" if not carried else "on" if number else "start",
        )


def spread(found: Sequence[_Found], limit: int, *, label: Callable[[_Found], int | str | None]) -> list[_Found]:
    """Return at most `limit` of what was found, in its order: as many of each label as of any other, as far as there
    are, and those at even distances. The first so many would often all be of one label."""
    groups: dict[int | str | None, list[int]] = {}
    for number, one in enumerate(found):
        groups.setdefault(label(one), []).append(number)
    if limit < len(groups):
        names = list(groups)
        groups = {names[k * len(names) // limit]: groups[names[k * len(names) // limit]] for k in range(limit)}
    shares = dict.fromkeys(groups, 0)
    for _ in range(min(limit, sum(map(len, groups.values())))):
        least = min((name for name in groups if shares[name] < len(groups[name])), key=lambda name: shares[name])
        shares[least] += 1
    kept = {numbers[k * len(numbers) // shares[name]] for name, numbers in groups.items() for k in range(shares[name])}
    return [found[number] for number in sorted(kept)]


def _values(dataset: Dataset, folder: Path | None, preprocess: Preprocess, where: str) -> Iterator[_Made]:
    """Yield what preprocessing makes of each sample."""
    wanted = next((key for kind, key in _PREPROCESS.items() if isinstance(dataset, kind)), None)
    for key in _PREPROCESS.values():
        if (getattr(preprocess, key) is not None) != (key == wanted):
            raise ConfigError(
                f"{where}: preprocess.{key} goes with {_WORDS[key]}, and only with it; correct preprocess or data"
            )
    if isinstance(dataset, Images | Csv | RenderedText):
        for sample in samples(dataset, folder):
            boxes = None
            if sample.boxes is not None:
                width, height = ImageOps.exif_transpose(sample.image).size
                boxes = boxes_in_input(sample.boxes, width=width, height=height, steps=preprocess)
            values = image_tensor(sample.image, preprocess)
            yield _Made(name=sample.name, values=values, label=sample.label, boxes=boxes)
        return
    mean, scale = (np.float32(_scalar(value, where)) for value in (preprocess.mean, preprocess.scale))
    for name, row, label in _rows(dataset, folder, preprocess, where):
        yield _Made(name=name, values=(row - mean) * scale, label=label)


def _rows(
    dataset: Audio | Files | Tokens, folder: Path | None, preprocess: Preprocess, where: str
) -> Iterator[tuple[str, Array, int | str | None]]:
    if isinstance(dataset, Tokens) and preprocess.tokens is not None:
        yield from token_rows(dataset, preprocess.tokens)
    elif folder is None:
        raise ConfigError(f"{where}: its source was not fetched; run the stage `fetch` first")
    elif isinstance(dataset, Files) and preprocess.bytes is not None:
        yield from file_rows(dataset, fetched_file(folder), preprocess.bytes)
    elif isinstance(dataset, Audio) and preprocess.frames is not None:
        cut, labels = frames(dataset, fetched_bytes(dataset.source, folder), preprocess.frames)
        for number, (frame, label) in enumerate(zip(cut, labels, strict=True)):
            yield f"frame {number}", frame, label


def _scalar(value: float | tuple[float, ...], where: str) -> float:
    if isinstance(value, tuple):
        raise ConfigError(f"{where}: there is one channel, so preprocess.mean and scale are one number each")
    return value
