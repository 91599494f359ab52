"""toolchains/NAME.yaml: what code is made for, and with what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from crossfarm.config.base import Declared, Line, Name
from crossfarm.config.processor_names import check_architecture, check_cpu, check_feature

Argument = Annotated[Line, Field(max_length=256)]
Arguments = Annotated[tuple[Argument, ...], Field(min_length=1)]
Identifier = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=64, description="letters, digits and any of . _ + -"),
]


class ZigCompiler(Declared):
    """`zig cc` of the pinned wheel: one cross compiler and C library for every target."""

    kind: Literal["zig"]
    target: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9_]+-linux-(gnu|gnueabihf|gnueabi|musl|musleabihf|musleabi)(\.[0-9]+(\.[0-9]+)*)?$",
            max_length=64,
            description="a triple of zig such as `arm-linux-gnueabihf.2.17`",
        ),
    ]
    """zig's triple; behind the C library stands the glibc floor: `arm-linux-gnueabihf.2.17`."""
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


def _known_cpu(cpu: str, info: ValidationInfo) -> str:
    """Refuse a name that LLVM does not know; without a triple that could be read there is nothing to look it up in."""
    return check_cpu(cpu, triple=info.data["triple"]) if "triple" in info.data else cpu


def _known_feature(feature: str, info: ValidationInfo) -> str:
    return check_feature(feature, triple=info.data["triple"]) if "triple" in info.data else feature


class CodeGeneration(Declared):
    """What TVM's LLVM is told."""

    triple: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9_]+(-[a-z0-9_]+){1,3}$",
            max_length=64,
            description="an LLVM triple such as `armv7l-linux-gnueabihf`",
        ),
        AfterValidator(check_architecture),
    ]
    cpu: Annotated[Identifier, AfterValidator(_known_cpu)]
    """LLVM's name of the processor: `cortex-a53`, `x86-64-v3`."""
    features: tuple[
        Annotated[
            str,
            Field(pattern=r"^[+-][a-z0-9.-]+$", max_length=64, description="`+` or `-` and an LLVM feature"),
            AfterValidator(_known_feature),
        ],
        ...,
    ] = ()
    """What the processor has (+) or lacks (-) beyond that."""
    float_abi: Literal["hard", "soft"] | None = None
    """ARM 32-bit only, and required there."""
    abi: Identifier | None = None
    """RISC-V only: lp64d."""


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
    backend: Literal["tvm"] = "tvm"
    """The compiler behind it."""
    machine: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    """What `uname -m` says on boards that run this natively."""
    code: CodeGeneration
    """What TVM's LLVM is told."""
    compiler: Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]
    """Compiles and links the C part."""
    linkage: Literal["dynamic", "static"] = "dynamic"
    """How the program is linked; a static bundle has no shared library."""
    emulator: Emulator | None = None
    """Runs the program on another machine; without it the target is compiled, not run."""
    image: Name | None = None
    """Container image that compiles it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Target:
        is_arm32 = self.code.triple.startswith("arm")
        if is_arm32 != (self.code.float_abi is not None):
            raise ValueError("code.float_abi is required for 32-bit ARM and makes no sense elsewhere")
        if self.linkage == "static" and isinstance(self.compiler, ZigCompiler) and "-musl" not in self.compiler.target:
            raise ValueError("zig links statically against musl alone; give compiler.target a musl triple")
        return self
