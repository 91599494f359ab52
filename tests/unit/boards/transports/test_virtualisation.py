"""Virtual machines and emulators are distinguished from boards by what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.protocol import Purpose
from crossfarm.boards.transports.facts import Facts
from crossfarm.boards.transports.local import probe
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.boards.transports.virtualisation import Signs, Virtualisation, recognise
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.pipeline.key_context import access
from crossfarm.util.paths import HOME
from tests.unit.boards.transports.test_facts import RASPBERRY

X86 = "cpu:type:x86,ven0002fam0019mod0001"
BARE, KVM, QEMU = Virtualisation(), Virtualisation(name="kvm"), Virtualisation(name="qemu", is_emulated=True)
UNKNOWN = Virtualisation(name="unknown hypervisor", is_emulated=True)
USER = Virtualisation(name="qemu-user", is_emulated=True)


@pytest.mark.parametrize(
    ("signs", "what"),
    [
        (Signs(machine="armv7l", model="Raspberry Pi 3 Model B Rev 1.2", processor="cpu:type:aarch64"), BARE),
        (Signs(machine="aarch64", model="Raspberry Pi 5", processor="cpu:type:aarch64", implementer="0x41"), BARE),
        (Signs(machine="x86_64", processor=X86, firmware="LENOVO 20XW", clocks="tsc hpet acpi_pm"), BARE),
        (Signs(machine="x86_64", processor=X86, detected="none"), BARE),
        (Signs(machine="i686", processor=X86), BARE),
        (Signs(machine="x86_64", processor=X86, clocks="kvm-clock tsc", features=frozenset({"hypervisor"})), KVM),
        (Signs(machine="x86_64", firmware="QEMU Standard PC", clocks="kvm-clock tsc"), KVM),
        (Signs(machine="x86_64", firmware="QEMU Standard PC", detected="kvm"), KVM),
        (Signs(machine="aarch64", hypervisor="linux,kvm", model="linux,dummy-virt"), KVM),
        (Signs(machine="x86_64", firmware="Amazon EC2 c5.large"), KVM),
        (Signs(machine="x86_64", hypervisor="xen"), Virtualisation(name="xen")),
        (Signs(machine="aarch64", hypervisor="xen,xen-4.17 xen,xen"), Virtualisation(name="xen")),
        (Signs(machine="x86_64", firmware="VMware, Inc. VMware7,1"), Virtualisation(name="vmware")),
        (Signs(machine="x86_64", firmware="Microsoft Corporation Virtual Machine"), Virtualisation(name="hyper-v")),
        (Signs(machine="x86_64", firmware="Microsoft Corporation Surface Pro"), BARE),
        (Signs(machine="x86_64", firmware="innotek GmbH VirtualBox"), Virtualisation(name="virtualbox")),
        (Signs(machine="x86_64", firmware="QEMU Standard PC", clocks="tsc hpet acpi_pm"), QEMU),
        (Signs(machine="x86_64", cpu_model="QEMU TCG CPU version 2.5+"), QEMU),
        (Signs(machine="x86_64", detected="qemu", clocks="tsc"), QEMU),
        (Signs(machine="aarch64", model="linux,dummy-virt", processor="cpu:type:aarch64"), QEMU),
        (Signs(machine="aarch64", implementer="0x00", processor="cpu:type:aarch64"), QEMU),
        (Signs(machine="riscv64", model="riscv-virtio,qemu"), QEMU),
        (Signs(machine="x86_64", features=frozenset({"hypervisor"})), UNKNOWN),
        (Signs(machine="armv7l", processor=X86), USER),
        (Signs(machine="aarch64", processor=X86, clocks="kvm-clock", detected="kvm"), USER),
        (Signs(machine="riscv64", processor="cpu:type:aarch64"), USER),
        (Signs(), BARE),
    ],
)  # fmt: skip
def test_a_machine_is_known_by_its_signs(signs: Signs, what: Virtualisation) -> None:
    assert recognise(signs) == what


def test_a_raspberry_is_a_board_and_shows_no_hypervisor() -> None:
    facts = Facts.parse(RASPBERRY)
    assert facts.virtual == BARE and facts.state().virtualisation is None


def _opened(answer: str, **fields: Any) -> SshBoard:
    """A board that was looked at and said `answer`."""
    board = Board.model_validate(
        {
            "name": "x",
            "address": "127.0.0.1",
            "user": "u",
            "key": "k",
            "host_key": "ssh-ed25519 AAAA",
            "targets": ["x86_64"],
            **fields,
        }
    )
    code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64")
    purpose = Purpose(target="x86_64", machine=("x86_64",), emulator=None, code=code)
    timing = {"timing": "emulated"} if board.transport == "virtual" else {}
    opened = SshBoard(board, purpose, token=1, **timing)  # type: ignore[arg-type]
    opened._learn(Facts.parse(answer))
    return opened


QEMU_MACHINE = "machine x86_64\nfree_kib 7\nsign_firmware QEMU Standard PC\nsign_clocks tsc hpet\n"
KVM_MACHINE = "machine x86_64\nfree_kib 7\nsign_firmware QEMU Standard PC\nsign_clocks kvm-clock tsc\n"


@pytest.mark.parametrize(
    ("answer", "fields", "timing", "emulator"),
    [
        (RASPBERRY, {}, "silicon", None),
        (KVM_MACHINE, {}, "silicon", None),
        (QEMU_MACHINE, {}, "emulated", "qemu"),
        (RASPBERRY, {"timing": "emulated"}, "emulated", None),
        (QEMU_MACHINE, {"timing": "silicon"}, "silicon", "qemu"),
        (RASPBERRY, {"transport": "virtual"}, "emulated", None),
    ],
)
def test_the_clock_counts_where_the_board_or_its_entry_says_so(
    answer: str, fields: dict[str, str], timing: str, emulator: str | None
) -> None:
    opened = _opened(answer, **fields)
    assert (opened.timing, opened.emulator) == (timing, emulator)


def test_the_time_of_a_virtual_board_is_never_that_of_silicon() -> None:
    with pytest.raises(ValidationError, match="a board with `transport: virtual` is emulated"):
        _opened(RASPBERRY, transport="virtual", timing="silicon")


def test_this_host_names_its_hypervisor() -> None:
    is_virtual = " hypervisor" in Path("/proc/cpuinfo").read_text()
    assert (probe().virtualisation is not None) or not is_virtual


def test_a_declared_timing_is_part_of_what_a_measurement_is_known_by() -> None:
    target = load_targets(HOME / "toolchains")["x86_64"]
    boards = [_opened(RASPBERRY, **fields)._board for fields in ({}, {"timing": "emulated"})]
    keys = [access(target, Inventory(declared={"x": board}, chosen={"x": board})).parameters for board in boards]
    assert keys[0] != keys[1] and "timing" not in keys[0]["x"]
