"""Runs ONNX Runtime over the cases of a model and writes what it answered.

Graph optimisations are off: each operator is computed as the ONNX standard says it, and a quantised graph in plain
float between its QuantizeLinear and DequantizeLinear nodes, where fused integer kernels round otherwise. One thread,
and the cases in one order.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from pydantic import Field, TypeAdapter

from crossfarm.config.base import Declared, Name
from crossfarm.config.decoding import Classify, CtcText, Decode
from crossfarm.config.models import Dataset, DType, Input, Preprocess
from crossfarm.errors import ConfigError, ModelError, nearest
from crossfarm.stages.data.tensors import Array, little_endian
from crossfarm.stages.fetch.artifact import fetched_bytes
from crossfarm.stages.job import Job
from crossfarm.stages.prepare.onnx_session import EXACT, open_session
from crossfarm.stages.reference.artifact import Case, Reference, TensorFile
from crossfarm.stages.reference.bounded import bounded
from crossfarm.stages.reference.cases import Trial, data_trials, random_trials

_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_DTYPES: dict[str, DType] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class _Declaration(Declared):
    """What of a model's entry the stage is given; the names are those of config.models.Model."""

    name: Name
    inputs: tuple[Input, ...]
    preprocess: Preprocess | None
    data: tuple[Name, ...]
    decode: Decode | None = Field(default=None)
    seed: int
    random_cases: int


def write_reference(job: Job) -> None:
    """Do the work of the stage `reference`; see there.

    Raises:
        ConfigError: data, preprocessing and model do not fit together.
        ModelError: ONNX Runtime cannot run the model, or it answers NaN or infinity.
    """
    model = _Declaration.model_validate(job.group("model"))
    prepared, exact = job.inputs["prepare"] / "model.onnx", job.inputs["prepare"] / EXACT
    runtime = Runtime(prepared, model=model.name, exact=exact if exact.exists() else None)
    inputs = _present_inputs(model, runtime)
    trials = itertools.chain(
        random_trials(inputs, seed=model.seed, count=model.random_cases),
        *(_dataset_trials(job, model, name, inputs) for name in model.data),
    )
    classes, characters = _class_names(model, job), _characters(model, runtime)
    for what, names in (("classes", classes), ("characters", characters)):
        scores = runtime.outputs[0].shape[-1] if runtime.outputs[0].shape else 1
        if names is not None and len(names) != scores:
            raise ConfigError(
                f"model {model.name}: there are {len(names)} names of {what}, but output {runtime.outputs[0].name} has "
                f"{scores} scores; correct decode"
            )
    cases = _run_all(runtime, trials, inputs=inputs, folder=job.output)
    carried = carried_by_runs(inputs)
    if isinstance(model.decode, Classify):
        if model.decode.labels is None:
            cases = tuple(named(case, classes or ()) for case in cases)
        check_labels(cases, model.decode, scores=math.prod(runtime.outputs[0].shape), model=model.name)
    Reference(
        cases=cases,
        inputs=tuple(
            _tensor_file("inputs", k, port, carry_from=carried.get(port.name)) for k, port in enumerate(runtime.inputs)
        ),
        outputs=tuple(_tensor_file("outputs", k, port) for k, port in enumerate(runtime.outputs)),
        classes=classes,
        characters=characters,
    ).write(job.output)


def carried_by_runs(inputs: Iterable[Input]) -> dict[str, str]:
    """Return input -> output for those inputs into which every run feeds back its own outputs."""
    return {
        tensor.name: tensor.carry_from
        for tensor in inputs
        if tensor.carry_from is not None and tensor.carry != "reference"
    }


class ReferencePort(Declared):
    """Name, dtype and static shape of an input or output."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class Runtime:
    """ONNX Runtime with a model, on one thread of the CPU.

    Attributes:
        inputs: what the model takes, in its order.
        outputs: what it gives.
        metadata: metadata_props of the ONNX file.
    """

    def __init__(self, path: Path, *, model: str, exact: Path | None = None) -> None:
        """Load a static ONNX file.

        Args:
            path: the file.
            model: its name, for messages.
            exact: the same model with the true extents, where some depend on data: it is run, and what it gives is cut
                or filled up with zeros to the static ones.

        Raises:
            ModelError: it cannot be loaded, or has an open shape or a type that is no plain tensor.
        """
        self._model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            self._session = open_session(path.read_bytes(), options)
            self._exact = self._session if exact is None else open_session(exact.read_bytes(), options)
        except _ORT_ERRORS as error:
            raise ModelError(
                f"model {model}: ONNX Runtime cannot load it: {_first_line(error)}; "
                "check that the file is a valid ONNX model"
            ) from error
        self.inputs = tuple(self._port(port) for port in self._session.get_inputs())
        self.outputs = tuple(self._port(port) for port in self._session.get_outputs())
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, tensors: Mapping[str, Array], *, case: str) -> dict[str, Array]:
        """Run the model once.

        Args:
            tensors: input name -> tensor.
            case: name of the case, for messages.

        Returns:
            Output name -> tensor.

        Raises:
            ModelError: ONNX Runtime fails, or an output holds NaN or infinity.
        """
        try:
            values = self._exact.run([port.name for port in self.outputs], dict(tensors))
        except _ORT_ERRORS as error:
            raise ModelError(
                f"model {self._model}, case {case}: ONNX Runtime cannot run it: {_first_line(error)}; "
                "check the model's inputs"
            ) from error
        outputs = {
            port.name: bounded(np.asarray(value), port.shape) for port, value in zip(self.outputs, values, strict=True)
        }
        for name, value in outputs.items():
            wrong = int(np.count_nonzero(~np.isfinite(value))) if value.dtype.kind == "f" else 0
            if wrong:
                raise ModelError(
                    f"model {self._model}, case {case}: {wrong} of {value.size} elements of output {name} are NaN or "
                    "infinite in ONNX Runtime already; correct the model, or the range of its inputs"
                )
        return outputs

    def _port(self, port: Any) -> ReferencePort:
        dtype = _DTYPES.get(port.type)
        if dtype is None or not all(isinstance(extent, int) for extent in port.shape):
            raise ModelError(
                f"model {self._model}: {port.name} is a {port.type} of shape {port.shape}, but plain tensors of static "
                "shape are wanted; give every input's shape in models.yaml"
            )
        return ReferencePort(name=port.name, dtype=dtype, shape=tuple(port.shape))


def _run_all(runtime: Runtime, trials: Iterator[Trial], *, inputs: Sequence[Input], folder: Path) -> tuple[Case, ...]:
    """Run every case and write inputs/K.bin and outputs/K.bin as they come."""
    carry = {tensor.name: tensor.carry_from for tensor in inputs if tensor.carry_from is not None}
    cases: list[Case] = []
    before: Mapping[str, Array] = {}
    with _Writers(folder / "inputs", runtime.inputs) as taken, _Writers(folder / "outputs", runtime.outputs) as given:
        for trial in trials:
            tensors = dict(trial.tensors)
            for port in runtime.inputs:
                if port.name not in tensors:
                    start = np.zeros(port.shape, port.dtype)
                    tensors[port.name] = before[carry[port.name]] if trial.carried == "on" else start
            before = runtime.run(tensors, case=trial.case.name)
            taken.append(tensors)
            given.append(before)
            cases.append(trial.case)
    return tuple(cases)


class _Writers:
    """Appends the tensors of a case to a file per tensor."""

    def __init__(self, folder: Path, ports: Sequence[ReferencePort]) -> None:
        folder.mkdir(parents=True)
        self._ports = ports
        self._files = [(folder / f"{k}.bin").open("wb") for k in range(len(ports))]

    def append(self, tensors: Mapping[str, Array]) -> None:
        for port, file in zip(self._ports, self._files, strict=True):
            file.write(np.ascontiguousarray(tensors[port.name], dtype=little_endian(port.dtype)).tobytes())

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *_error: object) -> None:
        for file in self._files:
            file.close()


def _present_inputs(model: _Declaration, runtime: Runtime) -> list[Input]:
    """Return the declared inputs that the prepared model still has, as they are declared: data feeds the first.

    Raises:
        ConfigError: an input is not declared, or a declaration does not agree with the model.
    """
    declared = {tensor.name: tensor for tensor in model.inputs if tensor.value is None}
    outputs = {port.name: port for port in runtime.outputs}
    for port in runtime.inputs:
        tensor = declared.get(port.name)
        if tensor is None:
            raise ConfigError(
                f"model {model.name}: its input {port.name!r} is not declared{nearest(port.name, declared)}; "
                "add it to inputs in models.yaml"
            )
        if (tensor.shape, tensor.dtype) != (port.shape, port.dtype):
            raise ConfigError(
                f"model {model.name}, input {port.name}: declared as {tensor.dtype} {list(tensor.shape)}, but the "
                f"model takes {port.dtype} {list(port.shape)}; correct shape or dtype in models.yaml"
            )
        if tensor.carry_from is not None:
            source = outputs.get(tensor.carry_from)
            if source is None or (source.shape, source.dtype) != (port.shape, port.dtype):
                raise ConfigError(
                    f"model {model.name}, input {port.name}: carry_from names {tensor.carry_from!r}, no output of "
                    f"this shape and dtype{nearest(tensor.carry_from, outputs)}; outputs: {', '.join(outputs)}"
                )
    taken = {port.name for port in runtime.inputs}
    return [tensor for name, tensor in declared.items() if name in taken]


def _dataset_trials(job: Job, model: _Declaration, name: str, inputs: Sequence[Input]) -> Iterator[Trial]:
    if model.preprocess is None or not inputs:
        raise ConfigError(f"model {model.name}: data needs an input and preprocess; add them to models.yaml")
    adapter: TypeAdapter[Any] = TypeAdapter(Dataset)
    return data_trials(
        adapter.validate_python(job.parameters[f"dataset {name}"]),
        job.inputs.get(f"dataset {name}"),
        model=model.name,
        inputs=inputs,
        preprocess=model.preprocess,
        seed=model.seed,
        limit=job.parameters["measure"]["data_limit"],
        is_text=isinstance(model.decode, CtcText),
    )


def _tensor_file(folder: str, number: int, port: ReferencePort, *, carry_from: str | None = None) -> TensorFile:
    return TensorFile(
        name=port.name, dtype=port.dtype, shape=port.shape, file=f"{folder}/{number}.bin", carry_from=carry_from
    )


def _class_names(model: _Declaration, job: Job) -> tuple[str, ...] | None:
    classes = model.decode.classes if isinstance(model.decode, Classify) else None
    if classes is None or classes.source is None:
        return classes.names if classes is not None else None
    content = fetched_bytes(classes.source, job.inputs["classes"])
    return parse_class_names(content, key=classes.key, model=model.name)


def parse_class_names(content: bytes, *, model: str, key: str | None = None) -> tuple[str, ...]:
    """Read names of classes from JSON: a list of them, or an object from index ("0", "1" ...) to name.

    Args:
        content: the file.
        model: its name, for the message.
        key: where in the file's object they stand; None if they are all of it.

    Raises:
        ConfigError: it is something else, or an index is missing.
    """
    try:
        value = json.loads(content)
        value = value[key] if key is not None and isinstance(value, dict) else value
        names = [value[str(index)] for index in range(len(value))] if isinstance(value, dict) else value
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    except (ValueError, KeyError):
        pass
    raise ConfigError(
        f"model {model}: decode.classes.source is neither a JSON list of names nor an object from every index to its "
        "name; correct the source"
    )


def named(case: Case, classes: Sequence[str]) -> Case:
    """Return a case whose label is the name of a class with that class's number in its place."""
    if not isinstance(case.label, str) or case.label not in classes:
        return case
    return case.model_copy(update={"label": classes.index(case.label)})


def check_labels(cases: Sequence[Case], decode: Classify, *, scores: int, model: str) -> None:
    """Make sure that every label stands for a class that the model has.

    Args:
        cases: of the reference.
        decode: `labels` translates a label to a class.
        scores: number of classes.
        model: its name, for the message.

    Raises:
        ConfigError: a label is no number, or stands for no class.
    """
    for case in cases:
        if case.label is None:
            continue
        known = range(scores) if decode.labels is None else range(len(decode.labels))
        if not isinstance(case.label, int) or case.label not in known:
            raise ConfigError(
                f"model {model}, case {case.name}: the label {case.label!r} is none of the {len(known)} labels from 0 "
                f"to {len(known) - 1}; correct the data set's label, or decode.labels"
            )


def _characters(model: _Declaration, runtime: Runtime) -> tuple[str, ...] | None:
    """Return what each class of a CTC model stands for: blank, the lines of the metadata, a space."""
    if not isinstance(model.decode, CtcText):
        return None
    text = runtime.metadata.get(model.decode.metadata_key)
    if text is None:
        raise ConfigError(
            f"model {model.name}: its metadata has no {model.decode.metadata_key!r}"
            f"{nearest(model.decode.metadata_key, runtime.metadata)}; correct decode.metadata_key"
        )
    return ("", *text.splitlines(), " ")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
