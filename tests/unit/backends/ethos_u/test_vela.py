"""What Vela writes: its summary, and which operators it leaves to the processor."""

from __future__ import annotations

import pytest

from crossfarm.backends.ethos_u.vela import read_summary
from crossfarm.errors import ToolError

SUMMARY = (
    "experiment,network,accelerator_configuration,system_config,memory_mode,core_clock,sram_memory_used,"
    "off_chip_flash_memory_used,nn_macs,cycles_total,inference_time\n"
    "default,resnet8,Ethos_U55_128,Ethos_U55_High_End_Embedded,Shared_Sram,500000000.0,50.5,77.0,12501632,201523.0,0.0004\n"
)


def test_the_summary_becomes_an_estimate_with_memory_in_bytes() -> None:
    report = read_summary(SUMMARY, said="", megahertz=500)
    assert report.estimate is not None
    assert report.estimate.cycles == 201_523
    assert "not call cycle-accurate" in report.estimate.accuracy
    values = {item.name: item.value for item in report.quantities}
    assert (values["sram"], values["flash"], values["operators_on_cpu"]) == (50.5 * 1024, 77 * 1024, 0)


def test_a_clock_that_is_not_the_declared_one_is_refused() -> None:
    with pytest.raises(ToolError, match="says 1000 MHz, but Vela's system configuration 500"):
        read_summary(SUMMARY, said="", megahertz=1000)


def test_operators_that_stay_on_the_processor_are_named() -> None:
    said = (
        "Info: x\nWarning (supported operators) operator: DEQUANTIZE, ofm: 'Identity'\n"
        "Reason: Unsupported opType\n\nnoise"
    )
    report = read_summary(SUMMARY, said=said, megahertz=500)
    assert report.notes == ("on the CPU: DEQUANTIZE Identity (Unsupported opType)",)
    assert {item.name: item.value for item in report.quantities}["operators_on_cpu"] == 1


@pytest.mark.parametrize("text", ["", "core_clock\n", "core_clock\nfast\n", "core_clock\n500000000\n"])
def test_a_summary_of_another_version_is_told(text: str) -> None:
    with pytest.raises(ToolError, match="locked version of ethos-u-vela"):
        read_summary(text, said="", megahertz=500)
