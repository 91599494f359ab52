"""Reads the lowered `main` of a Relax module into a Program.

What occurs in the `main` of a static model: calls of PrimFuncs, relax.vm.alloc_storage and alloc_tensor,
vm.builtin.reshape (a view of the same memory), tuples, and checks of shapes that are known to hold. Anything else needs
a runtime library on the board and is refused. TVM's storages are only added up: each tensor is a block of its own, so
that our planner is free to place it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax

from crossfarm.backends.tvm.program import DTYPES, Block, Call, Program, ProgramPort, TensorView, tensor_size
from crossfarm.backends.tvm.types import IRModule, RelaxBinding, RelaxCall, RelaxExpr, RelaxVar, RuntimeTensor
from crossfarm.backends.tvm.unsupported import UnsupportedError

_IGNORED = frozenset(
    {"relax.null_value", "relax.vm.kill_object", "vm.builtin.check_tensor_info", "vm.builtin.match_shape"}
)
"""Bookkeeping of TVM's virtual machine: lifetimes are ours, and shapes are static, checked when a model is loaded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Group:
    """A tuple of values, each a tensor's index or a group again."""

    members: tuple[int | _Group, ...]


_Value = int | _Group


def read_program(module: IRModule, *, inputs: Sequence[str], outputs: Sequence[str]) -> Program:
    """Read a lowered module.

    Args:
        module: tvm.IRModule, lowered as far as relax.vm.alloc_tensor.
        inputs: names of the parameters of `main`.
        outputs: names of its results.

    Raises:
        UnsupportedError: it holds control flow, dynamic shapes, or a call of a function that no board has.
    """
    main = module["main"]
    reader = _Reader(module)
    for parameter in main.params:
        reader.values[parameter] = reader.computed(_static_shape(parameter.ty.shape), str(parameter.ty.dtype))
    input_tensors = [reader.tensor(parameter) for parameter in main.params]
    for block in main.body.blocks:
        for binding in block.bindings:
            reader.read(binding)
    output_tensors = _flat(reader.value(main.body.body))
    return Program(
        blocks=tuple(reader.blocks),
        tensors=tuple(reader.tensors),
        calls=tuple(reader.calls),
        inputs=_ports(inputs, input_tensors),
        outputs=_ports(outputs, output_tensors),
        storage_size=reader.storage_size,
    )


class _Reader:
    """Collects blocks, tensors and calls, binding by binding."""

    def __init__(self, module: IRModule) -> None:
        self._module = module
        self.values: dict[RelaxVar, _Value] = {}
        self.blocks: list[Block] = []
        self.tensors: list[TensorView] = []
        self.calls: list[Call] = []
        self.storage_size = 0
        self._constants: dict[bytes, int] = {}
        self._tensor_index: dict[TensorView, int] = {}

    def read(self, binding: RelaxBinding) -> None:
        """Take in one binding of `main`."""
        if not isinstance(binding, relax.VarBinding):
            raise UnsupportedError(what="a shape that is known only when the model runs")
        match binding.value:
            case relax.Call():
                self._read_call(binding.var, binding.value)
            case relax.If():
                raise UnsupportedError(what="control flow")
            case _:
                self.values[binding.var] = self.value(binding.value)

    def value(self, expression: RelaxExpr) -> _Value:
        """Return the value of an expression that computes nothing."""
        match expression:
            case relax.Tuple():
                return _Group(members=tuple(self.value(field) for field in expression.fields))
            case relax.TupleGetItem():
                group = self.value(expression.tuple_value)
                if isinstance(group, _Group):
                    return group.members[int(expression.index)]
            case tvm.ir.GenericConst() if isinstance(expression.value, tvm.runtime.Tensor):
                return self._constant(expression.value)
            case relax.Var():
                known = self.values.get(expression)
                if known is not None:
                    return known
        raise UnsupportedError(what=f"a value of kind {type(expression).__name__} at run time")

    def tensor(self, expression: RelaxExpr) -> int:
        """Return the tensor that an expression stands for."""
        value = self.value(expression)
        if isinstance(value, _Group):
            raise UnsupportedError(what="a tuple as an argument")
        return value

    def computed(self, shape: tuple[int, ...], dtype: str) -> int:
        """Make a tensor with memory of its own."""
        _check_dtype(dtype)
        self.blocks.append(Block(size=tensor_size(dtype, shape)))
        return self._view(len(self.blocks) - 1, shape, dtype)

    def _read_call(self, variable: RelaxVar, call: RelaxCall) -> None:
        if isinstance(call.op, tvm.ir.GlobalVar):
            self._read_function_call(call)
            return
        name = _function_name(call)
        if name in _IGNORED:
            return
        if name == "relax.vm.alloc_storage":
            self.storage_size += math.prod(_static_shape(call.args[0]))
        elif name == "relax.vm.alloc_tensor":
            self.values[variable] = self.computed(_static_shape(call.args[2]), str(call.args[3].value))
        elif name == "vm.builtin.reshape":
            source = self.tensors[self.tensor(call.args[0])]
            self.values[variable] = self._view(source.block, _static_shape(call.args[1]), source.dtype)
        elif name == "vm.builtin.alloc_shape_heap":
            raise UnsupportedError(what="a shape that is known only when the model runs")
        else:
            raise UnsupportedError(what=f"the function {name} of TVM's runtime")

    def _read_function_call(self, call: RelaxCall) -> None:
        name = call.op.name_hint
        if not isinstance(self._module[call.op], tvm.tirx.PrimFunc):
            raise UnsupportedError(what=f"a call of the function {name}, which was not inlined")
        self.calls.append(Call(function=name, arguments=tuple(self.tensor(argument) for argument in call.args)))

    def _constant(self, value: RuntimeTensor) -> int:
        array = np.ascontiguousarray(value.numpy())
        dtype = str(value.dtype)
        _check_dtype(dtype)
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        digest = hashlib.sha256(content).digest()
        if digest not in self._constants:
            self.blocks.append(Block(size=len(content), content=content))
            self._constants[digest] = len(self.blocks) - 1
        return self._view(self._constants[digest], tuple(int(extent) for extent in value.shape), dtype)

    def _view(self, block: int, shape: tuple[int, ...], dtype: str) -> int:
        tensor = TensorView(block=block, dtype=dtype, shape=shape)
        if tensor not in self._tensor_index:
            self._tensor_index[tensor] = len(self.tensors)
            self.tensors.append(tensor)
        return self._tensor_index[tensor]


def _function_name(call: RelaxCall) -> str:
    """Return the name of the builtin that a call of `main` stands for."""
    if not isinstance(call.op, tvm.ir.Op):
        return str(call.op.global_symbol)
    if call.op.name == "relax.call_builtin_with_ctx":
        return str(call.args[0].global_symbol)
    return str(call.op.name)


def _static_shape(shape: RelaxExpr) -> tuple[int, ...]:
    extents = tuple(shape.values) if isinstance(shape, relax.ShapeExpr) else (None,)
    if not all(isinstance(extent, tvm.tirx.IntImm) for extent in extents):
        raise UnsupportedError(what="a shape that is known only when the model runs")
    return tuple(int(extent) for extent in extents)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise UnsupportedError(what=f"a tensor of type {dtype}")


def _flat(value: _Value) -> list[int]:
    return [value] if isinstance(value, int) else [tensor for member in value.members for tensor in _flat(member)]


def _ports(names: Sequence[str], tensors: Sequence[int]) -> tuple[ProgramPort, ...]:
    return tuple(ProgramPort(name=name, tensor=tensor) for name, tensor in zip(names, tensors, strict=True))
