"""The transport of a board that is reached over ssh; each request sends remote.sh along."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from crossfarm.boards.protocol import BoardState, DeployedBundle, ExitResult, Purpose, Timing, killed, overdue
from crossfarm.boards.transports.bundle_files import BundleFiles, read_bundle, sent_bytes, write_archive
from crossfarm.boards.transports.connection import MOST_TEXT_BYTES, CommandResult, Connection, Feed, Timeouts
from crossfarm.boards.transports.facts import Facts, slowed_down
from crossfarm.boards.transports.fit import check_fit, check_health, read_program
from crossfarm.boards.transports.run_archive import Expected, RunReport, expected_of, unpack
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util.text import one_line

_SCRIPT = Path(__file__).with_name("remote.sh")
_SLOWEST_BYTES = 256 * 1024
"""Bytes per second below which a link is taken for broken."""
_DAYS = 30
"""Bundles that were not used for so long go when another one needs room."""
_BAD_BUNDLE = 3
"""Exit code of a bundle's program that refuses its bundle."""


class SshBoard:
    """One board for one job."""

    def __init__(
        self,
        board: Board,
        purpose: Purpose,
        *,
        token: int,
        timing: Timing = "silicon",
        timeouts: Timeouts | None = None,
    ) -> None:
        self._board, self._purpose, self._token = board, purpose, token
        self._timeouts = timeouts or Timeouts()
        self._connection = Connection(board, timeouts=self._timeouts)
        self._facts: Facts | None = None
        self._rows: dict[str, bytes] = {}
        self._expected: dict[str, Expected] = {}
        self._script = _SCRIPT.read_text(encoding="utf-8")
        self.timing: Timing = "emulated" if board.timing == "emulated" else timing

    @property
    def emulator(self) -> str | None:
        """Return what emulates the board's processor, as a virtual board says or its signs show."""
        if self._facts is None:
            return None
        return self._facts.emulator or (self._facts.virtual.name if self._facts.virtual.is_emulated else None)

    @property
    def commands(self) -> int:
        """Return how many requests were made; each is one round trip."""
        return self._connection.commands

    def __enter__(self) -> SshBoard:
        """Connect; see Transport."""
        self._connection.__enter__()
        return self

    def __exit__(self, *arguments: object) -> None:
        """Close the connection."""
        self._connection.__exit__(*arguments)

    def preflight(self) -> BoardState:
        """End what earlier holders left, and judge the board; see Transport. One round trip."""
        facts = self._learn(Facts.parse(self._ask("preflight").text()))
        check_health(self._board, facts)
        return facts.state()

    def probe(self) -> BoardState:
        """Look at the board, and change nothing there."""
        return self.look().state()

    def look(self) -> Facts:
        """Return all that the board says of itself; changes nothing there."""
        return self._learn(Facts.parse(self._ask("probe").text()))

    def _learn(self, facts: Facts) -> Facts:
        """Keep what a board says; what its entry declares of its clock goes before what it shows."""
        self._facts = facts
        if facts.virtual.is_emulated and self._board.timing is None:
            self.timing = "emulated"
        return facts

    def deploy(self, bundle: Path) -> DeployedBundle:
        """Send what the board lacks of a bundle; see Transport. One round trip when it lacks nothing, else two."""
        facts = self._facts or self.look()
        files = read_bundle(bundle)
        if self._purpose.code is not None:
            program = read_program(bundle / "program")
            check_fit(program, facts, self._purpose.code, board=self._board.name, target=self._purpose.target)
        self._rows[files.digest], self._expected[files.digest] = files.rows, expected_of(bundle)
        answer = self._ask("offer", files.digest, feed=lambda send: send(files.rows)).text()
        if answer.startswith("there"):
            return DeployedBundle(place=files.digest)
        return self._store(files, _wanted(answer, files))

    def _store(self, files: BundleFiles, wanted: dict[int, str]) -> DeployedBundle:
        size = sent_bytes(files, wanted)
        # Files whose head alone is sent are copied on the board and take as much room as others.
        kept = sum(files.files[number].bytes for number in wanted)
        room = (kept >> 10) + (self._board.limits.free_disk << 10)
        answer = self._ask(
            "store",
            files.digest,
            str(room),
            str(_DAYS),
            feed=lambda send: write_archive(files, wanted, send),
            timeout=4 * self._timeouts.answer + kept / _SLOWEST_BYTES,
        )
        answer.output.close()
        return DeployedBundle(place=files.digest, files_sent=len(wanted), bytes_sent=size)

    def run(
        self, bundle: DeployedBundle, options: Sequence[str], *, output: Path, timeout: float, profile: bool = False
    ) -> ExitResult:
        """Run a bundle's program and fetch what it wrote; see Transport. One round trip."""
        started = time.monotonic()
        words = [bundle.place, f"{timeout:.3f}", self._board.governor, "profile" if profile else "plain", *options]
        expected = self._expected[bundle.place] if profile else self._expected[bundle.place].plain()
        answer = self._ask("run", *words, timeout=timeout + 4 * self._timeouts.answer, most=expected.bytes)
        report = self._unpack(answer, expected, output)
        code, tail, facts = report.code, report.tail, report.before
        where = f"program on board {self._board.name}"
        if code in (124, 137, 143) and time.monotonic() - started >= timeout:
            raise overdue(where, timeout=timeout, tail=tail)
        if code in (126, 127):
            raise BoardError(
                f"{where} cannot be started: {tail.strip() or 'the board does not say why'}; see that "
                f"{self._board.folder} is on a file system that may run programs"
            )
        if code == _BAD_BUNDLE:
            self._verify(bundle)
        if code > 128:
            raise killed(where, number=code - 128, tail=tail)
        throttled = slowed_down(facts.thermal, report.after)
        return ExitResult(code=code, tail=tail, state=facts.state(report.after), throttled=throttled)

    def _verify(self, bundle: DeployedBundle) -> None:
        """Look whether a bundle that its program refuses is still what was sent.

        Raises:
            BoardError: it is not.
        """
        rows = self._rows.get(bundle.place)
        if rows is None:
            return
        found = self._ask(
            "verify", bundle.place, feed=lambda send: send(rows), timeout=10 * self._timeouts.answer
        ).text()
        if found != "good\n":
            raise BoardError(
                f"board {self._board.name}: files of the bundle were damaged there after they had been verified, so "
                "its disk or card may be failing; they were dropped and will be sent again: run again"
            )

    def _unpack(self, answer: CommandResult, expected: Expected, output: Path) -> RunReport:
        """Take out of the archive that `run` answers with what is expected there, and nothing else."""
        try:
            with answer.output as stream:
                return unpack(stream, expected, output)
        except BoardError as error:
            said = f"{error}; {one_line(answer.said)}" if answer.said else str(error)
            raise BoardError(
                f"board {self._board.name} did not send the result of a run whole: {said}; see that its disk is not "
                "full, and what answers there"
            ) from error

    def _ask(
        self,
        verb: str,
        *arguments: str,
        timeout: float | None = None,
        most: int = MOST_TEXT_BYTES,
        feed: Feed | None = None,
    ) -> CommandResult:
        """Make one request of remote.sh.

        Raises:
            BoardError: it ended with another exit code than 0.
        """
        words = ["sh", "-c", self._script, "crossfarm", self._board.folder, str(self._token), verb, *arguments]
        seconds = self._timeouts.answer if timeout is None else timeout
        answer = self._connection.execute(words, timeout=seconds, most=most, feed=feed)
        if answer.code != 0:
            answer.output.close()
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: CommandResult) -> BoardError:
        said = one_line(answer.said.rpartition("\n")[2]) or f"exit code {answer.code}"
        if answer.code == 91:
            return BoardError(
                f"board {self._board.name}: this lease has ended and the board went to another holder ({said}); what "
                "came late was refused"
            )
        if answer.code == 96:
            return BoardError(f"board {self._board.name} has no room: {said}; make room on its disk")
        return BoardError(f"board {self._board.name}: {said}; look at {self._board.folder} on the board")


def _wanted(answer: str, files: BundleFiles) -> dict[int, str]:
    """Return number of a file -> `whole` or `head`, from the answer to `offer`; the same content is sent once."""
    lines = re.findall(r"^(whole|head) ([0-9]{1,6})$", answer, re.MULTILINE)
    wanted = {int(number): part for part, number in lines if int(number) < len(files.files)}
    by_content = {files.files[number].sha256: number for number in wanted}
    return {number: wanted[number] for number in by_content.values()}


def open_board(board: Board, purpose: Purpose, *, token: int) -> SshBoard:
    """Return the transport of a board over ssh; the timing of a virtual one is emulated."""
    timing: Timing = "emulated" if board.transport == "virtual" else "silicon"
    return SshBoard(board, purpose, token=token, timing=timing)
