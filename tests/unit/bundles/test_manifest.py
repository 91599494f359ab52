"""compile.json and manifest.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.bundles.compile_report import CompileReport, PortType
from crossfarm.errors import BundleError

REPORT = CompileReport(
    identity="ab" * 32,
    model="mnist_cnn",
    target="armv7",
    variant="float32",
    arena_bytes=640,
    storage_bytes=700,
    weights_bytes=1280,
    functions=2,
    calls=3,
    inputs=(PortType(name="x", dtype="float32", shape=(1, 3)),),
    outputs=(PortType(name="y", dtype="int64", shape=()),),
    operators={"Relu": 3},
    tools={"onnx": "1"},
)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "compile.json")
    assert CompileReport.read(tmp_path / "compile.json") == REPORT


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": "x"}'])
def test_a_damaged_report_is_no_traceback(tmp_path: Path, content: str) -> None:
    (tmp_path / "compile.json").write_text(content)
    with pytest.raises(BundleError, match=r"compile\.json cannot be used"):
        CompileReport.read(tmp_path / "compile.json")


def test_a_missing_report_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"compile\.json cannot be used"):
        CompileReport.read(tmp_path / "compile.json")
