"""Files by their bytes, and texts by their tokens."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from crossfarm.config.samples import ByteWindow, Files, Tokens, TokenWindow
from crossfarm.errors import ConfigError
from crossfarm.stages.data.windows import byte_window, file_rows, token_rows

FILES = {"kind": "files", "name": "f", "source": {"file": "x"}}


@pytest.mark.parametrize(
    ("content", "strip", "expected"),
    [
        (b"abcdefgh", False, b"abcdgh"),
        (b"ab", False, b"ab\0\0ab"),
        (b"", False, bytes(6)),
        (b" \n abcdefgh\t\r\n", True, b"abcdgh"),
        (b" \n ab\n", True, b"ab\n\0ab"),
        (b" " * 5000, True, bytes(6)),
    ],
)
def test_a_file_is_its_first_and_its_last_bytes(content: bytes, strip: bool, expected: bytes) -> None:
    window = ByteWindow(head=4, tail=2, padding=0, strip=strip)
    assert bytes(int(number) for number in byte_window(content, window)) == expected


def test_files_are_labelled_by_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name in ("a/two.csv", "a/one.json", "b/three.txt"):
            archive.writestr(name, "x")
    dataset = Files.model_validate(FILES | {"globs": ["*.json", "*.csv"], "label": r"\.([a-z]+)$"})
    found = list(file_rows(dataset, tmp_path / "w.whl", ByteWindow(head=1, tail=1)))
    assert [(name, label) for name, _, label in found] == [("a/one.json", "json"), ("a/two.csv", "csv")]
    with pytest.raises(ConfigError, match=r"dataset f: no file of w.whl matches glob '\*.pdf'; correct the glob"):
        list(
            file_rows(dataset.model_copy(update={"globs": ("*.pdf",)}), tmp_path / "w.whl", ByteWindow(head=1, tail=1))
        )


def test_tokens_are_cut_or_filled() -> None:
    dataset = Tokens.model_validate(
        {"kind": "tokens", "name": "t", "rows": [{"text": "a", "tokens": [5]}, {"text": "b", "tokens": [5, 6, 7, 8]}]}
    )
    found = [(text, numbers.tolist(), label) for text, numbers, label in token_rows(dataset, TokenWindow(length=3))]
    assert found == [("a", [5, 0, 0], None), ("b", [5, 6, 7], None)]
