"""What every Dockerfile of the project keeps to, and how Dockerfiles are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.config.targets import ZigCompiler
from crossfarm.errors import ConfigError
from crossfarm.images.dockerfile import copied_files, instructions
from crossfarm.images.identity import BASE, dockerfile_path, known_names
from crossfarm.util.paths import HOME

NAMES = known_names(HOME)
FILE = Path("x.Dockerfile")


def _text(name: str) -> str:
    return (HOME / dockerfile_path(name)).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_begins_with_the_base_that_it_is_given(name: str) -> None:
    first, second, *_ = instructions(_text(name))
    assert (first.keyword, first.arguments) == ("ARG", "BASE_IMAGE=debian:bookworm-slim")
    assert (second.keyword, second.arguments) == ("FROM", "${BASE_IMAGE}")


@pytest.mark.parametrize("name", NAMES)
def test_an_image_ends_as_an_ordinary_user(name: str) -> None:
    users = [step.arguments for step in instructions(_text(name)) if step.keyword == "USER"]
    assert users[-1] == "farm"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_says_what_it_is(name: str) -> None:
    labels = " ".join(step.arguments for step in instructions(_text(name)) if step.keyword == "LABEL")
    for key in ("title", "description", "licenses"):
        assert f"org.opencontainers.image.{key}=" in labels


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_needs_nothing_that_only_some_builders_know(name: str) -> None:
    text = _text(name)
    assert "--mount" not in text
    assert "<<" not in text
    assert "syntax=" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_holds_no_settings_of_a_site(name: str) -> None:
    assert not re.search(r"https?://|proxy|\.crt|PIP_|index-url|trusted", _text(name), re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_file_passes_the_dockerignore(name: str) -> None:
    passed = {line[1:] for line in (HOME / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied_files(dockerfile_path(name), _text(name))) <= passed


def test_foreign_images_share_the_layer_of_the_emulator() -> None:
    steps = {
        next(step.arguments for step in instructions(_text(name)) if "qemu-user-static" in step.arguments)
        for name in ("aarch64", "armv6", "armv7", "riscv64")
    }
    assert len(steps) == 1


@pytest.mark.parametrize(
    ("image", "compiler", "linkage"),
    [
        pytest.param(target.image, target.compiler, target.linkage, id=name)
        for name, target in load_targets(HOME / "toolchains").items()
        if target.image and isinstance(target.compiler, ZigCompiler)
    ],
)
def test_the_prebuilt_c_library_is_the_one_that_the_toolchain_file_asks_for(
    image: str, compiler: ZigCompiler, linkage: str
) -> None:
    steps = [step for step in instructions(_text(image)) if "prebuild-c-library -" in step.arguments]
    found = {}
    for step in steps:
        words = step.arguments.split()
        assert set(compiler.flags) <= set(words)
        found[words[words.index("-target") + 1]] = "-static" in words
    programs = {} if compiler.program_target is None else {compiler.program_target: True}
    assert found == {compiler.target: linkage == "static", **programs}


def test_an_instruction_knows_its_line_and_joins_what_goes_on() -> None:
    text = "# a comment\nFROM x\n\nRUN one \\\n    # why\n    && two\nuser y\n"
    assert [(step.line, step.keyword, step.arguments) for step in instructions(text)] == [
        (2, "FROM", "x"),
        (4, "RUN", "one && two"),
        (7, "USER", "y"),
    ]


def test_copied_files_are_found_whatever_form_the_instruction_has() -> None:
    text = 'FROM x\nCOPY --chown=1:1 b c/d /to/\nCOPY ["a", "/to/a"]\nCOPY --from=other /x /y\n'
    assert copied_files(FILE, text) == ("a", "b", "c/d")


@pytest.mark.parametrize(
    "line",
    [
        "COPY . /x",
        "COPY ../up /x",
        "COPY /etc/passwd /x",
        "COPY *.txt /x",
        "COPY $A /x",
        "ADD a /x",
        "COPY /x",
        "COPY [a",
    ],
)
def test_a_context_that_cannot_be_known_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.Dockerfile:2: "):
        copied_files(FILE, f"FROM x\n{line}\n")


def test_the_base_is_among_the_images() -> None:
    assert BASE in NAMES
