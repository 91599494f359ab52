"""Makes a core with NNgen, and evaluates it. A script: it runs in the environment rtl, which has no crossfarm.

    python nngen_script.py generate REQUEST.json
    python nngen_script.py evaluate REQUEST.json

Both read the model, and quantise it in the same way from the same integers, so that `evaluate` is the functional model
of what `generate` made; `state` is a digest over all quantised numbers, by which that is made sure.

`generate` writes dut.v, parameters.bin, core.json and first.npz (what the functional model answers to the first case of
the calibration) into the current folder, where NNgen and veriloggen leave files of their own too. `evaluate` reads
inputs.npz and writes outputs.npz. Tensors are int32, stacked over the cases, with the axes of the ONNX model.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import nngen as ng
import numpy as np

OTHER_STATE = 3
"""Exit code of `evaluate` where the model was quantised otherwise than in `generate`."""
CHUNK = 64
"""Bytes to which tensors are aligned in memory."""
SLACK = 4096
"""Bytes of memory beyond what the core uses."""


class Network:
    """A quantised model: dictionaries by the names of the ONNX model."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Read the model of a request and quantise it."""
        small, wide = getattr(ng, f"int{request['width']}"), ng.int32
        self.outputs, self.inputs, _, _, operators = ng.from_onnx(
            request["model"],
            default_placeholder_dtype=small,
            default_variable_dtype=small,
            default_constant_dtype=small,
            default_operator_dtype=small,
            default_scale_dtype=wide,
            default_bias_dtype=wide,
        )
        self.scales: dict[str, float] = request["scales"]
        self.calibration = self._core_order(read(request["calibration"], self.inputs))
        samples = len(next(iter(self.calibration.values())))
        generators = {name: (lambda node, count: self.calibration[node.name]) for name in self.inputs}
        ng.quantize(list(self.outputs.values()), self.scales, input_generators=generators, num_samples=samples)
        for operator in operators.values():
            set_parallelism(operator, request["parallelism"])

    def _core_order(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Bring stacked tensors of batch 1 into the core's order of axes; the cases become the batch."""
        found = {}
        for name, stacked in tensors.items():
            batch = stacked.reshape(-1, *stacked.shape[2:]).astype(np.int64)
            order = self.inputs[name].perm
            found[name] = batch if order is None else batch.transpose(order)
        return found

    def answers(self, tensors: dict[str, Any]) -> list[Any]:
        """Return each output for all cases, int32, stacked, with the axes of the ONNX model."""
        cases = self._core_order(tensors)
        found: list[list[Any]] = [[] for _ in self.outputs]
        for number in range(len(next(iter(cases.values())))):
            one = {name: batch[number : number + 1] for name, batch in cases.items()}
            for place, value in enumerate(ng.eval(list(self.outputs.values()), **one)):
                found[place].append(value)
        orders = [order_of_output(node) for node in self.outputs.values()]
        return [
            np.stack([np.asarray(value).transpose(np.argsort(order)) for value in values]).astype(np.int32)
            for values, order in zip(found, orders, strict=True)
        ]

    def state(self) -> str:
        """Return a sha256 over all quantised numbers."""
        digest = hashlib.sha256()
        numerics = {each.object_id: each for output in self.outputs.values() for each in output.collect_numerics()}
        for number, (_, node) in enumerate(sorted(numerics.items())):
            digest.update(f"{number} {type(node).__name__} {float(node.scale_factor).hex()}\n".encode())
            if node.value is not None:
                digest.update(np.asarray(node.value).astype("<i8").tobytes())
            for key, value in sorted(vars(node).items()):
                if ("shamt" in key or "scale" in key) and isinstance(value, int):
                    digest.update(f"{key} {value}\n".encode())
        return digest.hexdigest()


def set_parallelism(operator: Any, parallelism: int) -> None:
    """Let an operator compute that many channels in a cycle."""
    pools = (ng.avg_pool, ng.max_pool, ng.avg_pool_serial, ng.max_pool_serial)
    if isinstance(operator, ng.conv2d | ng.matmul):
        operator.attribute(par_ich=parallelism, par_och=parallelism)
    elif isinstance(operator, pools) or ng.is_elementwise_operator(operator):
        operator.attribute(par=parallelism)


def order_of_output(node: Any) -> list[int]:
    """Return for each axis of the core the axis of the ONNX model."""
    rank = len(node.shape)
    layout, given = node.get_layout(), node.get_onnx_layout()
    if layout is None or given is None or len(layout) != rank or sorted(layout) != sorted(given):
        return list(range(rank))
    return [given.index(axis) for axis in layout]


def read(path: str, names: Any) -> dict[str, Any]:
    """Read an npz file that holds tensors by the number of the input."""
    with np.load(path) as stored:
        return {name: stored[str(number)] for number, name in enumerate(names)}


def stored_at(node: Any) -> Any:
    """Return the node whose memory holds a node's result: a view has none of its own."""
    while ng.basic_types.is_view(node) or ng.basic_types.is_removable_reshape(node):
        node = node.args[0]
    return node


def generate(request: dict[str, Any]) -> None:
    """Write the core and what belongs to it."""
    network = Network(request)
    state = network.state()
    first = {name: tensor[:1] for name, tensor in read(request["calibration"], network.inputs).items()}
    answers = network.answers(first)
    nodes = list(network.outputs.values())
    config = {"maxi_datawidth": request["bus"], "offchipram_chunk_bytes": CHUNK}
    module = ng.to_veriloggen(nodes, "dut", config=config, silent=True)
    Path("dut.v").write_text(module.to_verilog(), encoding="ascii")
    parameters = np.asarray(ng.export_ndarray(nodes, CHUNK)).astype(np.uint8)
    parameters.tofile("parameters.bin")
    numerics = {each.object_id: each for node in nodes for each in node.collect_numerics()}.values()
    kept = [node.addr for node in numerics if isinstance(node, ng.variable | ng.constant) and node.maxi is not None]
    kept = [address for address in kept if address >= 0]
    ends = [node.addr + node.memory_size for node in numerics if node.maxi is not None and node.addr >= 0]
    document = {
        "inputs": [
            {
                "name": name,
                "order": list(node.perm) if node.perm is not None else list(range(len(node.shape))),
                "aligned": list(node.aligned_shape),
                "address": node.addr,
                "scale": network.scales[name],
            }
            for name, node in network.inputs.items()
        ],
        "outputs": [
            {
                "name": name,
                "order": order_of_output(node),
                "aligned": list(node.aligned_shape),
                "address": stored_at(node).addr,
                "scale": float(node.scale_factor),
            }
            for name, node in network.outputs.items()
        ],
        "parameters_address": min(kept, default=0),
        "memory_bytes": -(-max(ends) // SLACK) * SLACK + SLACK,
        "state": state,
    }
    Path("core.json").write_text(json.dumps(document), encoding="utf-8")
    np.savez("first.npz", **{str(number): answer for number, answer in enumerate(answers)})


def evaluate(request: dict[str, Any]) -> int:
    """Answer the cases of inputs.npz."""
    network = Network(request)
    if network.state() != request["state"]:
        return OTHER_STATE
    answers = network.answers(read("inputs.npz", network.inputs))
    np.savez("outputs.npz", **{str(number): answer for number, answer in enumerate(answers)})
    return 0


def main(verb: str, path: str) -> int:
    """Do what a request asks for."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    if verb == "evaluate":
        return evaluate(request)
    generate(request)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
