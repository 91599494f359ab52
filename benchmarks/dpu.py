"""The DPU-style array on this machine: its functional model, its Verilated core and its estimate.

The functional model runs ResNet-18 with random weights, one process on one processor, and so does the core with a small
net of two convolutions and two dense layers. Random numbers are as fast as others. The time of a run is its processor
time, start and reading included. The estimate is tiling ResNet-50 and counting its cycles.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, between
from crossfarm.backends.dpu.array import Array, DpuCode, array_of
from crossfarm.backends.dpu.bundling import CORE_SOURCES, HEADERS, SOURCES
from crossfarm.backends.dpu.layers import Layer, Network, Tensor
from crossfarm.backends.dpu.published import PUBLISHED
from crossfarm.backends.dpu.tiler import tile
from crossfarm.backends.dpu.timing import count
from crossfarm.boards.simulators.dpu import build_core, verilator_version
from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.bundles.linking.runner_objects import compile_all
from crossfarm.config.targets import target_with
from crossfarm.util.paths import HOME

LEAST_MODEL, LEAST_CORE, MOST_SECONDS = 1.0, 0.02, 1.0
"""Billions of multiply-accumulates a second; seconds."""

BENCHMARK = Benchmark(
    name="dpu",
    what="the DPU-style array, see [accelerators.md](accelerators.md): functional C model, Verilated core, estimate",
    how="ResNet-18 and a small CNN with random weights on one core, 5 rounds, the median of processor time",
    goal=f"functional model at least {LEAST_MODEL:.0f} GMAC/s, core at least {1000 * LEAST_CORE:.0f} MMAC/s, "
    f"estimate of ResNet-50 under {MOST_SECONDS:.0f} s",
    minutes=0.3,
)


def small_net() -> Network:
    """Return two convolutions, a pool and two dense layers over 1 x 28 x 28, as digits are told."""
    tensors = {
        "x": Tensor(channels=1, height=28, width=28),
        "a": Tensor(channels=32, height=26, width=26),
        "b": Tensor(channels=64, height=24, width=24),
        "c": Tensor(channels=64, height=12, width=12),
        "d": Tensor(channels=128),
        "y": Tensor(channels=10),
    }
    layers = (
        Layer(name="a", kind="conv", inputs=("x",), output="a", kernel=(3, 3)),
        Layer(name="b", kind="conv", inputs=("a",), output="b", kernel=(3, 3)),
        Layer(name="c", kind="max", inputs=("b",), output="c", kernel=(2, 2), stride=(2, 2)),
        Layer(name="d", kind="conv", inputs=("c",), output="d", kernel=(12, 12)),
        Layer(name="y", kind="conv", inputs=("d",), output="y"),
    )
    return Network(tensors=tensors, layers=layers, inputs=("x",), outputs=("y",))


def with_weights(network: Network) -> Network:
    """Return the network with random weights."""
    generator = np.random.default_rng(0)
    layers = []
    for layer in network.layers:
        if layer.kind == "conv":
            shape = (network.tensors[layer.output].channels, network.tensors[layer.inputs[0]].channels, *layer.kernel)
            weights = generator.integers(-127, 128, shape, dtype=np.int8)
            layers.append(dataclasses.replace(layer, weights=weights, shift=10))
        else:
            layers.append(layer)
    return dataclasses.replace(network, layers=tuple(layers))


def write(network: Network, array: Array, folder: Path) -> list[str]:
    """Write what a run of one case needs, and return the arguments of the program."""
    folder.mkdir(parents=True, exist_ok=True)
    program = tile(with_weights(network), array)
    (folder / "commands").write_bytes(program.to_bytes())
    (folder / "constants").write_bytes(program.constants)
    (image,) = network.inputs
    size = network.tensors[image].size
    (folder / "in").write_bytes(np.random.default_rng(1).integers(-128, 128, size, dtype=np.int8).tobytes())
    return [str(folder / "commands"), str(folder / "constants"), "1", str(folder / "in"), str(folder / "out")]


def functional_model(folder: Path) -> Path:
    """Link the functional model as a bundle has it."""
    document = yaml.safe_load((HOME / "toolchains" / "dpu_zcu104.yaml").read_text())
    compiler = target_with(DpuCode).model_validate(document).c_compiler
    for name in (*SOURCES, *HEADERS):
        shutil.copyfile(HOME / "runner" / "dpu" / name, folder / name)
    toolchain = Toolchain(compiler=compiler, static=False, folder=folder).for_programs()
    toolchain.link_program(compile_all(toolchain, SOURCES), "program")
    return folder / "program"


def core(array: Array, folder: Path) -> Path:
    """Build the Verilated core."""
    sources = folder / "core"
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir()
    own = HOME / "runner" / "dpu"
    for path in (*(own / name for name in CORE_SOURCES), *(own / "rtl").glob("*.sv")):
        shutil.copyfile(path, sources / path.name)
    names = ("pixels", "channels", "alu_pixels", "feature_words", "weight_words")
    return build_core(sources, {name: getattr(array, name) for name in names})


def processor_seconds(command: Sequence[str]) -> float:
    """Run a program to its end and return what it computed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def rates(run: Callable[[], float], macs: int, rounds: int) -> list[float]:
    """Return billions of multiply-accumulates a second of each round."""
    return [macs / run() / 1e9 for _ in range(rounds)]


def main() -> None:
    """Measure all three."""
    parser = BENCHMARK.parser(__doc__)
    options = parser.parse_args()
    rounds = 2 if options.small else 5
    folder = SCRATCH / "dpu"
    folder.mkdir(parents=True, exist_ok=True)
    code = DpuCode.model_validate(yaml.safe_load((HOME / "toolchains" / "dpu_zcu104.yaml").read_text())["code"])
    array = array_of(code)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    resnet18 = next(each for each in PUBLISHED if each.name == "resnet18").network()
    program, arguments = functional_model(folder), write(resnet18, array, folder / "resnet18")
    model = rates(lambda: processor_seconds([str(program), *arguments]), resnet18.total_macs(), rounds)
    print(f"functional model, ResNet-18: {statistics.median(model):.2f} GMAC/s ({between(model)})", flush=True)

    simulated = [LEAST_CORE]
    if verilator_version() is None:
        print("core: Verilator, g++ or make is not installed; not measured")
    else:
        small = small_net()
        built, arguments = core(array, folder), write(small, array, folder / "small")
        simulated = rates(lambda: processor_seconds([str(built), *arguments]), small.total_macs(), rounds)
        print(f"Verilated core, small CNN: {1000 * statistics.median(simulated):.1f} MMAC/s ({between(simulated)})")

    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        cycles = count(tile(PUBLISHED[0].network(), array).commands).cycles
        seconds.append(time.process_time() - started)
    milliseconds = cycles / code.megahertz / 1000
    print(
        f"estimate of ResNet-50 in {statistics.median(seconds):.2f} s ({between(seconds, 's')}): {milliseconds:.2f} ms"
    )
    print(f"{SPREAD}{between(model, 'GMAC/s')}")
    good = (
        statistics.median(model) >= LEAST_MODEL
        and statistics.median(simulated) >= LEAST_CORE
        and statistics.median(seconds) < MOST_SECONDS
    )
    (folder / "dpu.json").write_text(json.dumps({"model": model, "core": simulated, "estimate": seconds}))
    BENCHMARK.finish(statistics.median(model), "GMAC/s", good=good, small=options.small)


if __name__ == "__main__":
    main()
