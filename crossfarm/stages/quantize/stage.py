"""Stage `quantize`: a float32 model becomes int8, or one that is quantised already stays as it is."""

from __future__ import annotations

from crossfarm.stages.calibration.declared import data_needs
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=2,
    scope="model",
    sources=(
        "crossfarm/stages/quantize/",
        "crossfarm/stages/calibration/declared.py",
        "crossfarm/stages/calibration/inputs.py",
        "crossfarm/stages/reference/",
        "crossfarm/stages/data/",
        "crossfarm/stages/prepare/",
        "crossfarm/stages/fetch/",
    ),
    tools=("numpy", "onnx", "onnxruntime", "pillow"),
    variants=("int8",),
    opens_models=True,
    preload=("onnxruntime.quantization", "PIL.Image"),
    usual_seconds=10.0,
)


def needs(subject: Subject) -> Needs:
    """Depend on the prepared model, on its data sets, on the cases of the reference and on how it is quantised."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `quantize` is about a model")
    found = data_needs(subject)
    how = model.quantisation.model_dump(mode="json", exclude={"checks", "data"})
    return Needs(
        parameters={**found.parameters, "quantisation": how},
        inputs={"prepare": ("prepare", None), "reference": ("reference", None), **found.inputs},
    )


def run(job: Job) -> None:
    """Write model.onnx, quantisation.json, and outputs/K.bin: what it answers in ONNX Runtime on the reference's cases.

    Raises:
        ConfigError: there is no data to calibrate from.
        ModelError: ONNX Runtime cannot quantise or run the model.
    """
    from crossfarm.stages.quantize.quantise import write_quantised

    write_quantised(job)
