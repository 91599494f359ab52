"""job_start: how much longer a job takes to start in a running container than in a running worker on this host.

The job is the smallest real one: prepare a model of two operators. Both engines have run it before, so that a container
and a worker wait for it; then they take turns. What differs is the way in and out: the job's folders moved into the
container's and back, the request through the container engine, the look for what the job left behind.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks._measuring import SCRATCH, SPREAD, Benchmark, spread
from crossfarm.engines.container.engine import ContainerEngine
from crossfarm.engines.container.limits import limits_for
from crossfarm.engines.local import LocalEngine
from crossfarm.engines.protocol import Engine
from crossfarm.images.ensure import BuildOptions, supply_images
from crossfarm.images.identity import BASE
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.job import HOST, Job
from crossfarm.util.docker import find_daemon
from crossfarm.util.paths import HOME

GOAL = 150.0
"""Milliseconds."""
ROUNDS = 50

BENCHMARK = Benchmark(
    name="job_start",
    what="what a small job takes beyond its own work in a running container, against a running worker on this host",
    how=f"{ROUNDS} of each in turns, the difference of the medians",
    goal=f"at most {GOAL:.0f} ms",
    minutes=0.3,
)


def model() -> onnx.ModelProto:
    """Return y = relu(x + 1)."""
    one = numpy_helper.from_array(np.ones((1, 8), np.float32), "one")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "one"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def milliseconds(engine: Engine, folder: Path, image: str) -> float:
    """Return the wall time of one job beyond the stage's own, laid out anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "output").mkdir(parents=True)
    source = folder / "inputs" / "0"
    content_folder(source).mkdir(parents=True)
    onnx.save(model(), content_folder(source) / "model.onnx")
    write_description(source, name="model.onnx", size=0, sha256="0" * 64)
    inputs = [{"name": "x", "shape": [1, 8]}]
    Job(
        id="prepare:model",
        stage="prepare",
        key="0",
        parameters={"model model": {"source": {"file": "model.onnx"}, "format": "onnx", "inputs": inputs}},
        inputs={"source": source},
        output=folder / "output",
        root=folder,
        image=image,
    ).write(folder / "job.json")
    started = time.perf_counter()
    outcome = engine.run(folder, folder / "log")
    elapsed = time.perf_counter() - started
    assert outcome.good, outcome.cause
    return (elapsed - outcome.seconds) * 1000


if __name__ == "__main__":
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    rounds = 3 if arguments.small else arguments.rounds
    image = supply_images(HOME, [BASE], say=print, terms=BuildOptions(may_bootstrap=True))[BASE]
    work = SCRATCH / "job_start"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    daemon = find_daemon()
    if daemon.problem:
        raise SystemExit(daemon.problem)
    with (
        LocalEngine() as local,
        ContainerEngine(
            daemon=daemon,
            images={image.digest: image.reference},
            slots=1,
            limits=limits_for(slots=1),
            run="bench",
            work=work,
            home=HOME,
        ) as contained,
    ):
        ways = {"local": (local, HOST), "container": (contained, image.digest)}
        first = {name: milliseconds(engine, work / "job", where) for name, (engine, where) in ways.items()}
        samples: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in sorted(ways, reverse=bool(number % 2)):
                samples[name].append(milliseconds(ways[name][0], work / "job", ways[name][1]))
    for name, found in samples.items():
        print(f"{name}: {spread(found, 'ms')}; the first one, with the start of what runs it: {first[name]:.0f} ms")
    shutil.rmtree(work, ignore_errors=True)
    value = statistics.median(samples["container"]) - statistics.median(samples["local"])
    said = "; ".join(f"{name} {spread(found, 'ms')}" for name, found in samples.items())
    print(f"{SPREAD}{said}")
    BENCHMARK.finish(value, "ms more than local", good=value <= GOAL, small=arguments.small)
