"""A wheel is what the standard says, and the same bytes from the same files."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import zipfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crossfarm.bundles.packages.wheel import Metadata, WheelFile, write_wheel

METADATA = Metadata(
    name="shapes",
    version="1.2.0+abc",
    platforms=("linux_armv6l", "linux_armv7l"),
    summary="Shapes",
    licence="MIT",
    description="# shapes\n",
    requires=("numpy", 'pillow; extra == "images"'),
    extras=("images",),
    generator="crossfarm 1",
)
FILES = {
    "shapes/__init__.py": WheelFile(content=b"x = 1\n"),
    "shapes/server": WheelFile(content=b"\x7fELF", is_executable=True),
}
NAMES = st.text(alphabet="abcxyz_/", min_size=1, max_size=12).filter(
    lambda name: not name.startswith("/") and not name.endswith("/") and "//" not in name
)


def _write(folder: Path, files: dict[str, WheelFile] = FILES) -> Path:
    path = folder / METADATA.file_name
    write_wheel(path, METADATA, files)
    return path


def test_the_name_says_what_it_fits() -> None:
    assert METADATA.file_name == "shapes-1.2.0+abc-py3-none-linux_armv6l.linux_armv7l.whl"


def test_the_metadata_can_be_read_as_the_standard_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(_write(tmp_path)) as archive:
        metadata = email.message_from_bytes(archive.read("shapes-1.2.0+abc.dist-info/METADATA"))
        wheel = email.message_from_bytes(archive.read("shapes-1.2.0+abc.dist-info/WHEEL"))
    assert (metadata["Name"], metadata["Version"], metadata["License"]) == ("shapes", "1.2.0+abc", "MIT")
    assert metadata.get_all("Requires-Dist") == ["numpy", 'pillow; extra == "images"']
    assert metadata.get_payload() == "# shapes\n"
    assert wheel["Root-Is-Purelib"] == "false"
    assert wheel.get_all("Tag") == ["py3-none-linux_armv6l", "py3-none-linux_armv7l"]


def test_programs_may_be_executed_and_other_files_not(tmp_path: Path) -> None:
    with zipfile.ZipFile(_write(tmp_path)) as archive:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
    assert modes["shapes/server"] == 0o755
    assert modes["shapes/__init__.py"] == 0o644


@given(st.dictionaries(NAMES, st.binary(max_size=64), max_size=5))
def test_the_record_has_every_file_and_the_order_of_files_counts_for_nothing(contents: dict[str, bytes]) -> None:
    files = {name: WheelFile(content=content) for name, content in contents.items()}
    written = []
    for order in (files, dict(reversed(files.items()))):
        stream = io.BytesIO()
        write_wheel(stream, METADATA, order)  # type: ignore[arg-type]
        written.append(stream.getvalue())
    assert written[0] == written[1]
    with zipfile.ZipFile(io.BytesIO(written[0])) as archive:
        record = archive.read("shapes-1.2.0+abc.dist-info/RECORD").decode()
        rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(record))}
        assert set(rows) == set(archive.namelist())
        for name in archive.namelist():
            if name.endswith("RECORD"):
                assert rows[name] == ("", "")
                continue
            content = archive.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert rows[name] == (f"sha256={digest}", str(len(content)))
