"""Sequences: a case that continues the one before takes that one's outputs, not what its input file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.runner.building import Bundle, expected_share, make_bundle

pytestmark = pytest.mark.integration

CASES = 6


@pytest.fixture
def sequence(tmp_path: Path, sample_program: Path) -> Bundle:
    """Return a bundle whose cases 2, 3 and 4 are a sequence that carries the output `share`."""
    bundle = make_bundle(tmp_path / "sequence", sample_program, cases=CASES)

    def declare(manifest: Any) -> None:
        manifest["inputs"][0]["carry_from"] = "share"
        manifest["inputs"][1]["carry_from"] = None
        manifest["sequences"] = [{"first": 2, "cases": 3}]

    bundle.edit_manifest(declare)
    return bundle


def shares(bundle: Bundle, folder: Path) -> np.ndarray[Any, Any]:
    """Run all cases and return the first output of each."""
    bundle.result("--outputs", folder, "--repeat", "3")
    return np.fromfile(folder / "0.bin", dtype=np.float32).reshape(-1, 2, 8)


def test_a_case_that_continues_takes_the_outputs_of_the_case_before(sequence: Bundle, tmp_path: Path) -> None:
    alone = expected_share(sequence.values)
    third = expected_share(alone[2][None])[0]
    fourth = expected_share(third[None])[0]
    expected = np.stack([alone[0], alone[1], alone[2], third, fourth, alone[5]])
    np.testing.assert_allclose(shares(sequence, tmp_path / "outputs"), expected, rtol=1e-5)


def test_the_files_say_what_is_taken_where_nothing_is_carried(sequence: Bundle, tmp_path: Path) -> None:
    sequence.edit_manifest(lambda manifest: manifest["inputs"][0].pop("carry_from"))
    np.testing.assert_allclose(shares(sequence, tmp_path / "outputs"), expected_share(sequence.values), rtol=1e-5)


@pytest.mark.parametrize("source", ["echo", "weights", "none", 3, ["share"]])
def test_a_carried_input_names_an_output_of_its_own_type_and_size(sequence: Bundle, source: Any) -> None:
    sequence.edit_manifest(lambda manifest: manifest["inputs"][0].update(carry_from=source))
    if source == "weights":  # 16 numbers of float32 as well: it fits
        assert sequence.result()["cases"] == CASES
    else:
        assert sequence.refusal() == (
            "manifest.json: inputs[0].carry_from is not an output of the input's type and size; bundle the model again"
        )


@pytest.mark.parametrize(
    "sequences",
    [
        [{"first": CASES, "cases": 1}],
        [{"first": 0, "cases": CASES + 1}],
        [{"first": 4, "cases": 2**62}],
        [{"first": 2**62, "cases": 2**62}],
        [{"first": 0, "cases": 0}],
        [{"first": 0, "cases": 3}, {"first": 2, "cases": 2}],
        [{"first": 3, "cases": 2}, {"first": 0, "cases": 2}],
        [{"first": -1, "cases": 2}],
        [{"first": 0}],
        [[0, 2]],
        {"first": 0, "cases": 2},
    ],
)
def test_sequences_lie_within_the_cases_and_apart(sequence: Bundle, sequences: Any) -> None:
    sequence.edit_manifest(lambda manifest: manifest.update(sequences=sequences))
    assert sequence.refusal().startswith("manifest.json: ")
