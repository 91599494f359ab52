"""Takes inputs from a model's own data, from which the ranges of a quantised model follow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from crossfarm.config.base import Declared, Name
from crossfarm.config.decoding import CtcText, Decode
from crossfarm.config.models import Dataset, Input, Preprocess
from crossfarm.errors import ConfigError
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.job import Job
from crossfarm.stages.reference.cases import Trial, data_trials


class CalibratedModel(Declared):
    """What of a model's entry shapes its inputs; the names are those of config.models.Model."""

    name: Name
    inputs: tuple[Input, ...]
    preprocess: Preprocess | None
    data: tuple[Name, ...]
    decode: Decode | None = None
    seed: int


def calibration_inputs(job: Job, declaration: CalibratedModel, count: int) -> list[Mapping[str, Array]]:
    """Return inputs of the model's own data, spread evenly over its data sets; input name -> tensor.

    Raises:
        ConfigError: there is none, or a case needs the outputs of the one before.
    """
    if not declaration.data or declaration.preprocess is None:
        raise ConfigError(
            f"model {declaration.name}: a quantised model is calibrated from the model's own data, and it has none; "
            "add data and preprocess, or leave its quantised cells out"
        )
    share = -(-count // len(declaration.data))
    trials = itertools.chain.from_iterable(
        itertools.islice(_trials(job, declaration, name, declaration.preprocess), share) for name in declaration.data
    )
    found = list(itertools.islice(trials, count))
    if not found:
        raise ConfigError(
            f"model {declaration.name}: its data ({', '.join(declaration.data)}) holds no case, so there is nothing to "
            "calibrate from; see what the data set's glob or file holds"
        )
    if any(trial.carried != "no" for trial in found):
        raise ConfigError(
            f"model {declaration.name}: it carries state from case to case, which cannot be calibrated yet; leave its "
            "quantised cells out"
        )
    return [trial.tensors for trial in found]


def _trials(job: Job, declaration: CalibratedModel, name: str, preprocess: Preprocess) -> Iterator[Trial]:
    adapter: TypeAdapter[Any] = TypeAdapter(Dataset)
    return data_trials(
        adapter.validate_python(job.parameters[f"dataset {name}"]),
        job.inputs.get(f"dataset {name}"),
        model=declaration.name,
        inputs=[item for item in declaration.inputs if item.value is None],
        preprocess=preprocess,
        seed=declaration.seed,
        limit=None,
        is_text=isinstance(declaration.decode, CtcText),
    )
