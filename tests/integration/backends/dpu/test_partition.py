"""What goes to the array and what stays on the CPU, each with the rule that it broke."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from crossfarm.backends.dpu import backend
from crossfarm.backends.dpu.commands import Alu, Op, read_commands
from crossfarm.errors import UnfitError
from tests.integration.backends.dpu import nets
from tests.integration.backends.dpu.building import CELL, build, code, equal, expected, int8_shift, model, random_inputs

pytestmark = pytest.mark.integration

SHAPE = (1, 16, 8, 8)


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _around(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Put a convolution before some nodes that read `a`, and one behind `b`."""
    constants = {"first": _normal(0, 16, 16, 1, 1), "last": _normal(1, 8, 16, 1, 1), **constants}
    before = helper.make_node("Conv", ["x", "first"], ["a"], name="first")
    behind = helper.make_node("Conv", ["b", "last"], ["y"], name="last")
    return model([before, *nodes, behind], constants, SHAPE)


def _conv(constant: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", ["a", constant], ["b"], name="odd", **attributes)


@pytest.mark.parametrize(
    "nodes, constants, rule",
    [
        (
            [_conv("w", pads=[8, 0, 8, 0])],
            {"w": _normal(2, 16, 16, 17, 1)},
            "kernel is 17, and the array takes 1 to 16",
        ),
        ([_conv("w", strides=[9, 1])], {"w": _normal(2, 16, 16, 1, 1)}, "stride is 9, and the array takes 1 to 8"),
        (
            [_conv("w", group=4)],
            {"w": _normal(2, 16, 4, 1, 1)},
            "it has 4 groups, and the array takes 1, or one for each",
        ),
        (
            [_conv("w", dilations=[300, 1], pads=[300, 0, 300, 0])],
            {"w": _normal(2, 16, 16, 3, 1)},
            "dilation x input channels is 4800, and the array takes 1 to 4096",
        ),
        ([helper.make_node("Erf", ["a"], ["b"], name="odd")], {}, "Erf is no operator of the array"),
        (
            [helper.make_node("AveragePool", ["a"], ["b"], name="odd", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
            {},
            "its mean leaves padding out",
        ),
        ([helper.make_node("Concat", ["a", "a"], ["b"], name="odd", axis=2)], {}, "along another axis than channels"),
        (
            [
                helper.make_node("GlobalAveragePool", ["a"], ["p"], name="mean"),
                helper.make_node("Mul", ["a", "p"], ["b"], name="odd"),
            ],
            {},
            "Mul of tensors of several extents is no operator of the array",
        ),
    ],
    ids=["kernel", "stride", "groups", "dilation", "Erf", "AveragePool", "Concat", "Mul"],
)
def test_what_breaks_a_rule_runs_on_the_cpu_and_the_outputs_stay_equal(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], rule: str, tmp_path: Path, checked_program: Path
) -> None:
    quantised = int8_shift(_around(nodes, constants), SHAPE)
    made = build(tmp_path / "made", quantised, code(), checked_program)
    partition = made.report["partition"]
    (left,) = partition["left_over"]
    assert left["operator"] == nodes[-1].op_type
    assert rule in left["rule"]
    assert partition["cpu"]["operators"] == 1
    assert partition["accelerator"]["operators"] == 1 + len(nodes)
    assert [part["side"] for part in made.plan["parts"]] == ["cpu", "dpu", "cpu", "dpu", "cpu"]
    inputs = random_inputs(SHAPE, 3, seed=4)
    equal(made.simulate(inputs).outputs, expected(quantised, inputs))


def test_hard_swish_in_pieces_runs_on_the_array_and_what_it_stores_on_the_way_is_computed_nowhere(
    tmp_path: Path, checked_program: Path
) -> None:
    constants = {"three": np.float32(3.0), "none": np.float32(0.0), "six": np.float32(6.0)}
    nodes = [
        helper.make_node("Add", ["a", "three"], ["p"], name="p"),
        helper.make_node("Clip", ["p", "none", "six"], ["q"], name="q"),
        helper.make_node("Mul", ["a", "q"], ["r"], name="r"),
        helper.make_node("Div", ["r", "six"], ["b"], name="b"),
    ]
    quantised = int8_shift(_around(nodes, constants), SHAPE)
    made = build(tmp_path / "made", quantised, code(), checked_program)
    partition = made.report["partition"]
    assert (partition["left_over"], partition["accelerator"]["operators"]) == ([], 6)
    assert [part["side"] for part in made.plan["parts"]] == ["cpu", "dpu", "cpu"]
    (path,) = made.folder.glob("*.commands")
    kinds = [numbers[1] for numbers in read_commands(path.read_bytes()) if numbers[0] == Op.ALU]
    assert kinds == [Alu.TABLE] * 2, "one up to the product, one for the quotient"
    inputs = random_inputs(SHAPE, 3, seed=4)
    equal(made.simulate(inputs).outputs, expected(quantised, inputs))


def test_what_a_function_stores_on_the_way_is_computed_where_others_read_it(
    tmp_path: Path, checked_program: Path
) -> None:
    constants = {"three": np.float32(3.0), "none": np.float32(0.0), "six": np.float32(6.0)}
    nodes = [
        helper.make_node("Add", ["a", "three"], ["p"], name="p"),
        helper.make_node("Clip", ["p", "none", "six"], ["q"], name="q"),
        helper.make_node("Mul", ["a", "q"], ["r"], name="r"),
        helper.make_node("Add", ["r", "q"], ["b"], name="b"),
    ]
    quantised = int8_shift(_around(nodes, constants), SHAPE)
    made = build(tmp_path / "made", quantised, code(), checked_program)
    assert made.report["partition"]["left_over"] == []
    inputs = random_inputs(SHAPE, 3, seed=4)
    equal(made.simulate(inputs).outputs, expected(quantised, inputs))


def test_weights_that_no_bank_holds_stay_on_the_cpu_with_the_numbers(tmp_path: Path, checked_program: Path) -> None:
    real, shape = nets.digits()
    quantised = int8_shift(real, shape)
    made = build(tmp_path / "made", quantised, code(bank_depth=16, bank_num=64), checked_program)
    left = {item["operator"]: item["rule"] for item in made.report["partition"]["left_over"]}
    wanted = "kernel_w * kernel_h * ceil(input channels / 16) is 32, and the array takes 1 to 16"
    assert left["Gemm"] == wanted
    assert "Flatten" in left, "what only another layer looked through is computed again"
    inputs = random_inputs(shape, 3, seed=4)
    equal(made.simulate(inputs).outputs, expected(quantised, inputs))


def test_the_report_counts_macs_bytes_and_crossings_of_both_sides(tmp_path: Path, checked_program: Path) -> None:
    real, shape = nets.digits()
    made = build(tmp_path / "made", int8_shift(real, shape), code(), checked_program)
    partition = made.report["partition"]
    macs = 8 * 9 * 10 * 10 + 24 * 8 * 9 * 8 * 8 + 24 * 16 * 32 + 320
    assert partition["accelerator"]["macs"] == macs
    assert partition["accelerator"]["parameter_bytes"] == 8 * (9 + 4) + 24 * (72 + 4) + 32 * (384 + 4) + 10 * (32 + 4)
    assert partition["accelerator"]["operators"] == 9
    assert partition["cpu"] == {"operators": 0, "macs": 0, "parameter_bytes": 0}
    assert (partition["crossings"], partition["crossing_bytes"]) == (2, 12 * 12 + 10)
    assert [part["side"] for part in made.plan["parts"]] == ["cpu", "dpu", "cpu"]


def test_features_that_no_tile_of_one_row_fits_are_refused_with_the_numbers(tmp_path: Path) -> None:
    real, shape = nets.everything()
    path = tmp_path / "model.onnx"
    path.write_bytes(int8_shift(real, shape).SerializeToString())
    with pytest.raises(
        UnfitError, match=r"layer Conv_0: a tile of one row needs \d+ words of the feature banks .* which hold 64"
    ):
        backend.compile(cell=CELL, model=path, code=code(bank_depth=32, bank_num=1), output=tmp_path)


def test_a_model_that_is_not_quantised_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(nets.digits()[0].SerializeToString())
    with pytest.raises(UnfitError, match="the model is not quantised; use the variant int8_shift"):
        backend.compile(cell=CELL, model=path, code=code(), output=tmp_path)


def test_a_model_of_which_nothing_fits_is_refused_with_the_rules(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="wide", pads=[9, 0, 9, 0])]
    quantised = int8_shift(model(nodes, {"w": _normal(0, 4, 16, 19, 1)}, SHAPE), SHAPE)
    path = tmp_path / "model.onnx"
    path.write_bytes(quantised.SerializeToString())
    with pytest.raises(UnfitError, match=r"can run no layer of this model \(Conv Conv_0: kernel is 19"):
        backend.compile(cell=CELL, model=path, code=code(), output=tmp_path)
