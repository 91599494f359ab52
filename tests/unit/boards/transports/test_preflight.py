"""Which boards are fit for use."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from crossfarm.boards.transports.facts import Facts, ThermalState
from crossfarm.boards.transports.fit import check_health, problems_of
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError

FACTS = Facts.parse("machine armv7l\nmodel Raspberry Pi 2 Model B\nfree_kib 1048576\nload 0.5\nprocessors 0-3\n")


def _board(**fields: Any) -> Board:
    return Board.model_validate(
        {
            "name": "pi",
            "address": "pi",
            "user": "farm",
            "key": "/key",
            "host_key": "ssh-ed25519 AAAA",
            "targets": ["armv7"],
            **fields,
        }
    )


@pytest.mark.parametrize("platform", ["*", "armv7l", "armv7l Raspberry Pi 2*"])
def test_a_good_board_is_fit(platform: str) -> None:
    check_health(_board(platform=platform), FACTS)


@pytest.mark.parametrize(
    ("declared", "facts", "told"),
    [
        ({"platform": "armv7l Raspberry Pi 3*"}, {}, "it says that it is 'armv7l Raspberry Pi 2 Model B'"),
        ({"limits": {"free_disk": 2000}}, {}, "1024 MiB are free in .crossfarm-board, limits.free_disk is 2000"),
        ({}, {"thermal": ThermalState(temperature=80.5)}, "it is 80.5 °C hot, limits.temperature is 80"),
        ({}, {"load": 6.5}, "its load is 6.5 on 4 CPUs, limits.load is 1.5 for each"),
    ],
)
def test_what_is_wrong_is_told(declared: dict[str, Any], facts: dict[str, Any], told: str) -> None:
    with pytest.raises(BoardError, match="board pi is not fit for use: ") as refused:
        check_health(_board(**declared), dataclasses.replace(FACTS, **facts))
    assert told in str(refused.value)


def test_a_virtual_board_shows_the_load_of_its_host_which_is_passed_over() -> None:
    assert list(problems_of(_board(transport="virtual"), dataclasses.replace(FACTS, load=100.0))) == []


def test_a_board_without_sensors_is_fit() -> None:
    check_health(_board(), dataclasses.replace(FACTS, load=None, processors=None, thermal=ThermalState()))
