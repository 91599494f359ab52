"""How the C compiler is called, and what is said when it cannot be."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.errors import ConfigError, ToolError

_Usage = collections.namedtuple("_Usage", ("total", "used", "free"))


def _shell(tmp_path: Path, script: str, **options: object) -> Toolchain:
    """A toolchain whose compiler is a shell script, which sees the arguments that a compiler would."""
    program = tmp_path / "compiler"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    compiler = CommandCompiler.model_validate(
        {"kind": "command", "command": [str(program)], "archiver": [str(program)], **options}
    )
    return Toolchain(compiler=compiler, static=False, folder=tmp_path)


def _arguments(tmp_path: Path) -> list[str]:
    return (tmp_path / "arguments").read_text().splitlines()


KEEP_ARGUMENTS = 'printf "%s\\n" "$@" > arguments'


def test_compilation_turns_warnings_into_errors_and_writes_no_debug_information(tmp_path: Path) -> None:
    _shell(tmp_path, KEEP_ARGUMENTS, flags=["-mcpu=arm1176jzf-s"]).compile("main.c", "main.o")
    arguments = _arguments(tmp_path)
    assert arguments[0] == "-mcpu=arm1176jzf-s"
    assert arguments[-4:] == ["-c", "main.c", "-o", "main.o"]
    assert {"-Werror", "-g0", "-fPIC", "-fvisibility=hidden"} <= set(arguments)


def test_archives_carry_no_time_stamps(tmp_path: Path) -> None:
    _shell(tmp_path, KEEP_ARGUMENTS).archive(["a.o", "b.o"], "libx.a")
    assert _arguments(tmp_path) == ["rcsD", "libx.a", "a.o", "b.o"]


def test_a_library_is_called_as_it_is_named_and_shows_what_the_script_lists(tmp_path: Path) -> None:
    _shell(tmp_path, KEEP_ARGUMENTS).link_library(["a.o"], "libx.so", exports="model.map")
    assert {"-shared", "-Wl,-soname,libx.so", "-Wl,--version-script=model.map"} <= set(_arguments(tmp_path))


def test_the_compiler_runs_in_its_folder(tmp_path: Path) -> None:
    _shell(tmp_path, "pwd > where").link_program(["a.o"], "program")
    assert Path((tmp_path / "where").read_text().strip()).samefile(tmp_path)


def test_a_failure_shows_the_command_and_the_end_of_what_it_said(tmp_path: Path) -> None:
    toolchain = _shell(tmp_path, "for k in $(seq 30); do echo line $k >&2; done; exit 7")
    with pytest.raises(ToolError) as caught:
        toolchain.compile("main.c", "main.o")
    text = str(caught.value)
    assert "-c main.c -o main.o ended with 7" in text
    assert "line 30" in text
    assert "line 20\n" not in text


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    compiler = CommandCompiler(kind="command", command=("no-such-gcc",))
    with pytest.raises(ToolError, match="no-such-gcc is not installed"):
        Toolchain(compiler=compiler, static=False, folder=tmp_path).compile("main.c", "main.o")


def test_a_name_with_blanks_and_semicolons_stays_one_argument(tmp_path: Path) -> None:
    _shell(tmp_path, KEEP_ARGUMENTS).archive(["a b;rm -rf c.o"], "$(id).a")
    assert _arguments(tmp_path) == ["rcsD", "$(id).a", "a b;rm -rf c.o"]


def test_a_static_program_over_glibc_is_refused(tmp_path: Path) -> None:
    compiler = ZigCompiler(kind="zig", target="aarch64-linux-gnu.2.17")
    with pytest.raises(ConfigError, match="static needs a musl target"):
        Toolchain(compiler=compiler, static=True, folder=tmp_path)


def test_programs_are_made_as_libraries_are_unless_they_have_a_target_of_their_own(tmp_path: Path) -> None:
    plain = ZigCompiler(kind="zig", target="x86_64-linux-gnu.2.17", flags=("-O1",))
    toolchain = Toolchain(compiler=plain, static=False, folder=tmp_path)
    assert toolchain.for_programs() is toolchain
    split = plain.model_copy(update={"program_target": "x86_64-linux-musl"})
    programs = Toolchain(compiler=split, static=False, folder=tmp_path).for_programs()
    wanted = ZigCompiler(kind="zig", target="x86_64-linux-musl", flags=("-O1",))
    assert programs == Toolchain(compiler=wanted, static=True, folder=tmp_path)


def test_a_tool_that_fails_where_no_room_is_left_is_told_as_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain = _shell(tmp_path, "kill -ABRT $$")
    with pytest.raises(ToolError, match=r"ended with"):
        toolchain.compile("a.c", "a.o")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: _Usage(total=300 << 10, used=290 << 10, free=10 << 10))
    with pytest.raises(ToolError, match=r"^the disk is full: 10240 bytes are left in .*make room"):
        toolchain.compile("a.c", "a.o")
