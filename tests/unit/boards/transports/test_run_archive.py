"""What is taken out of the archive of a run, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.boards.transports.run_archive import Expected, expected_of, unpack
from crossfarm.errors import BoardError, BundleError

FACTS = b"machine x86_64\nfree_kib 7\n"
GOOD = {
    "./code": b"0\n",
    "./tail": b"said",
    "./before": FACTS,
    "./after": b"temperature 41500\n",
    "./outputs/0.bin": bytes(6),
    "./result.json": b"{}",
}
EXPECTED = Expected(files={"outputs/0.bin": 6, "result.json": 64, "profile.json": 64})


def archive(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def _unpack(data: bytes, output: Path) -> int:
    return unpack(io.BytesIO(data), EXPECTED, output).code


def _left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_the_files_of_a_run_are_taken_whatever_tar_the_board_has(tmp_path: Path, form: int) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for folder in ("./", "./outputs/"):
            member = tarfile.TarInfo(folder)
            member.type, member.mtime = tarfile.DIRTYPE, 0.5
            tar.addfile(member)
        for name, content in GOOD.items():
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.mtime = len(content), 1 << 30 if form != tarfile.USTAR_FORMAT else 7, 0.5
            if form == tarfile.USTAR_FORMAT:
                member.mtime = 1
            tar.addfile(member, io.BytesIO(content))
    report = unpack(io.BytesIO(raw.getvalue()), EXPECTED, tmp_path)
    assert (report.code, report.tail, report.after.temperature) == (0, "said", 41.5)
    assert _left(tmp_path) == {"outputs/0.bin", "result.json"}
    assert (tmp_path / "outputs" / "0.bin").read_bytes() == bytes(6)


@pytest.mark.parametrize(
    "name",
    ["../out.bin", "/etc/x", "outputs/../../x", "outputs/1.bin", "outputs/00.bin", "x", "outputs", "outputs/0.bin/x",
     ".//result.json", "./outputs//0.bin", "\x1b[2J", "result.json\n", "./before/x"],
)  # fmt: skip
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    output = tmp_path / "a" / "b"
    output.mkdir(parents=True)
    with pytest.raises(BoardError, match="which no run leaves"):
        _unpack(archive({**GOOD, name: b"x"}), output)
    assert _left(tmp_path) <= {"a/b/outputs/0.bin", "a/b/result.json"}


@pytest.mark.parametrize("name", ["./outputs/0.bin", "./result.json", "./code", "./tail", "./before", "./after"])
def test_a_file_that_is_larger_than_it_can_be_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(BoardError, match=r"with \d+ bytes, which has \d+ at most"):
        _unpack(archive({**GOOD, name: bytes(1 << 20)}), tmp_path)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"'\./outputs/0\.bin' twice"):
        _unpack(archive({"./outputs/0.bin": bytes(6)}) [:1024] + archive(GOOD), tmp_path)  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE,
     tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"D", b"M", b"V", b"Z"],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("./outputs/0.bin")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(BoardError, match="which is no plain file"):
        _unpack(member.tobuf(tarfile.GNU_FORMAT) + archive(GOOD), tmp_path)
    assert _left(tmp_path) == set()


def test_a_sparse_file_in_the_words_of_an_extended_header_writes_nothing(tmp_path: Path) -> None:
    member = tarfile.TarInfo("./outputs/0.bin")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 30)}
    member.pax_headers |= {"size": str(1 << 30), "path": "../../x"}
    member.size = 0
    head = member.tobuf(tarfile.PAX_FORMAT)
    rest = {name: content for name, content in GOOD.items() if name != "./outputs/0.bin"}
    output = tmp_path / "a" / "b"
    output.mkdir(parents=True)
    assert _unpack(head + archive(rest), output) == 0
    assert (output / "outputs" / "0.bin").stat().st_size == 0
    assert _left(tmp_path) == {"a/b/outputs/0.bin", "a/b/result.json"}


def test_extended_headers_are_few_and_small(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(BoardError, match=r"an extended header of \d+ bytes"):
        _unpack(member.tobuf(tarfile.GNU_FORMAT) + archive(GOOD), tmp_path)
    member.size = 0
    with pytest.raises(BoardError, match="more than 4096 members"):
        _unpack(member.tobuf() * 10_000 + archive(GOOD), tmp_path)


@pytest.mark.parametrize("code", [b"", b"-1", b"1000", b"9" * 16, b"0x1", b"1.5", "\uff11".encode(), b"0\n0"])
def test_an_exit_code_that_is_none_is_refused(tmp_path: Path, code: bytes) -> None:
    with pytest.raises(BoardError, match="an exit code that is none"):
        _unpack(archive({**GOOD, "./code": code}), tmp_path)


@pytest.mark.parametrize("missing", ["./code", "./before", "./after"])
def test_a_report_that_lacks_something_is_refused(tmp_path: Path, missing: str) -> None:
    files = {name: content for name, content in GOOD.items() if name != missing}
    with pytest.raises(BoardError, match=f"lacks {missing.removeprefix('./')}"):
        _unpack(archive(files), tmp_path)


@given(st.data())
def test_a_damaged_archive_is_a_report_or_an_error_of_the_board(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(archive(GOOD))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=8)):
        raw[place] = value
    output = tmp_path_factory.mktemp("run")
    with contextlib.suppress(BoardError):
        _unpack(bytes(raw[: data.draw(st.integers(0, len(raw)))]), output)
    assert _left(output) <= {"outputs/0.bin", "result.json", "profile.json"}


@given(st.binary(max_size=3000))
def test_any_bytes_are_a_report_or_an_error_of_the_board(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    with pytest.raises(BoardError):
        _unpack(raw, tmp_path_factory.mktemp("run"))


def test_what_a_run_can_leave_comes_from_the_manifest(tmp_path: Path) -> None:
    ports = [{"dtype": "float32", "shape": [1, 1000]}, {"dtype": "bool", "shape": []}, {"dtype": "int64", "shape": [3]}]
    manifest = {"cases": 10, "outputs": ports, "inputs": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    expected = expected_of(tmp_path)
    sizes = [expected.files[f"outputs/{number}.bin"] for number in range(3)]
    assert sizes == [40_000, 10, 240]
    assert 40_250 < expected.bytes < 64 << 20


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "{}", '{"cases": -1, "outputs": []}', '{"cases": 1, "outputs": [{"dtype": "int8", "shape": [-4]}]}',
     '{"cases": 1000000, "outputs": [{"dtype": "float32", "shape": [1000000]}]}',
     '{"cases": 1e999, "outputs": []}'],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match=r"manifest.json is damaged|a board is asked for"):
        expected_of(tmp_path)
