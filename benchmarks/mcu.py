"""mcu: what the weights of a quantised model take in the flash of a Cortex-M, against the TFLite file it came from.

A TFLite file holds the same weights, once, with the graph around them; a firmware for it needs an interpreter beside
the file. What the compiled code takes, and the arena, is printed too.
"""

from __future__ import annotations

from benchmarks._made import Made, make
from benchmarks._measuring import SPREAD, Benchmark, between
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.config.models import ModelsFile
from crossfarm.pipeline.declared import load
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.stages.fetch.artifact import fetched_bytes
from crossfarm.util.paths import HOME

MODEL = "resnet8"
TARGETS = ("cortex_m4", "cortex_m7")
GOAL = 1.15

BENCHMARK = Benchmark(
    name="mcu",
    what=f"weights of {MODEL} in the flash of {' and '.join(TARGETS)}, against its TFLite file, see "
    "[microcontrollers.md](microcontrollers.md)",
    how="sizes of the library, the larger ratio",
    goal=f"at most {GOAL} x",
    minutes=0.05,
)


def tflite_bytes(made: Made, models: ModelsFile) -> int:
    """Return the size of the model's TFLite file."""
    (source,) = [model.source for model in models.models if model.name == MODEL]
    (job,) = [job.id for job in made.plan.jobs.values() if job.stage == "fetch" and _feeds(made, job.id)]
    return len(fetched_bytes(source, made.folder(job)))


def _feeds(made: Made, job: str) -> bool:
    """Say whether a fetched source is what the model was prepared of."""
    return job in made.plan.jobs[f"prepare:{MODEL}"].inputs.values()


def main() -> None:
    """Make the libraries, and compare."""
    small = BENCHMARK.parser(__doc__).parse_args().small
    targets = TARGETS[:1] if small else TARGETS
    options = Options(
        models=HOME / "models.yaml",
        store=HOME / ".crossfarm" / "store",
        engine="local",
        selection=Selection(
            only=(f"*-{MODEL}-int8",),
            targets=targets,
            stages=("fetch", "prepare", "reference", "quantize", "compile", "bundle"),
        ),
    )
    made = make(options)
    theirs = tflite_bytes(made, load(options).models_file)
    ratios = []
    for target in targets:
        report = AcceleratorReport.read(made.folder(f"bundle:{target}-{MODEL}-int8") / ACCELERATOR)
        sizes = {item.name: int(item.value) for item in report.quantities}
        ratios.append(sizes["flash_weights"] / theirs)
        print(
            f"{target:10} {MODEL} weights {sizes['flash_weights']:,} B, TFLite file {theirs:,} B, {ratios[-1]:.3f} x; "
            f"code {sizes['flash_code']:,} B, arena {sizes['ram_arena']:,} B",
            flush=True,
        )
    print(f"{SPREAD}{between(ratios, 'x')}")
    BENCHMARK.finish(max(ratios), "x the TFLite file", good=max(ratios) <= GOAL, small=small)


if __name__ == "__main__":
    main()
