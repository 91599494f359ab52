"""The stage `c_library`: what its key depends on, and when zig's cache no longer holds what it built."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from crossfarm.bundles.linking.c_library import CACHE, IN_IMAGE, building
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import Target, ZigCompiler, target_with
from crossfarm.stages.c_library import stage as c_library
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Needs, Subject
from crossfarm.stages.runner import stage as runner
from crossfarm.util.paths import HOME

TOOLCHAINS = HOME / "toolchains"


def _target(name: str) -> Target:
    return target_with(LlvmCode).model_validate(yaml.safe_load((TOOLCHAINS / f"{name}.yaml").read_text()))


def _needs(target: Target) -> Needs:
    return c_library.needs(Subject(pipeline=Pipeline(name="test", targets=(target.name,)), target=target))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "zig"))
    monkeypatch.delenv(IN_IMAGE, raising=False)
    return tmp_path / "zig"


def _build(compiler: ZigCompiler, *, static: bool) -> None:
    with building(compiler, static=static, log=io.StringIO()) as is_wanted:
        assert is_wanted


def test_kinds_of_code_that_share_a_c_compiler_share_the_key() -> None:
    assert _needs(_target("x86_64")) == _needs(_target("x86_64_v4"))
    assert _needs(_target("x86_64")) != _needs(_target("aarch64"))


def test_a_subject_without_a_target_is_refused() -> None:
    for stage in (c_library, runner):
        with pytest.raises(ValueError, match="is about a target"):
            stage.needs(Subject(pipeline=Pipeline(name="test", targets=("x",))))


def test_what_the_cache_lacks_is_named(cache: Path) -> None:
    groups = _needs(_target("x86_64")).parameters
    said = c_library.lost(groups, cache=cache)
    assert said == f"{cache} has no C library of x86_64-linux-gnu.2.17 and x86_64-linux-musl"
    _build(ZigCompiler(kind="zig", target="x86_64-linux-musl"), static=True)
    assert c_library.lost(groups, cache=cache) == f"{cache} has no C library of x86_64-linux-gnu.2.17"
    _build(ZigCompiler(kind="zig", target="x86_64-linux-gnu.2.17", program_target="x86_64-linux-musl"), static=False)
    assert c_library.lost(groups, cache=cache) == ""


def test_the_artifact_names_what_was_built_and_nothing_of_this_host(cache: Path, tmp_path: Path) -> None:
    _build(ZigCompiler(kind="zig", target="x86_64-linux-musl"), static=True)
    _build(ZigCompiler(kind="zig", target="x86_64-linux-gnu.2.17", program_target="x86_64-linux-musl"), static=False)
    job = Job(
        id="c_library:x86_64",
        stage="c_library",
        key="0",
        parameters=_needs(_target("x86_64")).parameters,
        inputs={},
        output=tmp_path,
        root=tmp_path,
    )
    c_library.run(job)
    said = json.loads((tmp_path / c_library.BUILT).read_text())
    assert said == {"targets": ["x86_64-linux-gnu.2.17", "x86_64-linux-musl"]}
