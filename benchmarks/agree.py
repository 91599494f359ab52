"""agree: every float32 cell of the last run against ONNX Runtime, on all three targets; argmax on every image."""

from __future__ import annotations

from benchmarks._measuring import INV, SPREAD, Benchmark, seconds_of
from crossfarm.config.cell import Cell
from crossfarm.results import CheckRecord, MeasurementRecord, last_run, read_records
from crossfarm.util.paths import HOME

GOAL = 1e-4
TARGETS = {"x86_64", "aarch64", "armv7"}

BENCHMARK = Benchmark(
    name="agree",
    what="how far every float32 cell is from ONNX Runtime",
    how="the worst output of a run of the default pipeline, as a share of 1e-4 of the output's scale",
    goal="at most 1 on three targets, argmax equal in every case",
    minutes=1,
)

if __name__ == "__main__":
    options, words = BENCHMARK.parser(__doc__).parse_known_args()
    if options.small:
        words += ["--only", "x86_64-silero_vad-*"]
    out = HOME / ".crossfarm" / "bench" / "agree"
    seconds_of([*INV, "pipeline", "--out", str(out), *words])
    records = last_run(read_records(out / "results.jsonl"))
    checks = [record for record in records if isinstance(record, CheckRecord) and "-float32" in record.cell]
    outputs = [record for record in checks if record.name.startswith("accuracy.output.")]
    argmax = [record for record in checks if record.name in ("accuracy.argmax", "accuracy.decision")]
    numbers = [record for record in records if isinstance(record, MeasurementRecord)]
    worst = max(outputs, key=lambda record: record.value if record.value is not None else float("inf"))
    targets = {Cell.parse(record.cell).target for record in outputs}
    print(f"{len({record.cell for record in outputs})} cells, {len(outputs)} outputs, {len(numbers)} numbers")
    print(f"targets: {', '.join(sorted(targets))}; worst: {worst.cell}: {worst.message}")
    disagreeing = [record for record in argmax if record.value != 1.0]
    for record in disagreeing:
        print(f"{record.cell}: {record.name}: {record.message}")
    value = worst.value if worst.value is not None else float("inf")
    print(f"{SPREAD}{len(outputs)} outputs of {len({record.cell for record in outputs})} cells, {worst.cell} the worst")
    BENCHMARK.finish(
        value / GOAL,
        "of 1e-4 of the output's scale",
        small=options.small,
        good=value <= GOAL and not disagreeing and targets >= TARGETS,
    )
