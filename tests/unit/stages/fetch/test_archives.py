"""Files inside wheels and other zip archives."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import ConfigError, FetchError
from crossfarm.stages.fetch.archives import checked_path, extract_tree, read_member


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    inner = _zip({"net.tflite": b"flat", "deep/net.tflite": b"deeper"})
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    path.write_bytes(
        _zip({"thing/models/net.onnx": b"graph", "thing/models/nets.zip": inner, "thing/bomb": b"0" * 9999})
    )
    return path


def test_a_file_of_a_wheel_is_read(wheel: Path) -> None:
    assert read_member(wheel, "thing/models/net.onnx") == b"graph"


def test_an_exclamation_mark_steps_into_an_archive_inside(wheel: Path) -> None:
    assert read_member(wheel, "thing/models/nets.zip!deep/net.tflite") == b"deeper"


def test_a_misspelt_file_gets_the_nearest_name(wheel: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file 'thing/model/net.onnx'; perhaps you meant 'thing/models/net.onnx'"):
        read_member(wheel, "thing/model/net.onnx")


def test_a_misspelt_file_of_an_archive_inside_names_both_archives(wheel: Path) -> None:
    with pytest.raises(ConfigError, match=r"any\.whl!thing/models/nets\.zip has no file 'nut\.tflite'.*'net\.tflite'"):
        read_member(wheel, "thing/models/nets.zip!nut.tflite")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret", "thing/../../secret", "C:/secret", "thing\\net", "", "nets.zip!../net"]
)
def test_a_path_that_leads_out_is_refused(wheel: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"leads out of the archive|has no file 'nets\.zip'"):
        read_member(wheel, path)


def test_a_file_over_the_limit_is_refused(wheel: Path) -> None:
    with pytest.raises(FetchError, match="larger than 1000 bytes when unpacked"):
        read_member(wheel, "thing/bomb", limit=1000)


def test_a_size_that_the_header_hides_is_found_out(tmp_path: Path) -> None:
    content = bytearray(_zip({"bomb": b"0" * 5000}))
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    path = tmp_path / "bomb.zip"
    path.write_bytes(content)
    # zipfile stops at the promised size and then finds the checksum wrong: never more than the limit is unpacked.
    with pytest.raises(FetchError):
        read_member(path, "bomb", limit=100)


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a zip")
    with pytest.raises(FetchError, match=r"model\.onnx is not a zip archive"):
        read_member(path, "net")


def test_a_damaged_file_is_told(wheel: Path) -> None:
    content = bytearray(wheel.read_bytes())
    place = content.index(b"thing/models/net.onnx") + len(b"thing/models/net.onnx")
    content[place + 1] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(FetchError, match="cannot be unpacked"):
        read_member(wheel, "thing/models/net.onnx")


def test_a_tree_is_unpacked_without_links(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("pkg/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/module.py", "x = 1")
        archive.writestr("pkg/empty/", "")
        archive.writestr(link, "/etc/passwd")
    out = tmp_path / "out"
    out.mkdir()
    extract_tree(path, out)
    assert [found.relative_to(out).as_posix() for found in out.rglob("*") if not found.is_dir()] == ["pkg/module.py"]


def test_a_tree_with_a_path_that_leads_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"../evil.py": b"x"}))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConfigError, match="leads out of the archive"):
        extract_tree(path, out)
    assert not (tmp_path / "evil.py").exists()


def test_a_tree_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"a": b"0" * 600, "b": b"0" * 600}))
    with pytest.raises(FetchError, match="larger than"):
        extract_tree(path, tmp_path, limit=1000)


@given(st.text(alphabet="a./\\:!", max_size=12))
def test_a_checked_path_stays_inside_whatever_it_is(text: str) -> None:
    base = Path("/base/folder")
    try:
        path = checked_path(text, "archive")
    except ConfigError:
        return
    assert (base / path).resolve().is_relative_to(base)
