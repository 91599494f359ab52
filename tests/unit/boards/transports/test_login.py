"""What is told when a login fails; the real servers are in tests/integration/boards/transports/test_login.py."""

from __future__ import annotations

import paramiko
import pytest

from crossfarm.boards.transports.login import explain_failure, logins
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOIqT0Qe6WZ1nYd1xJ2pTQ7T0cF0y1rWZ3n4x5C6v7B8"
BOARD = Board.model_validate(
    {
        **{"name": "pi-1", "address": "10.0.0.1", "user": "farm", "key": "k", "host_key": HOST_KEY},
        "targets": ["armv7"],
        "via": {"address": "gate.lab", "user": "jump", "host_key": HOST_KEY},
    }
)


@pytest.mark.parametrize(
    "error", [paramiko.ChannelException(2, "Connect failed"), paramiko.SSHException("Timeout opening channel.")]
)
def test_a_way_that_the_jump_host_does_not_open_is_no_fault_of_the_board_s_ssh(error: Exception) -> None:
    login, jump = logins(BOARD)
    with pytest.raises(BoardError) as told, explain_failure(login, jump):
        raise error
    said = str(told.value)
    assert said.startswith("board pi-1 at 10.0.0.1:22 cannot be reached by way of the jump host of board pi-1")
    assert "speaks no ssh" not in said
