"""toolchains/NAME.yaml: what code is made for, and with what."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, create_model, model_validator

from crossfarm.config.accelerators import VARIANTS, AcceleratorCode, Variant
from crossfarm.config.base import Declared, Identifier, Line, Name
from crossfarm.config.budgets import Budgets
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import ConfigError

Argument = Annotated[Line, Field(max_length=256)]
Arguments = Annotated[tuple[Argument, ...], Field(min_length=1)]
DEFAULT_BACKEND = "tvm"


class ZigCompiler(Declared):
    """`zig cc` of the pinned wheel: one cross compiler and C library for every target."""

    kind: Literal["zig"]
    target: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9_]+-(linux-(gnu|gnueabihf|gnueabi|musl|musleabihf|musleabi)(\.[0-9]+(\.[0-9]+)*)?"
            r"|freestanding-eabi(hf)?)$",
            max_length=64,
            description="a triple of zig such as `arm-linux-gnueabihf.2.17`",
        ),
    ]
    """zig's triple; behind the C library stands the glibc floor: `arm-linux-gnueabihf.2.17`. Without an operating
    system: `thumb-freestanding-eabihf`."""
    program_target: (
        Annotated[
            str,
            Field(
                pattern=r"^[a-z0-9_]+-linux-musl(eabi(hf)?)?$",
                max_length=64,
                description="a triple of zig with musl such as `x86_64-linux-musl`",
            ),
        ]
        | None
    ) = None
    """The triple that programs are linked for, statically, where libraries are for another: `x86_64-linux-musl`."""
    flags: tuple[Argument, ...] = ()
    """More arguments for every compilation and link."""


class CommandCompiler(Declared):
    """Another compiler on PATH that takes GCC's arguments: `arm-linux-gnueabihf-gcc`."""

    kind: Literal["command"]
    command: Arguments
    """The compiler and its first arguments."""
    archiver: Arguments = ("ar",)
    """Makes static libraries."""
    flags: tuple[Argument, ...] = ()
    """More arguments for every compilation and link."""


Compiler = Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]


class Emulator(Declared):
    """qemu-user that runs a program for this target on another machine. Times taken so are marked as emulated."""

    command: Arguments
    """The program and its arguments; the first of `names` that is found on PATH stands in for element 0."""
    names: tuple[Identifier, ...] = ()
    """Names that the program may have."""
    package: Identifier = "qemu-user-static"
    """Debian package that holds it."""
    library_package: Identifier | None = None
    """Debian package of the target's C library, which a dynamically linked program needs; `-L` says where it lies."""


class Target(Declared):
    """One file of toolchains/."""

    name: Name
    """As the file is called, without `.yaml`."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """One line for people."""
    backend: Name = DEFAULT_BACKEND
    """The compiler behind it."""
    machine: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    """What `uname -m` says on boards that run this natively."""
    code: SerializeAsAny[Declared]
    """What the backend is told; each backend has its own keys."""
    compiler: Compiler | None = None
    """Compiles and links the C part; only a backend whose bundles are no programs of a processor needs none."""
    linkage: Literal["dynamic", "static"] = "dynamic"
    """How the program is linked; a static bundle has no shared library."""
    emulator: Emulator | None = None
    """Runs the program on another machine; without it the target is compiled, not run."""
    image: Name | None = None
    """Container image that compiles it."""
    checks: Budgets = Budgets()
    """The most that every cell of this target may take; a limit of a model comes before."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = VARIANTS
    """Variants of models that it takes; the cells of others are skipped."""

    @model_validator(mode="after")
    def _fits_together(self) -> Target:
        if self.linkage == "static" and isinstance(self.compiler, ZigCompiler) and "-musl" not in self.compiler.target:
            raise ValueError("zig links statically against musl alone; give compiler.target a musl triple")
        if isinstance(self.compiler, ZigCompiler) and self.is_freestanding != (
            "-freestanding-" in self.compiler.target
        ):
            wanted = "one" if self.is_freestanding else "none"
            raise ValueError(
                f"its backend makes code for {'no' if self.is_freestanding else 'an'} operating system; give "
                f"compiler.target {wanted} of zig's freestanding triples, such as thumb-freestanding-eabihf"
            )
        return self

    @property
    def instructions(self) -> LlvmCode | None:
        """Return what its programs were compiled to; None where its backend makes no programs of a processor."""
        code = self.code
        if not isinstance(code, LlvmCode):
            return None
        if type(code) is LlvmCode:
            return code
        return LlvmCode.model_validate(code.model_dump(include=set(LlvmCode.model_fields)))

    @property
    def is_freestanding(self) -> bool:
        """Return whether its code is for a processor without an operating system."""
        return isinstance(self.code, LlvmCode) and self.code.FREESTANDING

    @property
    def quantises(self) -> bool:
        """Return whether its backend quantises float32 itself."""
        return isinstance(self.code, AcceleratorCode) and self.code.QUANTISES

    @property
    def has_own_reference(self) -> bool:
        """Return whether its answers are another arithmetic's than ONNX Runtime's, and judged by what they decide."""
        return isinstance(self.code, AcceleratorCode) and (self.code.QUANTISES or self.code.ROUNDS_OTHERWISE)

    def original(self, variant: str) -> str | None:
        """Return the format of the file that its backend reads as a model came; None where it reads model.onnx."""
        originals: Mapping[Any, str] = self.code.ORIGINALS if isinstance(self.code, AcceleratorCode) else {}
        return originals.get(variant)

    def refuses(self, *, variant: str, form: str) -> str | None:
        """Return why a cell is skipped: its variant or the format of its model is none that this target takes."""
        if variant not in self.variants:
            return f"{self.name} takes {', '.join(self.variants)} alone"
        formats = self.code.FORMATS if isinstance(self.code, AcceleratorCode) else (form,)
        original = self.original(variant)
        if original is not None and original != form:
            return f"{self.name} takes {variant} models that come as {original} alone"
        return None if form in formats else f"{self.name} takes models that come as {' or '.join(formats)} alone"

    @property
    def c_compiler(self) -> ZigCompiler | CommandCompiler:
        """Return the C compiler, for what links programs.

        Raises:
            ConfigError: the toolchain file declares none.
        """
        if self.compiler is None:
            raise ConfigError(
                f"toolchains/{self.name}.yaml declares no `compiler`, and this needs one; declare it, or choose "
                "another target"
            )
        return self.compiler


@functools.cache
def target_with(section: type[Declared]) -> type[Target]:
    """Return the model of a toolchain file whose backend takes this `code:` section.

    What is compiled to programs of a processor is linked too, so that a C compiler is required.
    """
    fields: dict[str, Any] = {"code": (section, ...)}
    if isinstance(section, type) and issubclass(section, LlvmCode):
        fields["compiler"] = (Compiler, ...)
    if isinstance(section, type) and issubclass(section, AcceleratorCode):
        takes = section.TAKES
        taken = Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(_among(takes))]
        fields["variants"] = (taken, takes)
    return create_model("Target", __base__=Target, __module__=__name__, **fields)


def _among(takes: tuple[Variant, ...]) -> Callable[[tuple[Variant, ...]], tuple[Variant, ...]]:
    """Return what refuses a variant that the backend cannot compile."""

    def refuse(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        wrong = [variant for variant in variants if variant not in takes]
        if wrong:
            raise ValueError(f"its backend takes {', '.join(takes)}, not {', '.join(wrong)}; remove that")
        return variants

    return refuse
