"""The backend mera: what it refuses before MERA is called, and what it says of the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from crossfarm.backends.mera import backend
from crossfarm.backends.mera.backend import MeraCode
from crossfarm.bundles.calibration import write_calibration
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target, target_with
from crossfarm.errors import BundleError, UnfitError
from crossfarm.util.paths import HOME

CELL = Cell(model="m", target="mera_f200", variant="float32")
CODE = MeraCode(platform="DNAF200L0003", megahertz=300)


def target_file(name: str) -> Target:
    """Return a target of toolchains/."""
    return target_with(MeraCode).model_validate(yaml.safe_load((HOME / "toolchains" / f"{name}.yaml").read_text()))


def save(path: Path, *nodes: onnx.NodeProto) -> Path:
    """Write a model from x [1, 4] to y."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(value), name) for name, value in (("s", np.float32(0.5)), ("z", np.int8(0)))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def compile(tmp_path: Path, model: Path, inputs: dict[str, Any]) -> None:
    """Compile up to the first call of MERA."""
    folders = [tmp_path / name for name in ("calibration", "output")]
    for folder in folders:
        folder.mkdir()
    write_calibration(folders[0], [inputs])
    backend.compile(cell=CELL, model=model, code=CODE, output=folders[1], calibration=folders[0])


def test_a_model_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="first"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    )
    with pytest.raises(
        UnfitError, match=r"QuantizeLinear of node 'first'.*float32 alone.*wrong numbers without a word"
    ):
        compile(tmp_path, save(tmp_path / "m.onnx", *nodes), {"x": np.zeros((1, 4), np.float32)})


def test_calibration_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(BundleError, match=r"x float32 \[1, 5\], but the model takes x float32 \[1, 4\]"):
        compile(tmp_path, model, {"x": np.zeros((1, 5), np.float32)})


def test_a_toolchain_file_cannot_name_what_mera_has_not() -> None:
    declared = yaml.safe_load((HOME / "toolchains" / "mera_f200.yaml").read_text())
    target = target_with(MeraCode).model_validate(declared)
    assert target.variants == ("float32", "int8") and target.quantises
    assert target.refuses(variant="int8", form="torchscript") is None
    assert target.refuses(variant="int8", form="onnx") == "mera_f200 takes int8 models that come as torchscript alone"
    with pytest.raises(ValidationError, match="platform"):
        target_with(MeraCode).model_validate({**declared, "code": {**declared["code"], "platform": "DNAF900L0001"}})
    with pytest.raises(ValidationError, match="its backend takes float32, int8, not int8_shift"):
        target_with(MeraCode).model_validate({**declared, "variants": ["float32", "int8_shift"]})
    with pytest.raises(ValidationError, match="calibration"):
        target_with(MeraCode).model_validate({**declared, "code": {**declared["code"], "calibration": 0}})


@pytest.mark.parametrize(("name", "card"), [("f100", "dna-f100"), ("f200", "dna-f200"), ("sakura1", "sakura-1")])
def test_every_toolchain_file_is_of_a_card(name: str, card: str) -> None:
    declared = yaml.safe_load((HOME / "toolchains" / f"mera_{name}.yaml").read_text())
    assert target_with(MeraCode).model_validate(declared).code.card == card  # type: ignore[attr-defined]
