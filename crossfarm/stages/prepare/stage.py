"""The stage `prepare`: whatever a model comes as becomes one static, self-contained ONNX file."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from crossfarm.config.models import Input, Sizes
from crossfarm.config.sources import FactorySource, FileSource, Package, PackageSource, Source, UrlSource
from crossfarm.errors import ConfigError, FetchError
from crossfarm.stages.fetch.artifact import content_folder, fetch_source, fetched_bytes, fetched_file
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject
from crossfarm.store.keys import tool_versions

if TYPE_CHECKING:
    from crossfarm.stages.prepare.external_data import ReadExternal
    from crossfarm.stages.prepare.static_onnx import StaticInput

DECLARATION = Declaration(
    version=1,
    scope="model",
    sources=("crossfarm/stages/prepare/", "crossfarm/stages/fetch/"),
    tools=("numpy", "onnx", "onnxruntime"),
    opens_models=True,
    preload=("onnx", "onnxruntime", "numpy"),
    usual_seconds=5.0,
)
EXTRA_TOOLS = {"onnx": (), "tflite": ("tflite",), "torch": ("torch", "onnxscript"), "torchscript": ("torch",)}
"""What only models of one format depend on, so that installing PyTorch rebuilds nothing else."""

ORIGINALS = {"tflite": "original.tflite", "torchscript": "original.pt"}
"""Format -> the file of such a model as it came, for compilers that take no other."""
_INPUT_FIELDS = {"name", "shape", "dtype", "value"}


def needs(subject: Subject) -> Needs:
    """Depend on the source, the format and what the inputs are fixed to; not on how the model is tried or checked."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `prepare` is about a model")
    parameters: dict[str, Any] = {
        f"model {model.name}": {
            "source": model.source.model_dump(mode="json", exclude_none=True),
            "format": model.format,
            "inputs": [item.model_dump(mode="json", include=_INPUT_FIELDS) for item in model.inputs],
            **({"sizes": dict(model.sizes)} if model.sizes else {}),
        }
    }
    if EXTRA_TOOLS[model.format]:
        parameters[f"{model.format} tools"] = tool_versions(EXTRA_TOOLS[model.format])
    inputs = {role: ("fetch", source) for role, source in _fetches(model.source).items()}
    return Needs(parameters=parameters, inputs=inputs)


def _fetches(source: Source) -> dict[str, FileSource | UrlSource | Package | None]:
    """Return role -> what is fetched for it."""
    if not isinstance(source, FactorySource):
        return {"source": fetch_source(source)}
    roles: dict[str, FileSource | UrlSource | Package | None] = {}
    for index, package in enumerate(source.packages):
        roles[f"package{index}"] = fetch_source(package)
    if not source.packages:
        roles["code"] = FileSource(file=factory_file(source))
    if source.state is not None:
        roles["state"] = fetch_source(source.state)
    return roles


def factory_file(source: FactorySource) -> str:
    """Return the path, beside models.yaml, of the module of a factory that needs no packages."""
    return source.factory.partition(":")[0].replace(".", "/") + ".py"


def run(job: Job) -> None:
    """Write model.onnx and signature.json, and beside them the file of a TFLite or TorchScript model as it came.

    Of a model with `sizes`, exact.onnx has the true extents.

    Raises:
        ModelError: the model cannot be read, made static or converted.
        ConfigError: the declared file is not in its wheel.
        ToolError: PyTorch is needed and not installed.
    """
    from crossfarm.stages.prepare.onnx_session import EXACT
    from crossfarm.stages.prepare.static_onnx import make_bounded, serialise, signature

    group = job.group("model")
    adapter: TypeAdapter[Source] = TypeAdapter(Source)
    source = adapter.validate_python(group["source"])
    inputs = tuple(Input.model_validate(item) for item in group["inputs"])
    if group["format"] in ORIGINALS and not isinstance(source, FactorySource):
        (job.output / ORIGINALS[group["format"]]).write_bytes(fetched_bytes(source, job.inputs["source"]))
    content, read_external = _as_onnx(job, source, group["format"], inputs)
    sizes = TypeAdapter(Sizes).validate_python(group.get("sizes", {}))
    made = make_bounded(content, _static_inputs(inputs), read_external=read_external, sizes=sizes)
    (job.output / "model.onnx").write_bytes(serialise(made.model))
    if made.exact is not None:
        (job.output / EXACT).write_bytes(serialise(made.exact))
    text = json.dumps(signature(made.model), indent=1)
    (job.output / "signature.json").write_text(text + "\n", encoding="utf-8")


def _static_inputs(inputs: tuple[Input, ...]) -> list[StaticInput]:
    from crossfarm.stages.prepare.static_onnx import StaticInput

    return [StaticInput(name=item.name, shape=item.shape, dtype=item.dtype, value=item.value) for item in inputs]


def _as_onnx(job: Job, source: Source, form: str, inputs: tuple[Input, ...]) -> tuple[bytes, ReadExternal]:
    """Return the model as ONNX bytes, not yet static, and how files beside it are read."""
    from crossfarm.stages.prepare.external_data import no_external_data

    if isinstance(source, FactorySource):
        from crossfarm.stages.prepare.torch_export import export_factory

        content = export_factory(source, artifacts=job.inputs, inputs=_static_inputs(inputs))
        return content, no_external_data
    content = fetched_bytes(source, job.inputs["source"])
    if form == "tflite":
        from crossfarm.stages.prepare.tflite.graph import convert

        return convert(content, _static_inputs(inputs)), no_external_data
    if form == "torchscript":
        from crossfarm.stages.prepare.torchscript_export import export_torchscript

        return export_torchscript(content, inputs=_static_inputs(inputs)), no_external_data
    return content, _beside(source, job.inputs["source"])


def _beside(source: FileSource | UrlSource | PackageSource, artifact: Path) -> ReadExternal:
    """Return the reader of files beside the model: in its folder of the wheel, or what was fetched with it."""
    from crossfarm.stages.fetch.archives import read_member
    from crossfarm.stages.prepare.external_data import read_from_folder

    if not isinstance(source, PackageSource):
        return read_from_folder(content_folder(artifact))
    before, separator, inner = source.path.rpartition("!")
    folder = PurePosixPath(inner).parent

    def read(path: PurePosixPath) -> bytes | None:
        try:
            return read_member(fetched_file(artifact), f"{before}{separator}{folder / path}")
        except (ConfigError, FetchError):
            return None

    return read
