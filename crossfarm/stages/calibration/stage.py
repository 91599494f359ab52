"""Stage `calibration`: inputs of a model's own data, for the compiler of an accelerator that quantises by itself."""

from __future__ import annotations

from crossfarm.stages.calibration.declared import data_needs
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=1,
    scope="model",
    sources=(
        "crossfarm/stages/calibration/",
        "crossfarm/stages/reference/artifact.py",
        "crossfarm/stages/reference/cases.py",
        "crossfarm/stages/data/",
        "crossfarm/stages/fetch/",
        "crossfarm/bundles/calibration.py",
        "crossfarm/bundles/compile_report.py",
    ),
    tools=("numpy", "pillow"),
    preload=("numpy", "PIL.Image"),
)


def needs(subject: Subject) -> Needs:
    """Depend on the model's data sets and on how many inputs are taken from them, not on the model itself."""
    model = subject.model
    if model is None:
        raise ValueError("the stage `calibration` is about a model")
    found = data_needs(subject)
    return Needs(
        parameters={**found.parameters, "calibration": {"inputs": model.quantisation.calibration}},
        inputs=found.inputs,
    )


def run(job: Job) -> None:
    """Write calibration.json, and inputs/K.bin: the tensors of all inputs of the calibration, stacked.

    Raises:
        ConfigError: there is no data to calibrate from, or it does not fit the model.
    """
    from crossfarm.bundles.calibration import write_calibration
    from crossfarm.stages.calibration.inputs import CalibratedModel, calibration_inputs

    declaration = CalibratedModel.model_validate(job.group("model"))
    write_calibration(job.output, calibration_inputs(job, declaration, job.parameters["calibration"]["inputs"]))
