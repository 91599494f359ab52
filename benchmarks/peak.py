"""peak: single convolutions through the rules, against the most that one core computes.

The peak is measured in the same run, by a kernel of multiply-adds that the target's C compiler makes for the target's
processor. Each convolution with its activation is scheduled and compiled as in a model and called alone on one thread;
the best time counts, as it does for the peak, because on a machine that others use the rest says how busy they were.
The last line is the smallest share.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import yaml

from benchmarks._measuring import SPREAD, Benchmark, between
from crossfarm.backends.tvm.schedules.choices import Layer, ProductChoice
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.targets import target_with
from crossfarm.util.paths import HOME

GOAL = 0.85

BENCHMARK = Benchmark(
    name="peak",
    what="single convolutions (3x3 and 1x1, 7x7 to 56x56 pixels) through the rules on one thread, against a kernel of "
    "multiply-adds in the same run",
    how="the best time of each; the smallest share of the peak",
    goal=f"at least {GOAL:.2f}",
    minutes=0.5,
)
_SHAPES = (
    (3, 1, 56, 64, 64),
    (3, 1, 28, 128, 128),
    (3, 1, 14, 256, 256),
    (3, 1, 14, 512, 512),
    (3, 1, 7, 512, 512),
    (3, 1, 13, 256, 256),
    (3, 1, 17, 192, 192),
    (3, 1, 35, 96, 96),
    (3, 2, 28, 128, 256),
    (1, 1, 56, 64, 256),
    (1, 1, 28, 128, 512),
    (1, 1, 14, 256, 1024),
    (1, 1, 14, 1024, 256),
    (1, 1, 14, 512, 512),
    (1, 1, 7, 512, 512),
    (1, 1, 7, 512, 2048),
    (1, 1, 7, 2048, 512),
    (1, 2, 28, 256, 512),
)
"""Kernel, stride, height and width of the input, channels in and out: of residual networks, and odd ones."""


def layer_of(shape: tuple[int, int, int, int, int]) -> Layer:
    """Return the convolution of one line of the table."""
    kernel, stride, side, depth, channels = shape
    return Layer(
        kind="convolution",
        image=(1, side, side, depth),
        channels=channels,
        kernel=(kernel, kernel),
        strides=(stride, stride),
        padding=(kernel // 2,) * 4,
    )


def compiled(layer: Layer, choice: ProductChoice, target: Any) -> Any:
    """Return a callable of image, packed weights and result: the convolution with a ReLU behind it."""
    import tvm
    from tvm import te, tirx

    from crossfarm.backends.tvm.schedules import convolution
    from crossfarm.backends.tvm.schedules.processor import processor_of

    block = choice.columns
    image = te.placeholder(layer.image, "float32", name="image")
    shape = (layer.channels // block, *layer.kernel, layer.depth, block)
    weights = te.placeholder(shape, "float32", name="weights")
    product = convolution.compute(image, weights, layer=layer, choice=choice)
    result = te.compute(product.shape, lambda *at: tirx.max(product[at], tirx.const(0.0, "float32")), name="result")
    with target:
        function = convolution.schedule(te.create_prim_func([image, weights, result]), processor_of(target))
        module = tvm.IRModule({"layer": function.with_attr("global_symbol", "layer")})
        return tvm.runtime.Executable(tvm.tirx.build(module, target)).jit()["layer"]


def best_seconds(layer: Layer, choice: ProductChoice, target: Any, *, seconds: float) -> float:
    """Return the shortest time of one call among those that fit into some seconds."""
    import tvm

    random = np.random.default_rng(0)
    run = compiled(layer, choice, target)
    shape = (layer.channels // choice.columns, *layer.kernel, layer.depth, choice.columns)
    image = tvm.runtime.tensor(random.standard_normal(layer.image, dtype=np.float32))
    weights = tvm.runtime.tensor(random.standard_normal(shape, dtype=np.float32))
    result = tvm.runtime.tensor(np.zeros((layer.image[0], *layer.output, layer.channels), np.float32))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        run(image, weights, result)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    """Measure the peak, then every convolution of the table."""
    from crossfarm.backends.tvm.lowering import tvm_target
    from crossfarm.backends.tvm.schedules import register_tiling
    from crossfarm.backends.tvm.schedules.processor import processor_of
    from crossfarm.tuning.peak import measured_peak

    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--target", default="x86_64")
    parser.add_argument("--seconds", type=float, default=0.7, help="for each convolution")
    options = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    toolchain = target_with(LlvmCode).model_validate(
        yaml.safe_load((HOME / "toolchains" / f"{options.target}.yaml").read_text(encoding="utf-8"))
    )
    target = tvm_target(toolchain.code)
    peak = measured_peak(toolchain)
    print(f"{options.target}: peak of one core {peak / 1e9:.1f} GFLOP/s")
    shares = []
    for shape in _SHAPES[6:7] if options.small else _SHAPES:
        layer = layer_of(shape)
        choice = register_tiling.choose(layer, processor_of(target))
        if choice is None:
            raise SystemExit(f"no rule covers {layer.key}")
        speed = layer.flops / best_seconds(layer, choice, target, seconds=options.seconds)
        shares.append(speed / peak)
        tile = f"{choice.rows} pixels x {choice.vectors} vectors of {choice.lanes}"
        print(f"{layer.key:62} {speed / 1e9:7.1f} GFLOP/s {shares[-1]:5.2f}  {tile}", flush=True)
    print(f"mean share {np.mean(shares):.2f}")
    print(f"{SPREAD}{between(shares).replace('rounds', 'shapes')}")
    BENCHMARK.finish(min(shares), f"of the FMA peak of {options.target}", good=min(shares) >= GOAL, small=options.small)


if __name__ == "__main__":
    main()
