"""The cases that a model is tried on: seeded random inputs first, then every sample of its data sets."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from crossfarm.config.models import Audio, Csv, Images, Input, Preprocess, RenderedText
from crossfarm.errors import ConfigError
from crossfarm.stages.data.audio import frames
from crossfarm.stages.data.datasets import samples
from crossfarm.stages.data.preprocessing import image_tensor, to_input
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.fetch.artifact import fetched_bytes
from crossfarm.stages.reference.artifact import Case

_Found = TypeVar("_Found")


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
    dataset: Images | Csv | RenderedText | Audio,
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
    chosen = values_of if limit is None or carried else spread(list(values_of), limit, label=lambda value: value[2])
    for number, (name, values, found) in enumerate(chosen):
        known = {first.name: to_input(values, shape=first.shape, dtype=first.dtype, where=where)}
        known |= {
            tensor.name: random_tensor(tensor, seed=seed, case=number)
            for tensor in others
            if tensor.name not in carried
        }
        label = int(found) if not is_text and isinstance(found, str) and found.isdecimal() else found
        yield Trial(
            case=Case(
                name=f"{dataset.name} {name}",
                kind="data",
                dataset=dataset.name,
                label=label,
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


def _values(
    dataset: Images | Csv | RenderedText | Audio, folder: Path | None, preprocess: Preprocess, where: str
) -> Iterator[tuple[str, Array, int | str | None]]:
    """Yield name, preprocessed values and label of each sample."""
    if isinstance(dataset, Audio) != (preprocess.frames is not None):
        raise ConfigError(f"{where}: preprocess.frames goes with audio, and only with it; correct preprocess or data")
    if not isinstance(dataset, Audio):
        for sample in samples(dataset, folder):
            yield sample.name, image_tensor(sample.image, preprocess), sample.label
        return
    if folder is None or preprocess.frames is None:
        raise ConfigError(f"{where}: its source was not fetched; run the stage `fetch` first")
    cut, labels = frames(dataset, fetched_bytes(dataset.source, folder), preprocess.frames)
    scaled = (cut - np.float32(_scalar(preprocess.mean, where))) * np.float32(_scalar(preprocess.scale, where))
    for number, (frame, label) in enumerate(zip(scaled, labels, strict=True)):
        yield f"frame {number}", frame, label


def _scalar(value: float | tuple[float, ...], where: str) -> float:
    if isinstance(value, tuple):
        raise ConfigError(f"{where}: audio has one channel, so preprocess.mean and scale are one number each")
    return value
