"""Names for the objects of TVM that signatures speak of.

TVM has no type stubs, so to mypy each of them is Any; to a reader each says which class of TVM is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
"""An array of NumPy, of any dtype and shape."""

# Expressions over tensors (tvm.te), and what they are made of (tvm.tirx).
Tensor: TypeAlias = Any
"""tvm.te.Tensor: an array that is described by an expression for each of its elements."""
PrimExpr: TypeAlias = Any
"""tvm.ir.Expr: a scalar expression, such as an index or an element; vectors too once loops are vectorised."""
Var: TypeAlias = Any
"""tvm.tirx.Var: a scalar variable: an index of te.compute, or the variable of a loop."""
IterVar: TypeAlias = Any
"""tvm.tirx.IterVar: an axis of a block, spatial or reduced."""
Buffer: TypeAlias = Any
"""tvm.tirx.Buffer: memory with a dtype, a shape and a scope."""
BufferLoad: TypeAlias = Any
"""tvm.ir.TensorLoad: one element read from a buffer."""
TensorRegion: TypeAlias = Any
"""tvm.ir.TensorRegion: a range of each axis of a buffer."""
Stmt: TypeAlias = Any
"""tvm.tirx.Stmt: a statement: loop, store, sequence."""
For: TypeAlias = Any
"""tvm.tirx.For: a loop."""
SBlock: TypeAlias = Any
"""tvm.s_tir.SBlock: a computation over axes of its own, which a schedule moves as a whole."""
SBlockRealize: TypeAlias = Any
"""tvm.s_tir.SBlockRealize: a block with the values of its axes in terms of the loops around it."""

# Schedules (tvm.s_tir).
Schedule: TypeAlias = Any
"""tvm.s_tir.Schedule: transforms the loops of one PrimFunc."""
BlockRV: TypeAlias = Any
"""tvm.s_tir.schedule.SBlockRV: handle of a block in a schedule."""
LoopRV: TypeAlias = Any
"""tvm.s_tir.schedule.LoopRV: handle of a loop in a schedule."""

# Modules and the graph (tvm.ir, tvm.relax).
Target: TypeAlias = Any
"""tvm.target.Target: what code is made for."""
IRModule: TypeAlias = Any
"""tvm.ir.IRModule: Relax functions and PrimFuncs by name."""
PrimFunc: TypeAlias = Any
"""tvm.tirx.PrimFunc: a function of loops over buffers; becomes one symbol of the object file."""
ModulePass: TypeAlias = Any
"""tvm.ir.transform.Pass: from a module to a module."""
Attrs: TypeAlias = Any
"""tvm.ir.Attrs: the attributes of an operator's call, such as strides."""
RelaxExpr: TypeAlias = Any
"""tvm.relax.Expr: an expression of the graph."""
RelaxVar: TypeAlias = Any
"""tvm.relax.Var: a value of the graph with a name."""
RelaxCall: TypeAlias = Any
"""tvm.relax.Call: an operator with its arguments."""
RelaxBinding: TypeAlias = Any
"""tvm.relax.Binding: a variable and what it is bound to."""
PassContext: TypeAlias = Any
"""tvm.ir.transform.PassContext: options of a run of passes."""
DataType: TypeAlias = Any
"""tvm.DataType: bits and lanes of a dtype."""
Mutator: TypeAlias = Any
"""tvm.relax.PyExprMutator: rewrites a function, call by call."""
BlockBuilder: TypeAlias = Any
"""tvm.relax.BlockBuilder: emits bindings while a graph is rewritten."""
RuntimeTensor: TypeAlias = Any
"""tvm.runtime.Tensor: the content of a constant."""
