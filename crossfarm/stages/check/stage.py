"""Stage `check`: compares what a board answered with the reference, and sums up what it measured.

A check that does not hold is a row with status `failed`; the stage itself fails only when there is nothing to compare.
"""

from __future__ import annotations

from typing import Any

from crossfarm.config.accelerators import QUANTISING
from crossfarm.config.budgets import Budgets
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
        "crossfarm/boards/result.py",
        "crossfarm/bundles/accelerator.py",
        "crossfarm/bundles/compile_report.py",
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
    model, target, variant = subject.model, subject.target, subject.variant
    if model is None or target is None or variant is None:
        raise ValueError("the stage `check` is about a cell")
    kind = "own" if target.has_own_reference else variant if variant in QUANTISING else "float32"
    parameters = {f"model {model.name}": subject.group("check", model.name, kind, make=lambda: _limits(model, kind))}
    own = subject.group("check", target.name, make=lambda: target.checks.of_target(target.name))
    of_model = model.checks.of_target(target.name)
    if own or of_model:
        parameters[f"budgets {target.name}"] = own | of_model
    inputs = {role: (role, None) for role in ("measure", "reference", "bundle")}
    if variant in QUANTISING:
        inputs["quantize"] = (QUANTISING[variant], None)
    is_program = target.instructions is not None
    return Needs(
        parameters=parameters,
        inputs=inputs,
        of_native_cell={"compiled": "measure"} if variant in QUANTISING and is_program else {},
    )


def _limits(model: Model, kind: str) -> dict[str, Any]:
    parameters = model.model_dump(mode="json", include=set(FIELDS), exclude={"checks": set(Budgets.model_fields)})
    if kind == "own":
        parameters["is_own_reference"] = True
        # Its reference is another arithmetic's, which it follows in most decisions and not in each.
        parameters["checks"]["argmax"] = model.quantisation.checks.agreement
    if "float32" in model.variants and kind != "float32":
        limits = model.quantisation.checks.model_dump(mode="json")
        described = inherited(model.checks.outputs, model.quantisation.checks.outputs)
        limits["outputs"] = [output.model_dump(mode="json") for output in described]
        agreement = limits.pop("agreement")
        if kind == "own":
            limits["argmax"] = agreement
        parameters |= {"agreement": agreement, "checks": limits}
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
