"""What a user sees: the real command line on a real pseudo-terminal, whose stream a screen reads."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

import jsonschema
import onnx
import pytest

from crossfarm.cli import schemas
from crossfarm.util.paths import HOME
from crossfarm.util.text import width
from tests.integration.pipeline.waiting import Farm, compiles
from tests.terminal_screen import Screen
from tests.waiting import stretched, wait_until

pytestmark = pytest.mark.integration


class Terminal:
    """A command on a terminal of its own, and what its user sees."""

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        columns: int,
        rows: int = 24,
        stdout: int | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        self.screen = Screen(columns, rows)
        self.raw = ""
        self.seen: set[str] = set()
        self.resize(columns, rows)
        unset = ("CI", "NO_COLOR", "FORCE_COLOR")
        environment = {name: value for name, value in variables.items() if name not in unset or value == "keep"}
        # It gets a session and a controlling terminal, so that Ctrl-C is a key that is pressed.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env={"TERM": "xterm-256color", **environment},
            cwd=HOME,
        )
        self.settings = termios.tcgetattr(slave)
        os.close(slave)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        left = b""
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while data := os.read(self.master, 65536):
                # A write of the program may come in pieces, in the middle of a letter or of a sequence.
                left += data
                end = max(left.rfind(b"\n"), left.rfind(b"m"), left.rfind(b"s")) + 1
                piece, left = left[:end], left[end:]
                self._show(piece.decode())
        self._show(left.decode())

    def _show(self, text: str) -> None:
        self.raw += text
        self.screen.feed(text)
        self.seen.update(self.screen.lines[-12:])

    def resize(self, columns: int, rows: int = 24) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(columns, rows)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        try:
            code = self.process.wait(stretched(300))
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.thread.join(60)
        assert self.screen.is_cursor_visible
        assert self.screen.column == 0, self.screen.lines[-3:]
        assert "Traceback" not in self.raw
        return code

    def saw(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in tuple(self.seen))


def table(lines: Sequence[str]) -> Sequence[str]:
    first = next(number for number, line in enumerate(lines) if line.startswith("model "))
    return lines[first : lines.index("", first)]


BLOCK = r"^\[.*\] ━* ?\d+ running"


@pytest.mark.parametrize("columns", [80, 100])
def test_a_run_shows_what_runs_and_leaves_a_table_that_fits(
    farm: Farm, convolutions: onnx.ModelProto, columns: int
) -> None:
    farm.add("convolutions", convolutions)
    terminal = Terminal(farm.command(), farm.variables(), columns=columns)
    assert terminal.end() == 0, terminal.screen.lines
    assert terminal.saw(BLOCK)
    assert terminal.saw(r"^  compile x86_64-convolutions-float32 \d+\.\d s")
    assert terminal.saw(r"about \d+ (s|min) left")
    lines = terminal.screen.lines
    assert not [line for line in lines if re.search(BLOCK, line) or line.startswith("  compile")]
    assert [line for line in lines if re.match(r"\[ *\d+/\d+\] compile x86_64-convolutions-float32 run ", line)]
    assert max(map(width, table(lines))) <= columns
    assert table(lines)[1].split()[:3] == ["convolutions", "x86_64", "passed"]
    assert any(line.startswith("reports: ") for line in lines[-6:])
    again = Terminal(farm.command(), {**farm.variables(), "PYTHONPROFILEIMPORTTIME": "1"}, columns=columns)
    assert again.end() == 0
    assert "crossfarm.util.console" in again.raw
    assert "rich" not in again.raw, "a run with nothing to do imports it"
    assert "\x1b[1A" not in again.raw


def test_a_terminal_may_be_resized_meanwhile(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    terminal = Terminal(farm.command("--stages", "compile"), farm.variables(), columns=120)
    wait_until(lambda: terminal.saw(r"^  compile x86_64-long"), process=terminal.process)
    for columns in (60, 80, 100):
        terminal.resize(columns)
        terminal.seen.clear()
        wait_until(lambda: terminal.saw(r"^  compile x86_64-long"), process=terminal.process)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert not [line for line in terminal.screen.lines if re.search(BLOCK, line)]


def test_ctrl_c_leaves_the_terminal_clean(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    terminal = Terminal(farm.command(), farm.variables(), columns=80)
    wait_until(lambda: compiles(farm) and terminal.saw(r"^  compile x86_64-long"), process=terminal.process)
    terminal.type("\x03")
    assert terminal.end() == 130
    lines = terminal.screen.lines
    assert not [line for line in lines if re.search(BLOCK, line) or line.startswith("  compile")]
    assert [line for line in lines if line.startswith("interrupted: what was done is kept")]
    assert any(line.startswith("reports: ") for line in lines[-6:])


@pytest.mark.parametrize(
    ("variables", "has_block", "has_colour"),
    [({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False), ({"CI": "true"}, False, False)],
)
def test_the_environment_says_what_a_terminal_gets(
    farm: Farm, small_model: onnx.ModelProto, variables: dict[str, str], has_block: bool, has_colour: bool
) -> None:
    farm.add("adder", small_model)
    command = ["env", *(f"{name}={value}" for name, value in variables.items()), *farm.command("--stages", "prepare")]
    terminal = Terminal(command, farm.variables(), columns=80)
    assert terminal.end() == 0
    assert terminal.saw(BLOCK) == has_block
    assert bool(re.search(r"\x1b\[[\d;]+m", terminal.raw)) == has_colour
    assert any(line.startswith("reports: ") for line in terminal.screen.lines[-6:])


def test_quiet_shows_the_table_and_nothing_before_it(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    terminal = Terminal(farm.command("--stages", "prepare", "--quiet"), farm.variables(), columns=80)
    assert terminal.end() == 0
    assert not terminal.saw(BLOCK)
    assert not [line for line in terminal.screen.lines if line.startswith("[")]


def test_json_is_one_object_and_all_else_stands_on_the_terminal(farm: Farm, convolutions: onnx.ModelProto) -> None:
    farm.add("convolutions", convolutions)
    reading, writing = os.pipe()
    terminal = Terminal(farm.command("--json"), farm.variables(), columns=100, stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        outcome = json.loads(stream.read())
    assert terminal.end() == 0
    jsonschema.Draft202012Validator(schemas.schema("outcome")).validate(outcome)
    assert (outcome["outcome"], outcome["exit_code"], outcome["counts"]) == ("passed", 0, {"passed": 1})
    (cell,) = outcome["cells"]
    assert cell["id"] == "x86_64-convolutions-float32"
    assert cell["measurements"]["latency.p50"]["unit"] == "ns"
    assert outcome["reports"]["junit.xml"] == str(farm.out / "junit.xml")
    assert terminal.saw(BLOCK)
    assert table(terminal.screen.lines)
    # What a run prints is kept for the next one that is the same; the answer is more than that.
    command = ["crossfarm.cli.program" if word == "invoke" else word for word in farm.command("--json")]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, env=farm.variables(), check=True)
        assert set(json.loads(done.stdout)["jobs"]) == {"hit"}


@pytest.mark.parametrize(
    ("name", "text"), [("models.yaml", "nonsense: 1\n"), ("trial.yaml", 'name: "a\\e[2Jb\\x07\\r"\ntargets: [x]\n')]
)
def test_an_error_is_json_too_and_control_sequences_of_a_file_do_nothing(
    farm: Farm, small_model: onnx.ModelProto, name: str, text: str
) -> None:
    farm.add("adder", small_model)
    (farm.folder / name).write_text(text)
    reading, writing = os.pipe()
    terminal = Terminal(farm.command("--json"), farm.variables(), columns=100, stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        outcome = json.loads(stream.read())
    assert terminal.end() == 2
    jsonschema.Draft202012Validator(schemas.schema("outcome")).validate(outcome)
    assert (outcome["outcome"], outcome["exit_code"]) == ("error", 2)
    assert name in outcome["error"]
    assert "\x1b" not in terminal.raw


def test_control_sequences_of_a_model_do_nothing(farm: Farm, small_model: onnx.ModelProto) -> None:
    small_model.graph.node[0].op_type = "No\x1b[2J\x1b]0;title\x07Such\r\x9b5A"
    farm.add("adder", small_model)
    terminal = Terminal(farm.command(), farm.variables(), columns=80)
    assert terminal.end() == 1
    # The screen refuses sequences that it does not know: what is wrong stands there as plain text.
    assert any("NoSuch" in line.replace(" ", "") for line in terminal.screen.lines)


def test_a_killed_run_leaves_a_report_that_says_so(farm: Farm, long_model: onnx.ModelProto) -> None:
    farm.add("long", long_model)
    process = farm.start()
    wait_until(lambda: compiles(farm))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    root = ET.parse(farm.out / "junit.xml").getroot()  # noqa: S314
    assert int(root.get("errors", "0")) == 1
    (error,) = root.iter("error")
    assert error.get("message", "").startswith("the run ended without a word, as if it was killed")


def test_the_plan_is_json_too(farm: Farm, small_model: onnx.ModelProto) -> None:
    farm.add("adder", small_model)
    plan = json.loads(farm.run("--json", task="plan").output)
    assert plan["cells"] == ["x86_64-adder-float32"]
    jobs = {job["job"]: job for job in plan["jobs"]}
    assert jobs["compile:x86_64-adder-float32"]["choice"] == "run"
    assert jobs["compile:x86_64-adder-float32"]["reason"] == "it was never run"
    assert plan["counts"]["run"] == sum(job["choice"] == "run" for job in plan["jobs"])


def test_what_this_machine_has_is_json_too(farm: Farm) -> None:
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, env=farm.variables(), check=False)
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    wanted = [row for row in found["requirements"] if row["is_wanted"]]
    assert bool([row for row in wanted if row["found"] is None]) == (done.returncode == 3)
