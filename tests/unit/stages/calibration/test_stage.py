"""The stage `calibration`: which inputs it takes, what its key depends on, and who asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

from crossfarm.bundles.calibration import CALIBRATION, read_calibration, write_calibration
from crossfarm.bundles.compile_report import PortType
from crossfarm.config.accelerators import AcceleratorCode, Variant
from crossfarm.config.models import ModelsFile
from crossfarm.config.pipelines import DEFAULT_STAGES, Pipeline
from crossfarm.config.targets import target_with
from crossfarm.errors import BundleError, ConfigError
from crossfarm.stages.calibration import stage as calibration
from crossfarm.stages.compile import stage as compile_stage
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Subject
from crossfarm.stages.quantize import stage as quantize
from crossfarm.stages.reference import stage as reference
from crossfarm.util.paths import HOME

PORT = PortType(name="x", dtype="float32", shape=(1, 1, 8, 8))
ENTRY = {
    "name": "m",
    "source": {"file": "m.onnx"},
    "licence": "MIT",
    "inputs": [{"name": "x", "shape": [1, 1, 8, 8]}],
    "preprocess": {"resize": {"size": [8, 8]}, "channels": "GRAY"},
    "data": ["lines"],
}
LINES = {"kind": "rendered_text", "name": "lines", "texts": ["one", "two", "three", "four", "five"]}


class Quantises(AcceleratorCode):
    """The section of a backend that quantises by itself."""

    TAKES: ClassVar[tuple[Variant, ...]] = ("float32",)
    QUANTISES: ClassVar[bool] = True


def subject(variant: str = "float32", section: type[AcceleratorCode] = Quantises, **model: Any) -> Subject:
    """Return a cell of the model."""
    declared = ModelsFile.model_validate({"models": [{**ENTRY, **model}], "datasets": [LINES]})
    target = target_with(section).model_validate(
        {"name": "t", "backend": "x", "machine": ["x86_64"], "code": {"megahertz": 300}}
    )
    return Subject(
        pipeline=Pipeline(name="p", targets=("t",)),
        model=declared.models[0],
        datasets=declared.datasets,
        target=target,
        variant=variant,
    )


def run(output: Path, **model: Any) -> Path:
    """Run the stage as a plan would have it, and return its artifact."""
    needs = calibration.needs(subject(**model))
    assert not needs.inputs, "texts are not fetched"
    output.mkdir()
    calibration.run(
        Job(
            id="calibration:m",
            stage="calibration",
            key="0" * 64,
            parameters=json.loads(json.dumps(needs.parameters, allow_nan=False)),
            inputs={},
            output=output,
            root=output,
        )
    )
    return output


def test_the_inputs_are_those_of_the_data_and_no_more_than_are_declared(tmp_path: Path) -> None:
    all_of_them = read_calibration(run(tmp_path / "all"), ports=[PORT])["x"]
    assert all_of_them.shape == (5, 1, 1, 8, 8) and all_of_them.dtype == np.float32
    assert len({case.tobytes() for case in all_of_them}) == 5, "each is another line of text"
    three = read_calibration(run(tmp_path / "three", quantisation={"calibration": 3}), ports=[PORT])["x"]
    assert np.array_equal(three, all_of_them[:3])


def test_a_backend_may_take_fewer_which_stand_at_even_distances(tmp_path: Path) -> None:
    cases = [{"x": np.full((2,), number, np.float32)} for number in range(10)]
    write_calibration(tmp_path, cases)
    port = PortType(name="x", dtype="float32", shape=(2,))
    assert read_calibration(tmp_path, ports=[port], at_most=4)["x"][:, 0].tolist() == [0, 2, 5, 7]
    assert len(read_calibration(tmp_path, ports=[port], at_most=99)["x"]) == 10


def test_the_key_depends_on_the_number_of_inputs_and_not_on_how_is_quantised() -> None:
    def parameters(**how: Any) -> Any:
        return calibration.needs(subject(quantisation=how)).parameters

    assert parameters(calibration=8) != parameters(calibration=9)
    assert parameters(method="entropy") == parameters()


def test_only_a_compiler_that_quantises_by_itself_is_handed_inputs() -> None:
    assert compile_stage.needs(subject()).inputs == {"prepare": ("prepare", None), "calibration": ("calibration", None)}
    assert compile_stage.needs(subject(section=AcceleratorCode)).inputs == {"prepare": ("prepare", None)}
    assert compile_stage.needs(subject("int8_shift", AcceleratorCode)).inputs == {"quantize": ("quantize_shift", None)}
    assert "calibration" not in DEFAULT_STAGES, "models without data have none"


def test_a_model_without_data_cannot_be_calibrated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="calibrated from the model's own data, and it has none"):
        run(tmp_path / "none", data=[], preprocess=None)


def test_inputs_of_another_shape_are_refused_with_both_shapes(tmp_path: Path) -> None:
    made = run(tmp_path / "made")
    other = PORT.model_copy(update={"shape": (1, 3, 8, 8)})
    with pytest.raises(BundleError, match=r"is of inputs x float32 \[1, 1, 8, 8\], but .* x float32 \[1, 3, 8, 8\]"):
        read_calibration(made, ports=[other])


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_or_empty_calibration_is_refused(tmp_path: Path, damage: str) -> None:
    made = run(tmp_path / "made")
    if damage == "cut":
        (made / "inputs" / "0.bin").write_bytes(b"\0" * 7)
    elif damage == "gone":
        (made / "inputs" / "0.bin").unlink()
    else:
        text = (made / CALIBRATION).read_text().replace('"cases": 5', '"cases": 0')
        (made / CALIBRATION).write_text(text)
    with pytest.raises(BundleError, match=r"run the stage `calibration` again|make the artifact again"):
        read_calibration(made, ports=[PORT])


OTHERS = {"kind": "rendered_text", "name": "others", "texts": ["six", "seven"]}


def test_the_inputs_may_come_from_data_that_the_model_is_not_scored_on() -> None:
    declared = ModelsFile.model_validate(
        {"models": [{**ENTRY, "quantisation": {"data": ["others"]}}], "datasets": [LINES, OTHERS]}
    )
    found = Subject(pipeline=Pipeline(name="p", targets=("t",)), model=declared.models[0], datasets=declared.datasets)
    for stage in (calibration, quantize):
        parameters = stage.needs(found).parameters
        assert parameters["model m"]["data"] == ["others"]
        assert "dataset others" in parameters and "dataset lines" not in parameters
    assert "dataset others" not in reference.needs(found).parameters


def test_the_digits_that_are_calibrated_from_are_neither_scored_nor_trained_with() -> None:
    """The three parts of scikit-learn's digits: what is scored and what is calibrated from share no row."""
    folder = HOME / "models" / "digits_cnn"
    scored, calibrated = (
        (folder / name).read_text(encoding="ascii").splitlines() for name in ("held_out.csv", "calibration.csv")
    )
    assert (len(scored), len(calibrated)) == (450, 128)
    assert set(scored).isdisjoint(calibrated)
    (model,) = (
        item for item in yaml.safe_load((HOME / "models.yaml").read_text())["models"] if item["name"] == "digits_cnn"
    )
    assert model["quantisation"]["data"] == ["digits_calibration"] != model["data"]
