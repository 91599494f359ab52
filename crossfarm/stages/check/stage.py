"""Stage `check`: compares what a board answered with the reference, and sums up what it measured.

A check that does not hold is a row with status `failed`; the stage itself fails only when there is nothing to compare.
"""

from __future__ import annotations

from typing import Any

from crossfarm.config.checks import inherited
from crossfarm.config.models import Model
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Declaration, Needs, Subject

DECLARATION = Declaration(
    version=3,
    scope="cell",
    sources=(
        "crossfarm/stages/check/",
        "crossfarm/stages/data/",
        "crossfarm/stages/measure/artifact.py",
        "crossfarm/stages/quantize/artifact.py",
        "crossfarm/stages/reference/artifact.py",
        "crossfarm/results.py",
    ),
    tools=("numpy",),
    board="reads",
    leaves_records=True,
    preload=("numpy",),
    usual_seconds=0.5,
)

FIELDS = frozenset({"name", "checks", "decode"})
"""What of a model shapes its checks."""
RECORDS = "records.jsonl"


def needs(subject: Subject) -> Needs:
    """Depend on what was measured, on the reference, for int8 on the quantised model, and on what must hold.

    For int8 the plan adds `compiled`: what was measured of the model on this host, where the cell's board is another.
    """
    model = subject.model
    if model is None:
        raise ValueError("the stage `check` is about a cell")
    is_int8 = subject.variant == "int8"
    variant = "int8" if is_int8 else "float32"
    limits = subject.group("check", model.name, variant, make=lambda: _limits(model, is_int8=is_int8))
    roles = ["measure", "reference", "bundle", *(["quantize"] if is_int8 else [])]
    return Needs(
        parameters={f"model {model.name}": limits},
        inputs={role: (role, None) for role in roles},
        of_native_cell={"compiled": "measure"} if is_int8 else {},
    )


def _limits(model: Model, *, is_int8: bool) -> dict[str, Any]:
    parameters = model.model_dump(mode="json", include=set(FIELDS))
    if is_int8 and model.is_quantised_here:
        limits = model.quantisation.checks.model_dump(mode="json")
        described = inherited(model.checks.outputs, model.quantisation.checks.outputs)
        limits["outputs"] = [output.model_dump(mode="json") for output in described]
        parameters |= {"agreement": limits.pop("agreement"), "checks": limits}
    return parameters


def run(job: Job) -> None:
    """Write records.jsonl: a MeasurementRecord or CheckRecord a line.

    Raises:
        BundleError: the measurement is incomplete, or belongs to another bundle or reference.
    """
    from crossfarm.results import to_json
    from crossfarm.stages.check.rows import records

    lines = [to_json(record) + "\n" for record in records(job)]
    (job.output / RECORDS).write_text("".join(lines), encoding="utf-8")
