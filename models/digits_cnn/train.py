"""Trains the digits CNN, and writes digits_cnn.onnx, calibration.csv and held_out.csv beside this file.

    python -m venv .digits && .digits/bin/pip install scikit-learn==1.9.1 torch==2.13.0 onnx==1.22.0
    .digits/bin/python models/digits_cnn/train.py

What it needs is no dependency of crossfarm: all files are in the repository. The data are the 1,797 digits of 8 x 8
pixels, 0 to 16, that come with scikit-learn (UCI's Optical Recognition of Handwritten Digits, CC BY 4.0). They are
split into three parts that share no digit, each chosen evenly over the classes: 1,219 to train with, 128 to calibrate
quantised variants from, and 450 that are held out to be scored. A seed and one thread make the training repeatable on
one build of PyTorch.

The net: convolution 3 x 3 to 8 channels, ReLU, maximum of 2 x 2; the same to 16 channels; dense to 10 scores. Opset 11,
with no operator that quantising compilers are known not to read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 0
EPOCHS = 60
BATCH = 32
BRIGHTEST = 16.0
HELD_OUT = 450
CALIBRATION = 128
OPSET = 11


def network() -> nn.Sequential:
    """Return the net, untrained; input (batch, 1, 8, 8), pixels 0 to 1."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )


def train(net: nn.Sequential, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train with Adam and a rate that falls to nothing."""
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def to_onnx(net: nn.Sequential) -> onnx.ModelProto:
    """Return the net as an ONNX model of one case."""
    first, second, dense = net[0], net[3], net[7]
    weights = {
        f"{name}.{kind}": getattr(layer, kind).detach().numpy()
        for name, layer in (("first", first), ("second", second), ("dense", dense))
        for kind in ("weight", "bias")
    }
    nodes, value = [], "image"
    for name in ("first", "second"):
        convolution = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.sum"], name=name, **convolution))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [f"{name}.positive"], name=f"{name}.relu"))
        value = f"{name}.out"
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(helper.make_node("MaxPool", [f"{name}.positive"], [value], name=f"{name}.pool", **pool))
    nodes.append(helper.make_node("Flatten", [value], ["features"], name="flatten", axis=1))
    last = ["features", "dense.weight", "dense.bias"]
    nodes.append(helper.make_node("Gemm", last, ["logits"], name="dense", transB=1))
    graph = helper.make_graph(
        nodes,
        "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="crossfarm")
    model.ir_version = 6
    onnx.checker.check_model(model)
    return model


def _split(pixels: np.ndarray, labels: np.ndarray, taken: int) -> tuple[np.ndarray, ...]:
    """Return what is left and what is taken, of pixels and labels."""
    return tuple(train_test_split(pixels, labels, test_size=taken, random_state=SEED, stratify=labels))


def _save(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    rows = np.column_stack([pixels.reshape(len(pixels), -1), labels]).astype(np.int64)
    np.savetxt(path, rows, fmt="%d", delimiter=",")


def main() -> None:
    """Train, and say how good it is on what was held out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    pixels = digits.images.astype(np.float32)
    seen, unseen, labels, expected = _split(pixels, digits.target, HELD_OUT)
    seen, calibration, labels, calibration_labels = _split(seen, labels, CALIBRATION)
    net = network()
    train(net, torch.from_numpy(seen / BRIGHTEST)[:, None], torch.from_numpy(labels))
    with torch.no_grad():
        scores = net(torch.from_numpy(unseen / BRIGHTEST)[:, None])
    right = (scores.argmax(1).numpy() == expected).mean()
    onnx.save(to_onnx(net), HERE / "digits_cnn.onnx")
    _save(HERE / "calibration.csv", calibration, calibration_labels)
    _save(HERE / "held_out.csv", unseen, expected)
    print(f"{right:.2%} of {len(expected)} digits that were held out")  # noqa: T201


if __name__ == "__main__":
    main()
