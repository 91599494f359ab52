"""toolchains/NAME.yaml: what code is made for, and with what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from crossfarm.spec.base import Declared, Name

Argument = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ZigCompiler(Declared):
    """`zig cc` of the pinned wheel: one cross compiler and C library for every target."""

    kind: Literal["zig"]
    target: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+-linux-(gnu|gnueabihf|gnueabi|musl|musleabihf|musleabi)(\.[0-9.]+)?$")]
    """zig's triple; behind the C library stands the glibc floor: `arm-linux-gnueabihf.2.17`."""
    flags: tuple[Argument, ...] = ()


class CommandCompiler(Declared):
    """Another compiler on PATH that takes GCC's arguments: `arm-linux-gnueabihf-gcc`."""

    kind: Literal["command"]
    command: tuple[Argument, ...] = Field(min_length=1)
    archiver: tuple[Argument, ...] = ("ar",)
    flags: tuple[Argument, ...] = ()


class CodeGeneration(Declared):
    """What TVM's LLVM is told."""

    triple: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(-[a-z0-9_]+){1,3}$")]
    cpu: str
    features: tuple[Annotated[str, StringConstraints(pattern=r"^[+-][a-z0-9.-]+$")], ...] = ()
    float_abi: Literal["hard", "soft"] | None = None
    """ARM 32-bit only, and required there."""
    abi: str | None = None
    """RISC-V only: lp64d."""


class Emulator(Declared):
    """qemu-user that runs a program for this target on another machine. Times taken so are marked as emulated."""

    command: tuple[Argument, ...] = Field(min_length=1)
    """Tried in order of `names`: the first found on PATH stands in for element 0."""
    names: tuple[str, ...] = ()
    package: str = "qemu-user-static"


class Target(Declared):
    """One file of toolchains/."""

    name: Name
    description: str = ""
    backend: Literal["tvm"] = "tvm"
    machine: tuple[str, ...] = Field(min_length=1)
    """What `uname -m` says on boards that run this natively."""
    code: CodeGeneration
    compiler: Annotated[ZigCompiler | CommandCompiler, Field(discriminator="kind")]
    linkage: Literal["dynamic", "static"] = "dynamic"
    emulator: Emulator | None = None
    image: Name | None = None

    @model_validator(mode="after")
    def _float_abi(self) -> Target:
        is_arm32 = self.code.triple.startswith("arm")
        if is_arm32 != (self.code.float_abi is not None):
            raise ValueError("code.float_abi is required for 32-bit ARM and makes no sense elsewhere")
        return self
