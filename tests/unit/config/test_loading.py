"""Loading the declared files: what is refused, and what the message says."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.project_files import load_project, load_targets
from crossfarm.cli.schemas import SCHEMAS, schema
from crossfarm.config.diagnostics import ENOUGH_PROBLEMS, MAX_PROBLEMS
from crossfarm.config.loading import load_models, load_pipeline
from crossfarm.errors import EXIT_BAD_CONFIG, ConfigError

MODEL = """\
models:
  - name: digits
    licence: MIT
    source:
      package: digits==1.0
      sha256: "{sha}"
      path: digits.onnx
    inputs:
      - name: image
        shape: [1, 1, 28, 28]
""".replace("{sha}", "0" * 64)
TARGET = """\
name: armv7
machine: [armv7l]
code:
  triple: armv7l-linux-gnueabihf
  cpu: cortex-a53
  float_abi: hard
compiler:
  kind: zig
  target: arm-linux-gnueabihf.2.17
"""
PIPELINE = "name: default\ntargets: [armv7]\n"


def refused(load: Callable[[], object], folder: Path) -> list[str]:
    """Return the lines of the ConfigError, paths relative to `folder`."""
    with pytest.raises(ConfigError) as error:
        load()
    assert error.value.exit_code == EXIT_BAD_CONFIG
    return str(error.value).replace(f"{folder}/", "").splitlines()


@pytest.fixture
def models_problems(tmp_path: Path) -> Callable[[str], list[str]]:
    """Load a text as models.yaml and return what is told about it."""

    def problems(text: str) -> list[str]:
        path = tmp_path / "models.yaml"
        path.write_text(text, encoding="utf-8")
        return refused(lambda: load_models(path), tmp_path)

    return problems


Problems = Callable[[str], list[str]]


def test_the_example_that_the_other_tests_spoil_is_good(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(MODEL)
    assert [model.name for model in load_models(path).models] == ["digits"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("licence:", "license:", "3: models[0].license: unknown key 'license'; perhaps you meant 'licence'"),
        ("licence: MIT", "zzz: 1\n    licence: MIT", "3: models[0].zzz: unknown key 'zzz'; known here: name, source, "),
        ("    licence: MIT\n", "", "2: models[0]: the key 'licence' is missing; add it"),
        ("28, 28]", "28, '28']", "10: models[0].inputs[0].shape[3]: expected an integer, got '28'"),
        ("28, 28]", "28, true]", "10: models[0].inputs[0].shape[3]: expected an integer, got true"),
        ("28, 28]", "28, 2.5]", "10: models[0].inputs[0].shape[3]: expected an integer, got 2.5"),
        ("28, 28]", "28, -1]", "10: models[0].inputs[0].shape[3]: must be at least 1, got -1"),
        ("[1, 1, 28, 28]", "abc", "10: models[0].inputs[0].shape: expected a list of integers, got 'abc'"),
        ("[1, 1, 28, 28]", "{a: 1}", "10: models[0].inputs[0].shape: expected a list of integers, got a mapping"),
        ("[1, 1, 28, 28]", "", "10: models[0].inputs[0].shape: expected a list of integers, got nothing"),
        ("name: digits", "name: ../../x", "2: models[0].name: expected a name of small letters, digits and '_' "),
        ("name: digits", "name: a;rm -rf b", "2: models[0].name: expected a name of small letters, digits and '_' "),
        ("name: digits", "name: Digits", "2: models[0].name: expected a name of small letters, digits and '_' "),
        ("name: digits", 'name: "digits\\n"', "2: models[0].name: expected a name of small letters, digits and '_' "),
        ("name: digits", f"name: {'a' * 65}", "2: models[0].name: must have at most 64 characters, got 'aaa"),
        ("name: digits", "name: [a]", "2: models[0].name: expected a text, got ['a']"),
        (
            "package:",
            "pakage:",
            "4: models[0].source: give one of file, url, package, factory; perhaps you meant 'pack",
        ),
        ("package: digits==1.0", "{}", "6: not valid YAML: "),
        ("digits==1.0", "digits>=1.0", "5: models[0].source.package: expected a package with its exact version, "),
        ("path:", "url: https://a.org/\n      path:", "4: models[0].source: give only one of url and package"),
        ("path: digits.onnx", "path: ../x", "7: models[0].source.path: '../x' may lead out of its folder; give a "),
        ("path: digits.onnx", "path: /etc/x", "7: models[0].source.path: '/etc/x' may lead out of its folder; give a "),
        (
            "path: digits.onnx",
            "path: digits.onnx\n      pth: 1",
            "8: models[0].source.pth: unknown key 'pth'; perhaps you",
        ),
        ("00000000", "zzz", "6: models[0].source.sha256: expected a sha256 of 64 small hexadecimal digits, got 'zzz"),
        (
            "licence: MIT",
            "licence: MIT\n    format: onx",
            "4: models[0].format: expected one of onnx, tflite, torch, torchscript, got",
        ),
        (
            "licence: MIT",
            "licence: MIT\n    format: torch",
            "2: models[0]: format torch goes with a source that has a ",
        ),
        ("licence: MIT", "licence: MIT\n    licence: MIT", "4: the key 'licence' stands on line 3 already; keep one"),
        ("licence: MIT", "licence: MIT\n    data: [d]", "4: models[0].data[0]: there is no data set 'd'; declare it "),
        ("models:", "models: []\nx:", "1: models: must have at least 1 item, got []"),
        ("models:", "modles:", "1: modles: unknown key 'modles'; perhaps you meant 'models'"),
        ("models:", "defaults: 3\nmodels:", "1: defaults: expected a mapping, got 3"),
    ],
)
def test_bad_input_is_told_with_its_place(models_problems: Problems, before: str, after: str, message: str) -> None:
    assert before in MODEL
    told = models_problems(MODEL.replace(before, after, 1))
    assert any(line.startswith(f"models.yaml:{message}") for line in told), told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "preprocess: {mean: [a, 1, 2]}",
            "11: models[0].preprocess.mean: expected a number or a list of numbers, got ['a'",
        ),
        ("preprocess: {mean: abc}", "11: models[0].preprocess.mean: expected a number or a list of numbers, got 'abc'"),
        ("preprocess: {crop: [1]}", "11: models[0].preprocess.crop: expected a list of 2 integers, got [1]"),
        (
            "preprocess: {crop: [1, 2, 3]}",
            "11: models[0].preprocess.crop: expected a list of 2 integers, got [1, 2, 3]",
        ),
        (
            "preprocess: {scale: .nan}",
            "11: models[0].preprocess.scale: expected a number or a list of numbers, got nan",
        ),
        ("checks: {tolerance: .inf}", "11: models[0].checks.tolerance: expected a finite number, got inf"),
        ("checks: {tolerance: 0}", "11: models[0].checks.tolerance: must be more than 0.0, got 0"),
        (
            "decode: {kind: clasify}",
            "11: models[0].decode.kind: expected one of classify, ctc_text, threshold, boxes, masks, embeddings",
        ),
        (
            "decode: {top: 3}",
            "11: models[0].decode: the key 'kind' is missing; give one of classify, ctc_text, threshold, boxes, masks,",
        ),
        ("decode: classify", "11: models[0].decode: expected a mapping, got 'classify'"),
        ("decode: {kind: classify, tops: 3}", "11: models[0].decode.tops: unknown key 'tops'; perhaps you meant 'top'"),
        (
            "skip: [{target: armv7, reason: x}]",
            "11: models[0].skip[0].reason: must have at least 3 characters, got 'x'",
        ),
        (
            "variants: [int9]",
            "11: models[0].variants[0]: expected one of float32, int8, int8_shift, got 'int9'; perhaps you meant 'i",
        ),
        ("description: 12", "11: models[0].description: expected a text, got 12; put it in quotes"),
        ("random_cases: 65", "11: models[0].random_cases: must be at most 64, got 65"),
    ],
)
def test_bad_values_of_optional_keys_are_told(models_problems: Problems, text: str, message: str) -> None:
    told = models_problems(f"{MODEL}    {text}\n")
    assert len(told) == 1, told
    assert told[0].startswith(f"models.yaml:{message}")


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_lines(models_problems: Problems) -> None:
    text = (
        MODEL.replace("licence: MIT", "license: MIT").replace("28, 28", "28, x") + "    seed: -1\n    data: [nowhere]\n"
    )
    lines = [int(line.split(":")[1]) for line in models_problems(text)]
    assert lines == [2, 3, 10, 11, 12]


def test_two_models_of_one_name_are_told_with_both_lines(models_problems: Problems) -> None:
    text = MODEL + MODEL.removeprefix("models:\n")
    assert models_problems(text) == [
        "models.yaml:11: models[1].name: the name 'digits' is taken on line 2; choose another"
    ]


def test_two_data_sets_of_one_name_are_told_with_both_lines(models_problems: Problems) -> None:
    entry = "  - {name: lines, kind: rendered_text, texts: [a]}\n"
    assert models_problems(f"{MODEL}datasets:\n{entry}{entry}") == [
        "models.yaml:13: datasets[1].name: the name 'lines' is taken on line 12; choose another"
    ]


def test_an_unknown_data_set_gets_the_nearest_name(models_problems: Problems) -> None:
    dataset = "datasets:\n  - {name: lines, kind: rendered_text, texts: [a]}\n"
    told = models_problems(f"{dataset}{MODEL}    preprocess: {{channels: GRAY}}\n    data: [linse]\n")
    assert told == ["models.yaml:14: models[0].data[0]: there is no data set 'linse'; perhaps you meant 'lines'"]


def test_a_file_that_is_missing_is_told(models_problems: Problems, tmp_path: Path) -> None:
    text = re.sub(r"package:.*\n.*\n.*\n", "file: nets/digits.onnx\n", MODEL)
    (told,) = models_problems(text)
    assert told.startswith("models.yaml:5: models[0].source.file: there is no file 'nets/digits.onnx' in ")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "digits.onnx").touch()
    assert load_models(tmp_path / "models.yaml").models[0].source.file == "nets/digits.onnx"


def test_an_error_in_a_default_is_told_once_where_it_is_written(models_problems: Problems) -> None:
    defaults = "defaults:\n  checks:\n    tolerance: abc\n  licenze: MIT\n"
    text = defaults + MODEL + MODEL.removeprefix("models:\n").replace("name: digits", "name: more")
    assert models_problems(text) == [
        "models.yaml:3: defaults.checks.tolerance: expected a number, got 'abc'",
        "models.yaml:4: defaults.licenze: unknown key 'licenze'; perhaps you meant 'licence'",
    ]


def test_an_error_beside_a_merged_default_is_told_in_the_model(models_problems: Problems) -> None:
    told = models_problems(f"defaults:\n  checks: {{argmax: 1.0}}\n{MODEL}    checks: {{top1: 2}}\n")
    assert told == ["models.yaml:13: models[0].checks.top1: must be at most 1.0, got 2"]


def test_very_many_problems_are_cut(models_problems: Problems) -> None:
    told = models_problems("models:\n" + "  - 1\n" * (MAX_PROBLEMS + 5))
    assert len(told) == MAX_PROBLEMS + 1
    assert told[-1] == "... and 5 more; correct these first"
    told = models_problems("models:\n" + "  - 1\n" * 10_000)
    assert told[-1] == f"... and at least {ENOUGH_PROBLEMS - MAX_PROBLEMS} more; correct these first"


def test_a_missing_models_file_is_told(tmp_path: Path) -> None:
    assert refused(lambda: load_models(tmp_path / "models.yaml"), tmp_path) == [
        "models.yaml:1: there is no such file; check the path"
    ]


def test_a_path_below_the_current_folder_is_shown_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^nets/models\.yaml:1: there is no such file"):
        load_models(tmp_path / "nets" / "models.yaml")


@pytest.mark.parametrize("text", ["- a\n", "abc\n", "3\n", "~\n"])
def test_a_file_that_is_no_mapping_is_told(models_problems: Problems, text: str) -> None:
    (told,) = models_problems(text)
    assert told.startswith("models.yaml:1: expected a mapping of keys, got ")


class TestTargetsAndPipelines:
    """Files that are called as their name."""

    def test_a_target_is_found_by_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "armv7.yaml").write_text(TARGET)
        assert load_targets(tmp_path)["armv7"].code.cpu == "cortex-a53"

    def test_a_file_called_otherwise_than_its_name_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "armv8.yaml").write_text(TARGET)
        assert refused(lambda: load_targets(tmp_path), tmp_path) == [
            "armv8.yaml:1: name: the file is called armv8.yaml, its name is 'armv7'; make both the same"
        ]

    def test_the_problems_of_every_toolchain_file_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(TARGET.replace("armv7\n", "a\n").replace("float_abi", "float_api"))
        (tmp_path / "b.yaml").write_text(TARGET.replace("armv7\n", "b\n").replace("kind: zig", "kind: zag"))
        told = refused(lambda: load_targets(tmp_path), tmp_path)
        assert told[0] == "a.yaml:6: code.float_api: unknown key 'float_api'; perhaps you meant 'float_abi'"
        assert told[1] == "b.yaml:8: compiler.kind: expected one of zig, command, got 'zag'; perhaps you meant 'zig'"

    @pytest.mark.parametrize("create", [True, False])
    def test_a_folder_without_toolchains_is_told(self, tmp_path: Path, create: bool) -> None:
        folder = tmp_path / "toolchains"
        if create:
            folder.mkdir()
        (told,) = refused(lambda: load_targets(folder), tmp_path)
        assert told.startswith("toolchains:1: holds no toolchain file NAME.yaml")

    def test_a_pipeline_with_an_unknown_stage_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "default.yaml"
        path.write_text(PIPELINE + "stages: [fetch, mesure]\n")
        (told,) = refused(lambda: load_pipeline(path), tmp_path)
        assert told.startswith("default.yaml:3: stages[1]: expected one of fetch, prepare, ")
        assert told.endswith("got 'mesure'; perhaps you meant 'measure'")


@pytest.fixture
def project(tmp_path: Path) -> dict[str, Path]:
    """The files of a good project, as load_project takes them."""
    (tmp_path / "toolchains").mkdir()
    (tmp_path / "models.yaml").write_text(MODEL)
    (tmp_path / "toolchains" / "armv7.yaml").write_text(TARGET)
    (tmp_path / "default.yaml").write_text(PIPELINE)
    return {
        "models": tmp_path / "models.yaml",
        "toolchains": tmp_path / "toolchains",
        "pipeline": tmp_path / "default.yaml",
    }


def test_a_project_knows_the_line_of_every_model(project: dict[str, Path]) -> None:
    text = MODEL + "\n# two more\n" + MODEL.removeprefix("models:\n").replace("name: digits", "name: more")
    project["models"].write_text(text)
    loaded = load_project(**project)
    assert loaded.lines == {"digits": 2, "more": 13}
    assert loaded.root == project["models"].parent
    assert list(loaded.targets) == ["armv7"]
    assert loaded.pipeline.name == "default"


def test_files_of_a_project_are_checked_against_each_other(project: dict[str, Path], tmp_path: Path) -> None:
    project["models"].write_text(MODEL + "    skip:\n      - {target: armv8, reason: it is slow}\n")
    project["pipeline"].write_text('name: default\ntargets: [arnv7]\nmodels: ["dig*", digit, "x*"]\n')
    assert refused(lambda: load_project(**project), tmp_path) == [
        "default.yaml:2: targets[0]: there is no target 'arnv7'; perhaps you meant 'armv7'",
        "default.yaml:3: models[1]: no model is called 'digit'; perhaps you meant 'digits'",
        "default.yaml:3: models[2]: no model is called 'x*'; correct the glob",
        "models.yaml:12: models[0].skip[0].target: there is no target 'armv8'; perhaps you meant 'armv7'",
    ]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("simulator.eqal", "is called 'simulator.eqal'; perhaps you meant 'simulator.equal'"),
        ("accuracy.output.y", None),
        ("accuracy.output.*", None),
        ("accuracy.argmx", "is called 'accuracy.argmx'; perhaps you meant 'accuracy.argmax'"),
        ("compile", None),
        ("budget.latency_p50", None),
        ("prepare", "is called 'prepare'; there are accuracy.argmax, "),
        ("nothing like it at all", "is called 'nothing like it at all'; there are accuracy.argmax, "),
    ],
)
def test_a_known_failure_of_a_check_that_there_is_not_is_refused_with_the_nearest(
    project: dict[str, Path], tmp_path: Path, check: str, told: str | None
) -> None:
    entry = f"{{check: '{check}', targets: [armv7], reason: it is slow}}"
    project["models"].write_text(f"{MODEL}    expected:\n      - {entry}\n")
    if told is None:
        assert load_project(**project).models_file.models[0].expected[0].check == check
    else:
        (line,) = refused(lambda: load_project(**project), tmp_path)
        assert line.startswith("models.yaml:12: models[0].expected[0].check: no check or stage that may fail ")
        assert told in line


def test_a_known_failure_on_a_target_that_there_is_not_is_refused_with_the_nearest(
    project: dict[str, Path], tmp_path: Path
) -> None:
    entry = "{check: compile, targets: [armv7, arnv7], reason: it is slow, link: not an address}"
    project["models"].write_text(f"{MODEL}    expected:\n      - {entry}\n")
    lines = refused(lambda: load_project(**project), tmp_path)
    assert (
        "models.yaml:12: models[0].expected[0].targets[1]: there is no target 'arnv7'; perhaps you meant 'armv7'"
        in lines
    )
    assert any("expected[0].link: expected an address, `https://...`" in line for line in lines)


def test_problems_of_all_files_of_a_project_are_told_at_once(project: dict[str, Path], tmp_path: Path) -> None:
    project["models"].write_text("models: 3\n")
    project["pipeline"].write_text("name: default\n")
    (tmp_path / "toolchains" / "armv7.yaml").write_text("name: [\n")
    told = refused(lambda: load_project(**project), tmp_path)
    assert [line.split(":")[0] for line in told] == ["default.yaml", "models.yaml", "toolchains/armv7.yaml"]


KEYS = st.sampled_from(
    sorted({key for name in SCHEMAS for part in schema(name)["$defs"].values() for key in part.get("properties", ())})
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
LOADERS: dict[str, Callable[[Path], object]] = {
    "models": load_models,
    "armv7": lambda path: load_targets(path.parent),
    "default": load_pipeline,
}
EXAMPLES = {"models": MODEL, "armv7": TARGET, "default": PIPELINE}


def assert_loads_or_explains(name: str, document: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.yaml")
        path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8", errors="replace")
        try:
            LOADERS[name](path)
        except ConfigError as error:
            for line in str(error).splitlines():
                assert re.match(rf"{re.escape(str(path))}:[1-9]\d*: .|\.\.\. and (at least )?\d+ more; ", line), line


@given(name=st.sampled_from(sorted(LOADERS)), document=JSON_LIKE)
def test_any_document_is_loaded_or_explained(name: str, document: object) -> None:
    assert_loads_or_explains(name, document)


@st.composite
def spoilt_examples(draw: st.DrawFn) -> tuple[str, Any]:
    """A good document in which one value, anywhere, was replaced."""
    name = draw(st.sampled_from(sorted(EXAMPLES)))
    document = yaml.safe_load(EXAMPLES[name])
    node = document
    while True:
        step = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[step], dict | list) and node[step] and draw(st.booleans()):
            node = node[step]
            continue
        node[step] = draw(JSON_LIKE)
        return name, json.loads(json.dumps(document))


@given(spoilt_examples())
def test_any_spoilt_example_is_loaded_or_explained(case: tuple[str, Any]) -> None:
    assert_loads_or_explains(*case)
