"""A model with operators that no rule covers, through the whole pipeline: every report names them and their share."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.integration.boards.conftest import Server, server  # noqa: F401 (a fixture)
from tests.integration.pipeline.conftest import Farm, model

pytestmark = pytest.mark.integration

node = helper.make_node
CELL = "x86_64-places-float32"


@pytest.fixture
def places(farm: Farm) -> Farm:
    """A dense layer, which has a schedule, and the place of the largest of a length that no vector divides."""
    weights = np.random.default_rng(0).standard_normal((64, 1010)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("ReduceMax", ["m"], ["largest"], axes=[1]),
        node("ArgMax", ["m"], ["number"], axis=1),
        node("Cast", ["number"], ["place"], to=TensorProto.FLOAT),
    ]
    farm.add("places", model(nodes, [numpy_helper.from_array(weights, "w")], [4, 64], outputs=["largest", "place"]))
    return farm


def test_every_report_names_the_operators_and_their_share_of_the_time(places: Farm) -> None:
    ended = places.run()
    assert ended.code == 0, ended.output
    (row,) = [record for record in places.records("check") if record["name"] == "code.unscheduled"]
    assert row["operators"] == ["argmax", "max"], "the dense layer has a schedule"
    assert 0 < row["value"] < 1
    (number,) = [record for record in places.records("measurement") if record["name"] == "code.unscheduled"]
    assert number["value"] == row["value"] and len(number["samples"]) == 5
    said = rf"operators? unscheduled: .*argmax.*; {row['value'] * 100:.1f} % of the time"
    assert re.search(rf"{CELL}: \d+ {said}", ended.output)
    assert re.search(rf"`{CELL}`: \d+ {said}", (places.out / "summary.md").read_text())
    assert re.search(said, (places.out / "junit.xml").read_text())
    assert re.search(rf"\d+ {said}", places.run().output), "what the store had is told again"


def test_an_emulated_share_is_labelled_and_a_board_over_ssh_sends_it_too(
    places: Farm,
    server: Server,  # noqa: F811
) -> None:
    places.set_targets("aarch64")
    ended = places.run()
    assert ended.code == 0, ended.output
    (row,) = [record for record in places.records("check") if record["name"] == "code.unscheduled"]
    assert row["message"].endswith("% of the time (emulated)") and 0 < row["value"] < 1
    places.set_targets("x86_64")
    board = server.board(folder=str(places.folder / "board"), name="pi-1").model_dump(mode="json", exclude_none=True)
    path = places.folder / "boards.yaml"
    path.write_text(json.dumps({"database": f"sqlite:///{places.folder}/leases.db", "wait": 60, "boards": [board]}))
    ended = places.run("--boards", str(path))
    assert ended.code == 0, ended.output
    (number,) = [record for record in places.records("measurement") if record["name"] == "code.unscheduled"]
    assert number["provenance"]["board"] == "pi-1" and 0 < number["value"] < 1
