"""A bundle that is not whole, or not this program's own: always a clear line and exit code 3, never a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.runner.building import Bundle, make_bundle, weights_file

pytestmark = pytest.mark.integration

FOREIGN = "the bundle is another's"
AGAIN = "copy the bundle again"


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    content = change(path.read_bytes())
    path.unlink()  # the program is a link to a file that other tests use
    path.write_bytes(content)


def test_a_folder_that_is_none_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "manifest.json").rename(tmp_path / "manifest.json")
    assert bundle.refusal() == f"manifest.json: missing; {AGAIN}"


@pytest.mark.parametrize("path", ["weights.bin", "inputs/0.bin"])
def test_a_missing_file_is_named(bundle: Bundle, path: str) -> None:
    (bundle.folder / path).unlink()
    assert bundle.refusal() == f"{path}: missing; {AGAIN}"


@pytest.mark.parametrize(("path", "size"), [("weights.bin", 128), ("inputs/0.bin", 192), ("inputs/1.bin", 12)])
def test_a_truncated_file_is_told_with_its_sizes(bundle: Bundle, path: str, size: int) -> None:
    for left in (0, 1, size - 1):
        os.truncate(bundle.folder / path, left)
        assert bundle.refusal("--no-verify") == f"{path}: truncated, {left} bytes of {size}; {AGAIN}"


def test_a_file_that_is_too_long_is_told(bundle: Bundle) -> None:
    spoil(bundle.folder / "weights.bin", lambda content: content + b"x")
    assert bundle.refusal() == f"weights.bin: too long, 129 bytes of 128; {AGAIN}"


@pytest.mark.parametrize("path", ["weights.bin", "inputs/1.bin"])
def test_one_flipped_bit_is_found(bundle: Bundle, path: str) -> None:
    spoil(bundle.folder / path, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert bundle.refusal().startswith(f"{path}: corrupt, sha256 ")


def test_digests_are_not_looked_at_when_told_so(bundle: Bundle) -> None:
    spoil(bundle.folder / "weights.bin", lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert bundle.result("--no-verify")["verify_ns"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (weights_file(identity="f" * 64), "weights of another model or another build of sample for host"),
        (b"ONNXMODL" + weights_file()[8:], "not a crossfarm weights file"),
        (weights_file(version=2), "weights of format 2, this program reads format 1"),
        (weights_file()[:12] + b"\1" + weights_file()[13:], "the header is corrupt"),
        (weights_file()[:16] + b"\1" + weights_file()[17:], "the header is corrupt"),
        (weights_file()[:63] + b"\1" + weights_file()[64:], "the header is corrupt"),
    ],
)
def test_weights_of_another_build_are_refused_even_when_the_manifest_agrees(
    bundle: Bundle, content: bytes, message: str
) -> None:
    (bundle.folder / "weights.bin").write_bytes(content)
    bundle.describe_files()
    assert bundle.refusal().startswith(f"{bundle.folder}/weights.bin: {message}")


def change(path: str, value: Any) -> Callable[[Any], None]:
    """Return what sets one value of the manifest: `inputs.0.dtype`."""

    def apply(manifest: Any) -> None:
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        for parent in parents:
            manifest = manifest[parent]
        manifest[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "format 2, this program reads format 1; bundle the model again"),
        ("format", "1", "'format' is not a number; bundle the model again"),
        ("model", "other", f"'model' is 'other', but this program was compiled for 'sample'; {FOREIGN}"),
        ("target", "mars", f"'target' is 'mars', but this program was compiled for 'host'; {FOREIGN}"),
        ("target", None, "'target' is not a text; bundle the model again"),
        ("model", "a\nb", f"'model' is 'a b', but this program was compiled for 'sample'; {FOREIGN}"),
        ("cases", 0, "'cases' is not a number from 1 to 1000000; bundle the model again"),
        ("cases", 2.0, "'cases' is not a number from 1 to 1000000; bundle the model again"),
        ("cases", 9223372036854775807, "'cases' is not a number from 1 to 1000000; bundle the model again"),
        ("cases", 2, "inputs[0].file ('inputs/0.bin') has 192 bytes, which is not the size of 2 cases; bundle the "
         "model again"),
        ("inputs.0.name", "x", f"inputs[0] is 'x', but this program was compiled for 'values'; {FOREIGN}"),
        ("inputs.0.dtype", "int8", f"inputs[0] is 'int8', but this program was compiled for 'float32'; {FOREIGN}"),
        ("inputs.0.shape", [8, 2], "inputs[0] ('values') has another shape than the one that this program was compiled "
         f"for; {FOREIGN}"),
        ("outputs.1.shape", [1], "outputs[1] ('echo') has another shape than the one that this program was compiled "
         f"for; {FOREIGN}"),
        ("outputs.0.shape", [2, 8.0], "outputs[0] ('share') has another shape than the one that this program was "
         f"compiled for; {FOREIGN}"),
        ("outputs", [], f"'outputs' has 0 entries, but this program has 3; {FOREIGN}"),
        ("outputs.2", 7, "outputs[2] is not a name, a dtype and a shape; bundle the model again"),
        ("inputs", {}, "'inputs' is not a list; bundle the model again"),
        ("inputs.1.file", "inputs/9.bin", "inputs[1].file is not one of 'files'; bundle the model again"),
        ("weights", None, "'weights' is not a file and sizes; bundle the model again"),
        ("weights.file", "inputs/0.bin", f"'weights' has other sizes than this program was compiled for; {FOREIGN}"),
        ("weights.arena_bytes", 1, f"'weights' has other sizes than this program was compiled for; {FOREIGN}"),
        ("files", [], "'files' is not complete: it lacks 'program'; bundle the model again"),
        ("files.0.sha256", "abc", "files[0] is not a path, a size and a sha256; bundle the model again"),
        ("files.0.sha256", "A" * 64, "files[0] is not a path, a size and a sha256; bundle the model again"),
        ("files.0.bytes", -1, "files[0] is not a path, a size and a sha256; bundle the model again"),
        ("files.0.path", "program", "files[2] is not named once; bundle the model again"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(bundle: Bundle, path: str, value: Any, message: str) -> None:
    bundle.edit_manifest(change(path, value))
    assert bundle.refusal() == f"manifest.json: {message}"


def test_a_wrong_identity_is_refused(bundle: Bundle) -> None:
    bundle.edit_manifest(change("identity", "f" * 64))
    assert bundle.refusal().startswith(f"manifest.json: 'identity' is '{'f' * 64}', but this program was compiled for ")


@pytest.mark.parametrize(
    "path",
    ["../secret.bin", "/etc/passwd", "inputs/../../secret.bin", "./weights.bin", "inputs//0.bin", "inputs/", "", "..",
     "a\tb", "x" * 256],
)  # fmt: skip
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Bundle, path: str) -> None:
    (bundle.folder.parent / "secret.bin").write_bytes(b"secret")
    bundle.edit_manifest(change("files.0.path", path))
    refusal = bundle.refusal()
    assert refusal.startswith("manifest.json: files[0]: the path '")
    assert refusal.endswith("' leaves the bundle")


def test_a_link_out_of_the_bundle_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "weights.bin").rename(tmp_path / "weights.bin")
    (bundle.folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    assert bundle.refusal() == f"weights.bin: a symbolic link; {AGAIN}"


def test_a_folder_that_is_a_link_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "inputs").rename(tmp_path / "inputs")
    (bundle.folder / "inputs").symlink_to(tmp_path / "inputs")
    assert bundle.refusal().startswith("inputs/0.bin: ")


def test_a_pipe_in_place_of_a_file_does_not_hang(bundle: Bundle) -> None:
    for name in ("weights.bin", "manifest.json"):
        (bundle.folder / name).unlink()
        os.mkfifo(bundle.folder / name)
        assert bundle.refusal() == f"{name}: not a regular file; {AGAIN}"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b"\0" * 10])
def test_a_manifest_that_is_none_is_refused(bundle: Bundle, content: bytes) -> None:
    (bundle.folder / "manifest.json").write_bytes(content)
    assert bundle.refusal().startswith("manifest.json: ")


def test_a_huge_manifest_is_refused_unread(bundle: Bundle) -> None:
    os.truncate(bundle.folder / "manifest.json", 1 << 40)
    assert bundle.refusal() == "manifest.json: 1099511627776 bytes are too many for a manifest"


def test_unknown_keys_of_a_later_version_are_passed_over(bundle: Bundle) -> None:
    bundle.edit_manifest(lambda manifest: manifest.update(later={"deep": [1.5e300, None, True, "\N{GRINNING FACE}"]}))
    assert bundle.result()["cases"] == 3


def spliced(content: bytes, at: float, removed: int, inserted: bytes) -> bytes:
    start = int(at * len(content))
    return content[:start] + inserted + content[start + removed :]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 8),
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b"-", b"1e9", b"null", b","]),
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_bytes_in_place_of_the_manifest_are_used_or_refused(
    sample_program: Path, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, bytes]]
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("fuzzed") / "bundle", sample_program, cases=1)
    content = (bundle.folder / "manifest.json").read_bytes()
    for edit in edits:
        content = spliced(content, *edit)
    (bundle.folder / "manifest.json").write_bytes(content)
    done = bundle.run("--repeat=1")
    if done.returncode != 0:
        assert bundle.refusal("--repeat=1") != ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_value_at_any_place_of_the_manifest_is_used_or_refused(
    sample_program: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("fuzzed") / "bundle", sample_program, cases=1)
    manifest: Any = bundle.manifest
    node = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(json_values)
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = bundle.run("--repeat=1")
    if done.returncode != 0:
        assert bundle.refusal("--repeat=1") != ""


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ("OFFSET_OF_RESULT=256", "tensor 4 reaches past its memory"),
        ("OFFSET_OF_RESULT=0xffffffffffffffc0", "tensor 4 reaches past its memory"),
        ("OFFSET_OF_RESULT=4", "tensor 4 is not aligned"),
        ("BYTES_OF_RESULT=128", "tensor 4 has a size unlike its shape"),
        ("BITS_OF_RESULT=24", "tensor 4 has an unknown type"),
        ("RANK_OF_RESULT=-1", "tensor 4 has a rank out of range"),
        ("RANK_OF_RESULT=33", "tensor 4 has a rank out of range"),
        ("PLACE_OF_RESULT=2", "tensor 4 lies nowhere"),
        ("FIRST_OF_OBEY=6", "call 2 has arguments past the end"),
        ("FIRST_OF_OBEY=0xffffffff", "call 2 has arguments past the end"),
        ("HAS_OBEY=0", "call 2 has no function"),
        ("LAST_ARGUMENT=7", "call 2 names a tensor that does not exist"),
        ("TENSOR_OF_INPUT=1", "input 0 lies in the weights"),
        ("TENSOR_OF_INPUT=7", "input 0 names a tensor that does not exist"),
        ("TENSOR_OF_OUTPUT=7", "output 0 names a tensor that does not exist"),
        ("ARENA_BYTES=128", "tensor 4 reaches past its memory"),
        ('IDENTITY="xyz"', None),
    ],
)
def test_damaged_tables_are_refused_before_anything_is_touched(
    link_sample: Callable[..., Path], tmp_path: Path, macro: str, message: str | None
) -> None:
    damaged = make_bundle(tmp_path / "bundle", link_sample("damaged", macro))
    fault = message or "no name or identity"
    assert damaged.refusal() == f"the compiled model is damaged: {fault}; compile it again"
