"""Which containers belong to dead runs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from crossfarm.engines.container.reaper import is_orphan, this_process


def test_a_container_of_this_process_is_no_orphan() -> None:
    here = this_process()
    assert not is_orphan(here.labels("run"), here)


def test_a_container_of_a_process_that_ended_is_an_orphan() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=10)
    assert is_orphan(dataclasses.replace(this_process(), process=process.pid).labels("run"), this_process())


def test_a_later_process_with_the_same_id_does_not_keep_a_container() -> None:
    assert is_orphan(dataclasses.replace(this_process(), started="1").labels("run"), this_process())


def test_a_container_from_before_the_last_boot_is_an_orphan() -> None:
    assert is_orphan(dataclasses.replace(this_process(), boot="earlier").labels("run"), this_process())


@pytest.mark.parametrize("field", ["host", "space"])
def test_containers_of_others_on_the_same_engine_are_left_alone(field: str) -> None:
    dead = dataclasses.replace(this_process(), started="1")
    theirs = dataclasses.replace(dead, host="other") if field == "host" else dataclasses.replace(dead, space="other")
    assert not is_orphan(theirs.labels("run"), this_process())


def test_a_container_without_labels_is_left_alone() -> None:
    assert not is_orphan({}, this_process())
