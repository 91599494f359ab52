"""Stage `quantize_shift`: the variant `int8_shift`, as accelerators compute it that shift where others multiply."""

from __future__ import annotations

from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject
from crossfarm.stages.quantize import stage as quantize

DECLARATION = Declaration(
    version=1,
    scope="model",
    sources=("crossfarm/stages/quantize_shift/", *quantize.DECLARATION.sources),
    tools=quantize.DECLARATION.tools,
    variants=("int8_shift",),
    opens_models=True,
    preload=("onnxruntime", "PIL.Image"),
    usual_seconds=10.0,
)


def needs(subject: Subject) -> Needs:
    """Depend on what the stage `quantize` depends on; of how a model is quantised only the number of inputs counts."""
    found = quantize.needs(subject)
    how = {"calibration": found.parameters["quantisation"]["calibration"]}
    return Needs(parameters={**found.parameters, "quantisation": how}, inputs=found.inputs)


def run(job: Job) -> None:
    """Write model.onnx, quantisation.json, and outputs/K.bin: what it answers in ONNX Runtime on the reference's cases.

    Raises:
        ConfigError: there is no data to calibrate from.
        ModelError: the model is quantised already, holds nothing to quantise, or ONNX Runtime cannot run it.
    """
    from crossfarm.stages.quantize_shift.quantise import write_quantised

    write_quantised(job)
