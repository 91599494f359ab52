"""Operators of com.microsoft against ONNX Runtime, and Attention and RotaryEmbedding against ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.integration.backends.tvm.onnx_graphs import Array, Arrays, assert_right, graph_of, numbers, places

pytestmark = pytest.mark.integration

few = settings(max_examples=8, deadline=None)


def _compare(
    operator: str, inputs: Arrays, constants: Arrays, *names: str, outputs: tuple[str, ...] = ("y",), **attributes: Any
) -> None:
    node = helper.make_node(operator, names, outputs, domain="com.microsoft", **attributes)
    given_outputs = tuple(name for name in outputs if name)
    assert_right(node, inputs, constants, outputs=given_outputs, opset=17, tolerance=1e-4)


@pytest.mark.parametrize(
    ("operator", "biased"),
    [("Gelu", False), ("BiasGelu", True), ("FastGelu", True), ("FastGelu", False), ("QuickGelu", False)],
)
def test_forms_of_gelu(operator: str, biased: bool) -> None:
    _compare(operator, {"x": numbers(2, 3, 5)}, {"b": numbers(5)} if biased else {}, "x", *(["b"] if biased else []))


@few
@given(left=st.integers(0, 1), right=st.integers(0, 1), alpha=st.sampled_from([1.0, 0.5]))
def test_fused_products(left: int, right: int, alpha: float) -> None:
    a, b = numbers(2, 3, 5), numbers(5, 4)
    x = np.ascontiguousarray(a.transpose(0, 2, 1)) if left else a
    w = np.ascontiguousarray(b.T) if right else b
    _compare("FusedMatMul", {"x": x}, {"w": w}, "x", "w", transA=left, transB=right, alpha=alpha)


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("wide", [5, 16])
def test_normalised_sums(operator: str, wide: int) -> None:
    names = ["x", "s", "g", "b", "c"] if operator == "SkipLayerNormalization" else ["x", "s", "g", "c"]
    constants = {name: numbers(wide) for name in names[2:]}
    inputs = {"x": numbers(2, 3, wide), "s": numbers(2, 3, wide)}
    _compare(operator, inputs, constants, *names, outputs=("y", "", "", "t"), epsilon=1e-5)


def test_embedded_words() -> None:
    inputs = {
        "words": places(0, 9, 2, 4).astype("int32"),
        "parts": places(0, 2, 2, 4).astype("int32"),
    }
    constants = {"w": numbers(9, 8), "p": numbers(6, 8), "e": numbers(2, 8), "g": numbers(8), "b": numbers(8)}
    _compare("EmbedLayerNormalization", inputs, constants, *inputs, *constants, outputs=("y", "m"), epsilon=1e-5)


@few
@given(
    mask=st.sampled_from(["none", "lengths", "rows", "full"]),
    causal=st.integers(0, 1),
    batch=st.integers(2, 3),
    length=st.integers(2, 6),
)
def test_attention_over_one_product(mask: str, causal: int, batch: int, length: int) -> None:
    masks: dict[str, Array] = {
        "lengths": places(1, length + 1, batch),
        "rows": np.arange(length) < places(1, length + 1, batch, 1),
        "full": np.tril(np.ones((batch, length, length))),
    }
    inputs = {"x": numbers(batch, length, 8)}
    if mask != "none":
        inputs["m"] = masks[mask].astype("int32")
    constants = {"w": numbers(8, 24), "b": numbers(24)}
    _compare(
        "Attention",
        inputs,
        constants,
        "x",
        "w",
        "b",
        *(["m"] if mask != "none" else []),
        num_heads=2,
        unidirectional=causal,
    )


def test_attention_of_queries_to_other_keys() -> None:
    inputs = {"q": numbers(2, 4, 8), "k": numbers(2, 5, 8), "v": numbers(2, 5, 8)}
    _compare("MultiHeadAttention", inputs, {"b": numbers(24)}, "q", "k", "v", "b", num_heads=2)


@few
@given(bits=st.sampled_from([4, 8]), zeros=st.booleans(), depth=st.integers(1, 80), columns=st.integers(1, 9))
def test_products_with_blocks_of_few_bits(bits: int, zeros: bool, depth: int, columns: int) -> None:
    block, blocks = 32, -(-depth // 32)
    constants = {
        "w": places(0, 256, columns, blocks, block * bits // 8).astype("uint8"),
        "s": numbers(columns * blocks),
    }
    if zeros:
        constants["z"] = places(0, 256, columns * -(-blocks * bits // 8)).astype("uint8")
    _compare(
        "MatMulNBits",
        {"x": numbers(2, 3, depth)},
        constants,
        "x",
        *constants,
        K=depth,
        N=columns,
        bits=bits,
        block_size=block,
    )


def test_fused_convolutions() -> None:
    inputs = {"x": numbers(1, 3, 6, 6), "z": numbers(1, 4, 4, 4)}
    _compare("FusedConv", inputs, {"w": numbers(4, 3, 3, 3), "b": numbers(4)}, "x", "w", "b", "z", activation="Relu")


def test_sums_of_quantised_tensors() -> None:
    integers = {name: places(0, 256, 2, 8).astype("uint8") for name in "ab"}
    constants = {
        name: np.array(value, dtype)
        for name, value, dtype in (
            ("as", 0.1, "float32"), ("az", 3, "uint8"), ("bs", 0.2, "float32"), ("bz", 100, "uint8"),
            ("ys", 0.3, "float32"), ("yz", 60, "uint8"),
        )
    }  # fmt: skip
    _compare("QLinearAdd", integers, constants, "a", "as", "az", "b", "bs", "bz", "ys", "yz")


def _reference(node: Any, inputs: Arrays, constants: Arrays, outputs: tuple[str, ...], opset: int) -> None:
    expected = ReferenceEvaluator(graph_of([node], inputs, constants, outputs=outputs, opset=opset)).run(
        None, dict(inputs)
    )
    assert_right(node, inputs, constants, outputs=outputs, opset=opset, expected=expected, tolerance=1e-4)


@few
@given(
    flat=st.booleans(),
    heads=st.sampled_from([(2, 2), (4, 2)]),
    mask=st.sampled_from(["none", "bool", "float"]),
    causal=st.integers(0, 1),
    cached=st.booleans(),
    softcap=st.sampled_from([0.0, 2.0]),
    mode=st.integers(0, 3),
)
def test_attention_of_onnx(
    *, flat: bool, heads: tuple[int, int], mask: str, causal: int, cached: bool, softcap: float, mode: int
) -> None:
    # The reference caps these scores, too; the standard's function body and ONNX Runtime do not.
    assume(not softcap or mode)
    queries, keys, size, past = 3, 5, 4, 2 if cached else 0
    inputs = {
        "q": numbers(2, heads[0], queries, size),
        "k": numbers(2, heads[1], keys, size),
        "v": numbers(2, heads[1], keys, size),
    }
    attributes: dict[str, Any] = {"is_causal": causal, "softcap": softcap, "qk_matmul_output_mode": mode}
    if flat:
        inputs = {name: value.transpose(0, 2, 1, 3).reshape(2, value.shape[2], -1) for name, value in inputs.items()}
        attributes |= {"q_num_heads": heads[0], "kv_num_heads": heads[1]}
    names = ["q", "k", "v", "", "", ""]
    if mask != "none":
        wide = keys + past
        kept = places(0, 4, queries, wide) > 0
        inputs["m"] = kept if mask == "bool" else np.where(kept, 0, -np.inf).astype("float32")
        names[3] = "m"
    if cached:
        inputs |= {"pk": numbers(2, heads[1], past, size), "pv": numbers(2, heads[1], past, size)}
        names[4:] = ["pk", "pv"]
    outputs = ("y", "present_k", "present_v", "scores")
    _reference(helper.make_node("Attention", names, outputs, **attributes), inputs, {}, outputs, 23)


def test_scores_that_are_given_as_they_are_computed_are_not_capped() -> None:
    inputs = {name: numbers(1, 2, 3, 4) for name in "qkv"}
    outputs = ("y", "s")
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "s"], softcap=2.0)
    assert_right(node, inputs, {}, outputs=outputs, opset=23)


@few
@given(flat=st.booleans(), interleaved=st.integers(0, 1), turned=st.sampled_from([0, 4]), by_place=st.booleans())
def test_rotated_embeddings(flat: bool, interleaved: int, turned: int, by_place: bool) -> None:
    shape = (2, 3, 16) if flat else (2, 2, 3, 8)
    angles = (10 if by_place else 2, *(() if by_place else (3,)), (turned or 8) // 2)
    inputs = {"x": numbers(*shape)}
    constants = {"c": numbers(*angles), "s": numbers(*angles)}
    names = ["x", "c", "s"]
    if by_place:
        inputs["p"] = places(0, 10, 2, 3)
        names.append("p")
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": turned, **({"num_heads": 2} if flat else {})}
    _reference(helper.make_node("RotaryEmbedding", names, ["y"], **attributes), inputs, constants, ("y",), 23)
