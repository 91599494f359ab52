"""Detects virtual machines and emulators, and whether their timing is emulated, from what Linux shows.

A virtual machine whose instructions the processor itself executes (KVM, Xen, VMware) takes a processor's time. One that
qemu translates (TCG, or qemu-user for single programs) takes qemu's, which ranks nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

_NAMES: Mapping[str, str] = {
    "kvm": "kvm", "amazon": "kvm", "google": "kvm", "xen": "xen", "vmware": "vmware", "microsoft": "hyper-v",
    "oracle": "virtualbox", "parallels": "parallels", "bhyve": "bhyve", "acrn": "acrn", "zvm": "zvm",
    "powervm": "powervm", "apple": "apple", "qnx": "qnx", "sre": "sre",
}  # fmt: skip
"""Words of `systemd-detect-virt --vm` for hypervisors that let the processor execute -> how they are shown."""
_TRANSLATORS = frozenset({"qemu", "bochs", "uml"})
_VENDORS: Mapping[str, str] = {
    "vmware": "vmware", "innotek": "virtualbox", "parallels": "parallels", "amazon ec2": "kvm", "google": "kvm",
    "xen": "xen", "microsoft corporation virtual machine": "hyper-v", "bhyve": "bhyve", "apple virtualization": "apple",
}  # fmt: skip
"""How vendor and product of the firmware begin -> name."""
_FAMILIES = {"arm": "arm", "aarch64": "aarch64", "x86": "x86_64|i[3-6]86"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signs:
    """What a machine shows of itself; empty where it shows nothing.

    Attributes:
        machine: as `uname -m` says.
        model: from the device tree.
        cpu_model: from /proc/cpuinfo.
        implementer: `CPU implementer` of /proc/cpuinfo, ARM only.
        features: of the processor.
        detected: what `systemd-detect-virt --vm` says, where there is such a program.
        processor: the kernel's own type of processor, `cpu:type:x86,...`, which qemu-user leaves as it is.
        firmware: vendor and product.
        hypervisor: what /sys/hypervisor or the device tree names.
        clocks: clock sources of the kernel.
    """

    machine: str = ""
    model: str = ""
    cpu_model: str = ""
    implementer: str = ""
    features: frozenset[str] = frozenset()
    detected: str = ""
    processor: str = ""
    firmware: str = ""
    hypervisor: str = ""
    clocks: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Virtualisation:
    """What a machine is: name of the hypervisor or emulator, None on bare metal; and whether its time is emulated."""

    name: str | None = None
    is_emulated: bool = False


def recognise(signs: Signs) -> Virtualisation:
    """Return what a machine is, from its signs.

    Where qemu shows and nothing tells whether it translates, its time is taken as emulated: that gates nothing, while
    the opposite mistake would pass for a board's. `timing` in boards.yaml is there for who knows better.
    """
    if _is_user_mode(signs):
        return Virtualisation(name="qemu-user", is_emulated=True)
    if signs.detected in _TRANSLATORS:
        return Virtualisation(name=signs.detected, is_emulated=True)
    name = _NAMES.get(signs.detected) or _hypervisor(signs)
    if name is not None:
        return Virtualisation(name=name)
    words = f"{signs.firmware} {signs.model} {signs.cpu_model}".lower()
    if re.search(r"\bqemu\b|\bbochs\b|linux,dummy-virt", words) or signs.implementer == "0x00":
        return Virtualisation(name="qemu", is_emulated=True)
    if "hypervisor" in signs.features:
        return Virtualisation(name="unknown hypervisor", is_emulated=True)
    return Virtualisation()


def _hypervisor(signs: Signs) -> str | None:
    """Return the hypervisor that the kernel or the firmware names; `kvm-clock` is offered by KVM alone."""
    if "kvm-clock" in signs.clocks.split() or "kvm" in signs.hypervisor:
        return "kvm"
    if "xen" in signs.hypervisor or "xen" in signs.clocks.split():
        return "xen"
    firmware = signs.firmware.lower()
    return next((name for start, name in _VENDORS.items() if firmware.startswith(start)), None)


def _is_user_mode(signs: Signs) -> bool:
    """Return whether the kernel names another processor than `uname -m` does, as under qemu-user."""
    family = re.match(r"cpu:type:([a-z0-9]+)", signs.processor)
    native = _FAMILIES.get(family[1]) if family else None
    return native is not None and not _runs_on(signs.machine, native)


def _runs_on(machine: str, native: str) -> bool:
    """Say whether `uname -m` is of a processor; 32-bit programs, and kernels that pose as such, run on 64-bit ones."""
    if native == "aarch64":
        return machine.startswith(("aarch64", "arm"))
    if native == "arm":
        return machine.startswith("arm")
    return re.fullmatch(native, machine) is not None
