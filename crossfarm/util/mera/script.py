"""Runs in MERA's own Python, 3.10, and imports nothing of crossfarm: script.py REQUESTS ANSWERS PROGRESS.

REQUESTS and ANSWERS are JSON files, a list each. PROGRESS grows by a byte when the next one begins.

Exit code 3: MERA raised an error, and the last line `mera: ...` says which. Another one that is not 0: MERA is not
usable here. A process that a signal ended was ended by MERA's own libraries.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

REFUSED = 3


class _Report(logging.Handler):
    """Keeps the line in which MERA's compiler says how many operators it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record if it is that line."""
        text = record.getMessage()
        if "Captured" in text:
            self.line = text


REPORT = _Report()


def quantise(request: Any) -> Any:
    """Quantise a float32 ONNX model from inputs.

    Takes `model` (path), `inputs` (a list of {shape, file}, each file float32 cases stacked), `cases` and `output`.
    """
    from mera import Layout, ModelQuantizer

    stacked = [_stacked(item, request["cases"]) for item in request["inputs"]]
    cases = [[array[number] for array in stacked] for number in range(request["cases"])]
    shapes = [tuple(item["shape"]) for item in request["inputs"]]
    quantiser = ModelQuantizer(request["model"], shapes, layout=Layout.NCHW)
    quantiser.calibrate(cases if len(stacked) > 1 else [case[0] for case in cases])
    quantiser.quantize().save(request["output"])
    return {"captured": REPORT.line}


def deploy(request: Any) -> Any:
    """Compile a quantised model for one of MERA's targets.

    Takes `model` (a .mera file of `quantise`, or quantised TorchScript, then with its `inputs` as {name, dtype, shape}
    in MERA's order of axes), `project` (MERA's own folder), `target`, `platform`, `host`, `config`
    and `output`, the folder that gets deploy.so, deploy.json and deploy.params.
    """
    from mera import ModelLoader, Platform, Target, TVMDeployer

    target = Target[request["target"]]
    with TVMDeployer(request["project"], overwrite=True) as deployer:
        loader = ModelLoader(deployer)
        if "inputs" in request:
            described = {item["name"]: (tuple(item["shape"]), item["dtype"]) for item in request["inputs"]}
            model = loader.from_pytorch(request["model"], described)
        else:
            model = loader.from_quantized_mera(request["model"])
        deployer.deploy(
            model,
            mera_platform=Platform[request["platform"]],
            target=target,
            host_arch=request["host"],
            build_config=request["config"],
        )
    result = Path(request["project"]) / "build" / str(target) / "result"
    for name in ("deploy.so", "deploy.json", "deploy.params"):
        shutil.copyfile(result / name, Path(request["output"]) / name)
    return {"captured": REPORT.line}


def run(request: Any) -> Any:
    """Run a compiled model on this host, where MERA's target is its functional model or its simulator.

    Takes `deployed` (folder), `inputs` (as `quantise`, with `dtype`, in the model's order), `cases`, `first` (how many
    of them) and `output`, a folder that gets K.bin, each output's cases stacked. Answers shapes and dtypes of the
    outputs and the metrics of each case.
    """
    import numpy as np
    from mera import load_mera_deployment

    stacked = [_stacked(item, request["cases"]) for item in request["inputs"]]
    runner = load_mera_deployment(request["deployed"]).get_runner()
    outputs: list[list[Any]] = []
    metrics = []
    for number in range(request["first"]):
        runner.set_input([array[number] for array in stacked]).run()
        outputs.append([np.ascontiguousarray(output) for output in runner.get_outputs()])
        metrics.append(runner.get_runtime_metrics() if request["metrics"] else None)
    described = []
    for number, cases in enumerate(zip(*outputs, strict=True)):
        array = np.stack(cases)
        array.tofile(Path(request["output"]) / f"{number}.bin")
        described.append({"dtype": array.dtype.name, "shape": list(array.shape[1:])})
    return {"outputs": described, "metrics": metrics}


def _stacked(item: Any, cases: int) -> Any:
    import numpy as np

    return np.fromfile(item["file"], item["dtype"]).reshape(cases, *item["shape"])


ACTIONS = {"quantise": quantise, "deploy": deploy, "run": run}


def main() -> int:
    """Do what the requests say, one behind the other."""
    requests, answers, progress = map(Path, sys.argv[1:])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    # Debian's uname says nothing here, and MERA takes it for another architecture.
    platform.processor = lambda: "x86_64"
    logging.getLogger("mera-tvm").addHandler(REPORT)
    import mera  # noqa: F401 (what its libraries lack is told before anything is tried)

    try:
        found = []
        for request in json.loads(requests.read_text(encoding="utf-8")):
            with progress.open("ab") as stream:
                stream.write(b".")
            REPORT.line = ""
            found.append(ACTIONS[request["action"]](request))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(f"mera: {type(error).__name__}: {' '.join(str(error).split())}\n")
        return REFUSED
    answers.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
