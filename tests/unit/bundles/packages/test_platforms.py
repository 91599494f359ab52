"""The platform tag follows from the code."""

from __future__ import annotations

import platform
import re
import struct
from pathlib import Path

import numpy
import pytest

from crossfarm.bundles.packages.platforms import platform_tags
from crossfarm.errors import BundleError

EM_ARM, EM_X86_64, EM_AARCH64, EM_MIPS = 40, 62, 183, 8


def _program(path: Path, machine: int) -> Path:
    """Write the header of a statically linked program."""
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    path.write_bytes(ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 0, 0, 0, 52, 32, 0, 40, 0, 0))
    return path


def test_a_static_program_fits_every_machine_that_is_named(tmp_path: Path) -> None:
    code = _program(tmp_path / "server", EM_ARM)
    assert platform_tags(code, ("armv6l", "armv7l", "armv8l")) == ("linux_armv6l", "linux_armv7l")
    assert platform_tags(code, ("armv7l", "armv8l")) == ("linux_armv7l",)


def test_macos_names_are_no_tags_of_linux(tmp_path: Path) -> None:
    assert platform_tags(_program(tmp_path / "server", EM_AARCH64), ("aarch64", "arm64")) == ("linux_aarch64",)


@pytest.mark.parametrize(("machine", "named"), [(EM_X86_64, "EM_X86_64"), (EM_MIPS, "EM_MIPS")])
def test_code_for_another_machine_is_refused(tmp_path: Path, machine: int, named: str) -> None:
    with pytest.raises(BundleError, match=f"server is code for {named}, but .* armv7l"):
        platform_tags(_program(tmp_path / "server", machine), ("armv7l",))


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(BundleError, match="server cannot be read"):
        platform_tags(tmp_path / "server", ("armv7l",))


def test_a_library_needs_the_newest_glibc_that_it_asks_for() -> None:
    library = next((Path(numpy.__file__).parent / "_core").glob("_multiarray_umath*.so"))
    machine = platform.machine()
    (tag,) = platform_tags(library, (machine,))
    found = re.fullmatch(rf"manylinux_2_(\d+)_{machine}", tag)
    assert found
    asked = {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes())}
    assert int(found[1]) == max({17, *asked})
