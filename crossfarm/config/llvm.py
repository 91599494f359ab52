"""The `code:` section of toolchain files whose backend compiles by LLVM: which instructions its programs may hold."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from crossfarm.config.base import Declared, Identifier, Integer
from crossfarm.config.processor_names import check_architecture, check_cpu, check_feature


def _known_cpu(cpu: str, info: ValidationInfo) -> str:
    """Refuse a name that LLVM does not know; without a triple that could be read there is nothing to look it up in."""
    return check_cpu(cpu, triple=info.data["triple"]) if "triple" in info.data else cpu


def _known_feature(feature: str, info: ValidationInfo) -> str:
    return check_feature(feature, triple=info.data["triple"]) if "triple" in info.data else feature


RuleSet: TypeAlias = Literal["speed", "mcu"]
"""Name of the rules by which kernels are chosen; see crossfarm.backends.tvm.rule_sets."""


class LlvmCode(Declared):
    """What LLVM is told."""

    FREESTANDING: ClassVar[bool] = False
    """Code for a processor without an operating system: a bundle has a library for a firmware, and no program."""
    RULES: ClassVar[RuleSet] = "speed"
    """What its kernels are chosen for."""

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

    @model_validator(mode="after")
    def _names_the_float_abi(self) -> LlvmCode:
        is_arm32 = self.triple.startswith(("arm", "thumb")) and not self.triple.startswith("arm64")
        if is_arm32 != (self.float_abi is not None):
            raise ValueError("float_abi is required for 32-bit ARM and makes no sense elsewhere")
        return self


Memory = Annotated[Integer, Field(ge=1024, le=1 << 32)]


class McuCode(LlvmCode):
    """The same for a processor without an operating system, such as a Cortex-M."""

    FREESTANDING: ClassVar[bool] = True
    RULES: ClassVar[RuleSet] = "mcu"

    flash_bytes: Memory
    """What code and weights may take; a model that takes more is refused."""
    ram_bytes: Memory
    """What the arena may take; a model that takes more is refused."""
