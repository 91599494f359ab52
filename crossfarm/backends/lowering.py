"""From ONNX to TVM's lowered form, and from there to an object file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from onnx import ModelProto
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from crossfarm.backends.cpu import rules
from crossfarm.backends.cpu.processor import processor_of
from crossfarm.backends.cpu.relax_values import constant_array
from crossfarm.backends.supported import UnsupportedError, describe_node
from crossfarm.errors import ModelError
from crossfarm.spec.targets import CodeGeneration


def tvm_target(code: CodeGeneration) -> Any:
    """Return the tvm.target.Target of a toolchain."""
    options: dict[str, Any] = {"kind": "llvm", "mtriple": code.triple, "mcpu": code.cpu}
    if code.features:
        options["mattr"] = list(code.features)
    if code.float_abi is not None:
        options["mfloat-abi"] = code.float_abi
    if code.abi is not None:
        options["mabi"] = code.abi
    return tvm.target.Target(options)


def known_operators() -> Collection[str]:
    """Return the names of the ONNX operators that TVM imports."""
    return frozenset(onnx_frontend._get_convert_map()) | {"Constant"}


def import_onnx(model: ModelProto) -> Any:
    """Import a model that `supported.check_graph` has passed.

    Args:
        model: with static shapes; its weights become constants.

    Returns:
        tvm.IRModule with one Relax function, `main`, whose parameters and results are in the model's order.

    Raises:
        ModelError: a node uses its operator in a way that TVM cannot import; the message names it.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    importer = _Importer(model)
    try:
        return importer.from_onnx(model.graph, opset)
    except ModelError:
        raise
    except Exception as error:
        # TVM raises errors of any type here, and what the user can do about them is the same.
        raise ModelError(f"TVM cannot import the model: {_first_line(error)}; see the log of the job") from error


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer, which says at which node it failed."""

    def __init__(self, model: ModelProto) -> None:
        # Parameters are matched by order, so their names need not become identifiers.
        super().__init__(shape_dict={}, dtype_dict="float32", keep_params_in_input=False, sanitize=False)
        self._nodes_in_order = list(model.graph.node)
        self._converted = 0

    def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
        number = self._converted
        self._converted += 1
        try:
            if op_name == "Clip":
                clipped = _clip(self.bb, inputs, attrs)
                if clipped is not None:
                    return clipped
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:
            node = describe_node(self._nodes_in_order[number], number)
            raise ModelError(
                f"TVM cannot import {node}: {_first_line(error)}; replace it before the model is exported, "
                "or list the target under skip with this reason"
            ) from error


def _clip(builder: Any, inputs: Any, attributes: Any) -> Any | None:
    """Return a Clip of constant bounds as relax.clip, which layouts and fusion understand; None for any other.

    TVM's importer makes two functions of it that no pass sees through. NaN as a bound means none.
    """
    given = [inputs[position] if position < len(inputs) else None for position in (1, 2)]
    bounds = []
    for name, bound, none in (("min", given[0], -math.inf), ("max", given[1], math.inf)):
        if bound is None:
            bounds.append(float(attributes.get(name, none)))
            continue
        array = constant_array(bound)
        if array is None or array.size != 1:
            return None
        bounds.append(none if math.isnan(array.item()) else float(array.item()))
    if not math.isfinite(bounds[0]) or not math.isfinite(bounds[1]) or str(inputs[0].ty.dtype) != "float32":
        return None
    return builder.normalize(relax.op.clip(inputs[0], bounds[0], bounds[1]))


def lower(module: Any, target: Any) -> Any:
    """Lower a Relax module to scheduled PrimFuncs and a `main` that calls them: our rules, then TVM's default passes.

    Args:
        module: tvm.IRModule from `import_onnx`.
        target: tvm.target.Target.

    Returns:
        tvm.IRModule.

    Raises:
        UnsupportedError: TVM has no code for an operator.
    """
    try:
        with target:
            # What TVM leaves to its runtime becomes a call of it, which is refused later by its name.
            module = relax.backend.DispatchSortScan()(relax.backend.DispatchSampling()(module))
            module = rules.schedule_module(module, processor_of(target))
            return tvm.transform.Sequential(passes_to_calls())(module)
    except Exception as error:
        # As above: the passes raise errors of any type.
        raise UnsupportedError(what=f"code that TVM cannot make ({_first_line(error)})") from error


def passes_to_calls() -> list[Any]:
    """Return the passes of TVM's CPU pipeline behind fusion: to a straight list of calls over planned memory."""
    return [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def check_functions(module: Any, functions: Iterable[str]) -> None:
    """Refuse PrimFuncs that call back into TVM's runtime.

    Args:
        module: tvm.IRModule from `lower`.
        functions: names of the PrimFuncs that `main` calls.

    Raises:
        UnsupportedError: one of them does, for example to sort.
    """

    packed: list[str] = []

    def note(call: Any) -> None:
        # An error that is raised here would lose its type on the way through the FFI.
        if isinstance(call.op, tvm.ir.Op) and "packed" in call.op.name:
            packed.append(str(call.args[0].value))

    for name in functions:
        tvm_ffi.structural_walk(module[name].body, (relax.Call, note))
        if packed:
            raise UnsupportedError(what=f"the function {packed[0]} of TVM's runtime")


def build_object(module: Any, functions: Iterable[str], target: Any, path: Path) -> None:
    """Compile PrimFuncs to one relocatable object of position-independent code.

    Each becomes `int __tvm_ffi_NAME(void *, const TVMFFIAny *, int32_t, TVMFFIAny *)`.

    Args:
        module: tvm.IRModule from `lower`.
        functions: names of those to compile.
        target: tvm.target.Target.
        path: the file to create.

    Raises:
        UnsupportedError: LLVM cannot make code for them.
    """
    chosen = tvm.IRModule({module.get_global_var(name): module[name] for name in functions})
    try:
        tvm.tirx.build(chosen, target).write_to_file(str(path), "o")
    except Exception as error:
        raise UnsupportedError(what=f"code that TVM cannot make ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
