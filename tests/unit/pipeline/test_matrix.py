"""The targets of a run as jobs of CI servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from crossfarm.boards.inventory import Inventory, load_inventory
from crossfarm.errors import ConfigError
from crossfarm.pipeline.matrix import Entry, as_lines, for_github, for_gitlab, matrix
from crossfarm.pipeline.plan import Selection
from tests.unit.plans import write_project

BOARDS = """\
boards:
  - {name: a, address: a, user: u, key: k, host_key: ssh-ed25519 AAAA, targets: [armv7], tags: [attic, bench]}
  - {name: b, address: b, user: u, key: k, host_key: ssh-ed25519 AAAA, targets: [armv7], tags: [cellar, bench]}
"""


def inventory(folder: Path, *boards: str) -> Inventory:
    (folder / "boards.yaml").write_text(BOARDS)
    return load_inventory(
        folder / "boards.yaml", default=folder / "none.yaml", targets=["armv7", "x86_64"], boards=boards
    )


def test_every_target_with_cells_is_a_job_and_skipped_cells_do_not_count(tmp_path: Path) -> None:
    entries = matrix(write_project(tmp_path), Selection(), None)
    assert entries == (Entry(target="x86_64", cells=2), Entry(target="armv7", cells=1))
    assert as_lines(entries) == "x86_64\narmv7\n"


def test_a_target_without_a_cell_is_no_job_and_none_at_all_is_told(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    assert [entry.target for entry in matrix(project, Selection(only=("*-two-*",)), None)] == ["x86_64"]
    with pytest.raises(ConfigError, match="no target has a cell"):
        matrix(project, Selection(only=("armv7-two-*",)), None)


def test_github_gets_one_line_of_json(tmp_path: Path) -> None:
    text = for_github(matrix(write_project(tmp_path), Selection(), None))
    assert text.count("\n") == 1
    assert json.loads(text) == {"include": [{"target": "x86_64", "cells": 2}, {"target": "armv7", "cells": 1}]}


def test_boards_give_the_labels_that_a_runner_of_all_of_them_has(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    (both,) = matrix(project, Selection(), inventory(tmp_path))
    assert (both.boards, both.labels) == (("a", "b"), ("self-hosted", "crossfarm", "bench"))
    (one,) = matrix(project, Selection(), inventory(tmp_path, "a"))
    assert json.loads(for_github([one])) == {
        "include": [
            {"target": "armv7", "cells": 1, "boards": "a", "labels": ["self-hosted", "crossfarm", "attic", "bench"]}
        ]
    }


def test_where_no_board_serves_a_target_there_is_no_job(tmp_path: Path) -> None:
    found = matrix(write_project(tmp_path), Selection(targets=("x86_64",)), inventory(tmp_path))
    assert json.loads(for_github(found)) == {"include": []}
    with pytest.raises(ConfigError, match="no board serves"):
        for_gitlab(found)


def test_gitlab_gets_jobs_that_the_template_is_extended_by() -> None:
    jobs = yaml.safe_load(for_gitlab([Entry(target="x86_64", cells=1), Entry(target="armv7", cells=1)]))
    assert jobs["crossfarm"] == {"extends": ".crossfarm", "parallel": {"matrix": [{"TARGET": ["x86_64", "armv7"]}]}}
    assert jobs["crossfarm-merge"]["variables"] == {"PARTS": "parts/x86_64 parts/armv7"}
    assert jobs["crossfarm-merge"]["needs"] == [{"job": "crossfarm", "artifacts": True}]


def test_more_jobs_than_a_server_takes_are_refused() -> None:
    entries = [Entry(target=f"t{number}", cells=1) for number in range(257)]
    with pytest.raises(ConfigError, match="GitHub takes 256 jobs"):
        for_github(entries)
    with pytest.raises(ConfigError, match="GitLab takes 200 jobs"):
        for_gitlab(entries[:201])
    assert for_github(entries[:256])
    assert for_gitlab(entries[:200])
