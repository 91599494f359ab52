"""The backend rtl refuses before it starts a tool, and says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from pydantic import ValidationError

from crossfarm.backends.rtl.backend import RtlCode, compile
from crossfarm.backends.rtl.generator import scale_of
from crossfarm.config.cell import Cell
from crossfarm.config.targets import target_with
from crossfarm.errors import BundleError, ModelError, ToolMissingError, UnfitError
from crossfarm.util import environments
from tests.unit.backends.rtl import networks

CELL = Cell(model="m", target="rtl_int8", variant="float32")


def _code(**changes: Any) -> RtlCode:
    return RtlCode.model_validate({"width": 8, "megahertz": 100, **changes})


def _compile(folder: Path, model: onnx.ModelProto, calibration: Path | None, **changes: Any) -> None:
    onnx.save(model, folder / "model.onnx")
    output = folder / "output"
    output.mkdir()
    compile(cell=CELL, model=folder / "model.onnx", code=_code(**changes), output=output, calibration=calibration)


def test_parallelism_is_a_power_of_two() -> None:
    with pytest.raises(ValidationError, match="3 is no power of two; give 1, 2, 4"):
        _code(parallelism=3)
    assert _code(parallelism=4).parallelism == 4


@pytest.mark.parametrize("key", ["depth", "widht"])
def test_a_key_that_a_core_has_not_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        _code(**{key: 1})


def test_it_quantises_float32_and_takes_no_other_variant() -> None:
    declared = {"name": "rtl_int8", "backend": "rtl", "machine": ["rtl"], "code": {"width": 8, "megahertz": 100}}
    target = target_with(RtlCode).model_validate(declared)
    assert (target.quantises, target.variants) == (True, ("float32",))
    with pytest.raises(ValidationError, match="its backend takes float32, not int8"):
        target_with(RtlCode).model_validate({**declared, "variants": ["int8"]})


def test_an_unsupported_operator_is_told_with_its_node(tmp_path: Path) -> None:
    model = networks.network([helper.make_node("Softmax", ["x"], ["y"], name="last")], {})
    with pytest.raises(UnfitError, match="operator Softmax of node 'last' cannot be compiled"):
        _compile(tmp_path, model, networks.calibrate(tmp_path / "calibration"))


def test_a_net_that_is_too_large_is_told_so_with_the_estimate(tmp_path: Path) -> None:
    with pytest.raises(
        UnfitError, match=r"too large for RTL simulation: about [\d,]+ cycles a case by estimate, .* 100;"
    ):
        _compile(tmp_path, networks.convolution(), networks.calibrate(tmp_path / "calibration"), most_cycles=100)


def test_calibration_inputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    calibration = networks.calibrate(tmp_path / "calibration", [1, 4, 5, 5])
    with pytest.raises(BundleError, match=r"x float32 \[1, 4, 5, 5\], but the model takes x float32 \[1, 4, 6, 6\]"):
        _compile(tmp_path, networks.convolution(), calibration)


def test_an_empty_calibration_is_refused(tmp_path: Path) -> None:
    calibration = networks.calibrate(tmp_path / "calibration")
    (calibration / "inputs" / "0.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="holds no 8 cases"):
        _compile(tmp_path, networks.convolution(), calibration)


def test_without_calibration_inputs_there_is_no_core(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantised from calibration inputs, and there are none"):
        _compile(tmp_path, networks.convolution(), None)


def test_without_its_python_environment_it_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "none",))
    with pytest.raises(ToolMissingError, match=r"Python environment rtl is not there; \./inv setup makes it"):
        _compile(tmp_path, networks.convolution(), networks.calibrate(tmp_path / "calibration"))


def test_the_largest_input_of_the_calibration_becomes_the_largest_integer() -> None:
    assert scale_of(np.array([0.5, -2.0]), width=8) == 63.5
    assert scale_of(np.array([0.5, -2.0]), width=16) == 32767 / 2
    assert scale_of(np.zeros(3), width=8) == 1.0
