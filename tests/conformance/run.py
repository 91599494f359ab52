"""Runs the suite, or some of it."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import importlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from crossfarm.util.paths import HOME
from tests.conformance import attempt, forms, pool, suite

SCRATCH = HOME / ".crossfarm" / "conformance"
PRELOAD = (
    "tvm.relax.frontend.onnx",
    "onnxruntime",
    "onnx.reference",
    "onnx.inliner",
    "ml_dtypes",
    "crossfarm.backends.tvm.lowering",
    "crossfarm.backends.tvm.onnx_import",
    "crossfarm.backends.tvm.read_program",
    "crossfarm.backends.tvm.tables",
    "crossfarm.backends.tvm.schedules.operation_count",
    "crossfarm.backends.tvm.schedules.recorded_choices",
)
"""Imported once, before the forks."""
_OF_SHAPES = re.compile(
    r"dynamic shape|known only when the model runs|has to be a constant here|depends on (?:data|the values)|sizes:"
)
"""What is said of a shape that is known only when the model runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which forms are tried.

    Attributes:
        every: one of so many.
        only: globs of which an id matches one; all when empty.
        ids: these alone; all when None.
    """

    every: int = 1
    only: Sequence[str] = ()
    ids: frozenset[str] | None = None

    def has(self, id: str, number: int) -> bool:
        """Say whether the form of this id and place is tried."""
        if self.ids is not None and id not in self.ids:
            return False
        if self.only and not any(fnmatch.fnmatch(id, f"*{glob}*") for glob in self.only):
            return False
        return number % self.every == 0


def run(
    selection: Selection, *, jobs: int, seconds: float = 300.0, show: Callable[[str], None] = lambda line: None
) -> list[attempt.Outcome]:
    """Try the selected forms and return what became of each, sorted by id."""
    for name in PRELOAD:
        importlib.import_module(name)
    attempt.target()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    outcomes: list[attempt.Outcome] = []
    waiting: list[forms.Form] = []
    dynamic: set[str] = set()
    number = 0
    for case in suite.load():
        why = forms.out_of_scope(case)
        if why:
            if selection.has(f"{case.kind}/{case.name}/as_is", number):
                outcomes.append(_untried(case, "as_is", attempt.OUT_OF_SCOPE, why))
            number += 1
            continue
        for form in forms.forms(case):
            if selection.has(form.id, number):
                waiting.append(form)
                if forms.is_dynamic(form):
                    dynamic.add(form.id)
            number += 1
    work = functools.partial(attempt.outcome, runner=_runner())
    for done, one in enumerate(pool.run(waiting, work, jobs=jobs, seconds=seconds, log=SCRATCH / "log.txt"), start=1):
        if one.id in dynamic and is_of_shapes(one):
            # Where folding tells the shape all the same, it counts as any other.
            outcomes.append(dataclasses.replace(one, status=attempt.DYNAMIC, reason=""))
        else:
            outcomes.append(one)
        show(f"{done}/{len(waiting)} {one.seconds:6.2f} s {one.status:8} {one.id} {one.reason[:300]}")
    return sorted(outcomes, key=lambda one: one.id)


def _runner() -> Path:
    """Return the folder of the runner's objects, compiled when its sources have changed."""
    digest = hashlib.sha256(metadata.version("ziglang").encode())
    for path in sorted((HOME / "runner").rglob("*.[ch]")):
        digest.update(path.read_bytes())
    folder = SCRATCH / f"runner-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            attempt.build_runner(Path(scratch))
            shutil.copytree(scratch, folder)
    return folder


def _untried(case: suite.Case, form: str, status: str, reason: str) -> attempt.Outcome:
    return attempt.Outcome(
        id=f"{case.kind}/{case.name}/{form}", operator=case.operator, opset=case.opset, status=status, reason=reason
    )


def is_of_shapes(one: attempt.Outcome) -> bool:
    """Say whether a form is refused because a shape of it depends on data, and not for any other reason."""
    return one.status == attempt.REFUSED and bool(_OF_SHAPES.search(one.reason))
