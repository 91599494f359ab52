"""Paths as a code host's annotations need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.util.paths import in_repository


@pytest.mark.parametrize("git", ["folder", "file"])
def test_a_path_is_told_from_the_top_of_the_repository_that_holds_the_file(tmp_path: Path, git: str) -> None:
    top = tmp_path / "checkout"
    (top / "ci").mkdir(parents=True)
    # A work tree and a submodule have a file of that name.
    (top / ".git").mkdir() if git == "folder" else (top / ".git").write_text("gitdir: elsewhere")
    assert in_repository(top / "ci" / ".." / "ci" / "models.yaml") == "ci/models.yaml"


def test_a_link_is_followed_to_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "checkout" / ".git").mkdir(parents=True)
    (tmp_path / "checkout" / "models.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "checkout" / "models.yaml")
    assert in_repository(tmp_path / "link.yaml") == "models.yaml"


def test_outside_of_a_repository_a_path_stays_as_it_was_given(tmp_path: Path) -> None:
    if any((folder / ".git").exists() for folder in tmp_path.parents):
        pytest.skip("the temporary folder stands in a repository")
    assert in_repository(tmp_path / "models.yaml") == str(tmp_path / "models.yaml")
