"""The program of a bundle: what it writes, what it takes, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.result import RunnerResult
from tests.integration.runner import building
from tests.integration.runner.building import IDENTITY, WEIGHTS, Bundle, expected_share, make_bundle, run
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.integration


def shares(folder: Path) -> np.ndarray:
    return np.frombuffer((folder / "0.bin").read_bytes(), dtype=np.float32).reshape(-1, 2, 8)


def test_every_case_is_run_and_its_outputs_are_stacked(bundle: Bundle, tmp_path: Path) -> None:
    result = bundle.result("--outputs", tmp_path / "outputs")
    np.testing.assert_allclose(shares(tmp_path / "outputs"), expected_share(bundle.values), rtol=1e-6)
    assert (tmp_path / "outputs/1.bin").read_bytes() == bytes(3 * 4)
    assert (tmp_path / "outputs/2.bin").read_bytes() == 3 * WEIGHTS.tobytes()
    assert result["outputs"] == [
        {"name": "share", "file": "0.bin", "bytes": 192},
        {"name": "echo", "file": "1.bin", "bytes": 12},
        {"name": "weights", "file": "2.bin", "bytes": 192},
    ]


def test_a_result_is_written_in_place_where_nothing_can_be_made_beside_it(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "result.json").touch()
    folder.chmod(0o555)
    # Root may write everywhere, but for this right.
    without = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = run([*without, bundle.folder / "program", bundle.folder, "--result", folder / "result.json"])
    folder.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "result.json").read_text())["cases"] == 3
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_the_result_keeps_every_sample_and_says_what_ran(bundle: Bundle, sample_program: Path, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = bundle.run("--warmup", "4", "--repeat", "57", "--threads", "2", "--result", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    result = RunnerResult.model_validate_json(file.read_text())
    assert (result.model, result.target, result.identity) == ("sample", "host", IDENTITY)
    assert (result.threads, result.cases, result.warmup) == (2, 3, 4)
    assert len(result.latency_ns) == 57
    assert all(sample > 0 for sample in result.latency_ns)
    assert result.load_ns > 0
    assert result.verify_ns > 0
    assert (result.arena_bytes, result.weights_bytes) == (256, 64)
    assert result.program_bytes == sample_program.stat().st_size
    assert result.peak_rss_bytes > 1_000_000
    assert result.workspace_peak_bytes == (4096 + 8192) + 8192  # of the first thread, of the second
    assert not file.with_name("result.json.part").exists()


def test_peak_memory_is_the_program_s_own_and_not_that_of_its_parent(bundle: Bundle) -> None:
    ballast = np.ones(300_000_000, dtype=np.uint8)
    assert bundle.result()["peak_rss_bytes"] < ballast.nbytes


def test_the_default_is_one_thread_one_warm_up_and_ten_runs(bundle: Bundle) -> None:
    result = bundle.result()
    assert (result["threads"], result["warmup"], len(result["latency_ns"]), result["outputs"]) == (1, 1, 10, [])


def test_a_profile_has_the_time_of_every_call_of_every_profiled_run(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    result = bundle.result("--repeat", "5", "--profile", file)
    profile = json.loads(file.read_text())
    assert (profile["identity"], profile["threads"]) == (IDENTITY, 1)
    assert [call["name"] for call in profile["calls"]] == ["scale", "share", "obey"]
    assert all(len(call["ns"]) == 5 and min(call["ns"]) > 0 for call in profile["calls"])
    assert len(result["latency_ns"]) == 5
    assert not file.with_name("profile.json.part").exists()


def test_a_profile_of_no_runs_is_empty_and_one_that_cannot_be_written_ends_with_5(
    bundle: Bundle, tmp_path: Path
) -> None:
    bundle.result("--repeat", "0", "--profile", tmp_path / "empty.json")
    assert [call["ns"] for call in json.loads((tmp_path / "empty.json").read_text())["calls"]] == [[], [], []]
    options = ("--result", tmp_path / "result.json", "--profile", tmp_path / "nowhere" / "p.json")
    assert "p.json: cannot be written" in bundle.refusal(*options, code=5)


def test_code_that_fails_while_it_is_profiled_is_told(commanded: Callable[[int], Bundle], tmp_path: Path) -> None:
    bundle = commanded(building.FAIL)
    assert "call " in bundle.refusal("--profile", tmp_path / "p.json", code=4)


def test_no_timed_run_is_fine(bundle: Bundle) -> None:
    assert bundle.result("--repeat=0", "--warmup=0")["latency_ns"] == []


def test_only_the_first_cases_run_when_asked(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.result("--cases", "2", "--outputs", tmp_path / "outputs")["cases"] == 2
    np.testing.assert_allclose(shares(tmp_path / "outputs"), expected_share(bundle.values[:2]), rtol=1e-6)


def test_more_cases_than_there_are_is_wrong_usage(bundle: Bundle) -> None:
    assert bundle.refusal("--cases", "4", code=2) == "--cases 4: the bundle has 3"


@pytest.mark.parametrize("threads", ["1", "2", "3", "4", "16", "40"])
def test_any_number_of_threads_gives_the_same_answer(bundle: Bundle, threads: str, tmp_path: Path) -> None:
    bundle.result("--outputs", tmp_path / "one")
    bundle.result("--outputs", tmp_path / "many", "--threads", threads, "--repeat", "50")
    for name in ("0.bin", "1.bin", "2.bin"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def allowed_processors(process: int) -> dict[int, str]:
    """Return thread -> the processors that it may run on, as the kernel writes lists."""
    allowed = {}
    for folder in Path(f"/proc/{process}/task").iterdir():
        lines = (folder / "status").read_text().splitlines()
        allowed[int(folder.name)] = next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:"))
    return allowed


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor is no choice")
def test_threads_are_bound_to_the_processors_of_the_list(plain_program: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", plain_program)
    first, *_, last = sorted(os.sched_getaffinity(0))
    options = ["--threads", "3", "--affinity", f"{last},{first}", "--repeat", "10000000"]
    with subprocess.Popen([bundle.folder / "program", bundle.folder, *options]) as process:
        try:
            expected = sorted([str(last), str(first), str(last)])
            wait_until(
                lambda: sorted(allowed_processors(process.pid).values()) == expected,
                process=process,
                told=lambda: allowed_processors(process.pid),
            )
            allowed = allowed_processors(process.pid)
        finally:
            process.kill()
    assert sorted(allowed.values()) == expected
    assert allowed[process.pid] == str(last)


def test_weights_that_shrink_under_a_running_program_end_it_with_5(plain_program: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", plain_program)
    outputs = tmp_path / "outputs"
    command: list[str | Path] = [bundle.folder / "program", bundle.folder, "--outputs", outputs, "--repeat", "10000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: any(tmp_path.glob("outputs/2.bin")), process=process)
            os.truncate(bundle.folder / "weights.bin", 0)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert said == "program: a file could not be read while it was in use; it changed, or the disk failed\n"
    assert process.returncode == 5


def test_a_processor_that_is_not_there_is_wrong_usage(bundle: Bundle) -> None:
    assert bundle.refusal("--affinity", "999", code=2) == "--affinity: processor 999 cannot be used: Invalid argument"
    usable = min(os.sched_getaffinity(0))
    refusal = bundle.refusal("--affinity", f"{usable},999", "--threads", "2", code=2)
    assert refusal == "processor 999 cannot be used: Invalid argument"


@pytest.mark.parametrize("threads", ["1", "2", "3", "7"])
def test_a_launch_of_more_tasks_than_threads_runs_each_task_once(
    commanded: Callable[[int], Bundle], threads: str
) -> None:
    assert commanded(building.UNEVEN).result("--threads", threads)["cases"] == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (building.FAIL, "call 3 of 3, obey: ValueError: argument 0 of obey was told to fail"),
        (building.FAIL_SILENTLY, "call 3 of 3, obey: failed without a reason"),
        (building.FAIL_IN_TASK, "call 3 of 3, obey: ValueError: argument 0 of a task"),
        (building.ASK_TOO_OFTEN, "call 3 of 3, obey: more than 32 workspaces in use at once"),
        (building.RELEASE_WRONGLY, "call 3 of 3, obey: a workspace was released that is not in use"),
        (building.CROWD, "call 3 of 3, obey: a barrier over 64 tasks needs as many threads"),
        (building.CRASH, "the model's code reached past its memory"),
        (building.TRAP, "illegal instruction; the target's cpu is not this machine's"),
    ],
)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_code_that_fails_is_told_and_ends_with_4(
    commanded: Callable[[int], Bundle], command: int, message: str, threads: str
) -> None:
    assert commanded(command).refusal("--threads", threads, code=4) == message


def test_memory_that_is_not_there_ends_with_5(commanded: Callable[[int], Bundle]) -> None:
    done = commanded(building.ASK_TOO_MUCH).run()
    assert done.returncode == 5
    last = done.stderr.splitlines()[-1]  # before it stands a warning of the sanitizer
    assert last == "program: call 3 of 3, obey: out of memory: 4611686018427387904 bytes of workspace"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_with_5_and_leaves_the_device_alone(bundle: Bundle) -> None:
    refusal = bundle.refusal("--result", "/dev/full", code=5)
    assert refusal == "/dev/full: cannot be written: No space left on device"
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_outputs_that_do_not_fit_end_with_5(bundle: Bundle, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "1.bin").symlink_to("/dev/full")
    refusal = bundle.refusal("--outputs", outputs, code=5)
    assert refusal == f"{outputs}/1.bin: cannot be written: No space left on device"


def test_a_result_that_cannot_be_written_leaves_the_old_one(bundle: Bundle, tmp_path: Path) -> None:
    refusal = bundle.refusal("--result", tmp_path / "missing/result.json", code=5)
    assert refusal == f"{tmp_path}/missing/result.json: cannot be written: No such file or directory"
    (tmp_path / "result.json").write_text("old")
    (tmp_path / "result.json.part").mkdir()
    bundle.refusal("--result", tmp_path / "result.json", code=5)
    assert (tmp_path / "result.json").read_text() == "old"


def test_an_outputs_folder_that_cannot_be_made_ends_with_5(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert bundle.refusal("--outputs", tmp_path / "file/outputs", code=5).endswith("cannot be made: Not a directory")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--thread", "2"], "unknown option '--thread'; see --help"),
        (["--frobnicate"], "unknown option '--frobnicate'; see --help"),
        (["-h"], "unknown option '-h'; see --help"),
        (["--threads"], "--threads lacks its value; see --help"),
        (["--threads", "0"], "--threads takes a number from 1 to 256, not '0'"),
        (["--threads", "257"], "--threads takes a number from 1 to 256, not '257'"),
        (["--threads", "2x"], "--threads takes a number from 1 to 256, not '2x'"),
        (["--repeat", "-1"], "--repeat takes a number from 0 to 10000000, not '-1'"),
        (["--repeat", "9999999999999"], "--repeat takes a number from 0 to 10000000, not '9999999999999'"),
        (["--cases=0"], "--cases takes a number from 1 to 10000000, not '0'"),
        (["--affinity", ""], "--affinity takes a list of at most 256 processors such as 0-3,6, not ''"),
        (["--affinity", "3-1"], "--affinity takes a list of at most 256 processors such as 0-3,6, not '3-1'"),
        (["--affinity", "0,"], "--affinity takes a list of at most 256 processors such as 0-3,6, not '0,'"),
        (["--affinity", "0-256"], "--affinity takes a list of at most 256 processors such as 0-3,6, not '0-256'"),
        (["--outputs="], "--outputs takes a path, not nothing"),
        (["another"], "one bundle at a time: 'another' is one too many"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(bundle: Bundle, options: list[str], message: str) -> None:
    assert bundle.refusal(*options, code=2) == message


def test_no_bundle_is_wrong_usage(sample_program: Path) -> None:
    done = run([sample_program])
    assert (done.returncode, done.stderr) == (2, "program: which bundle? see --help\n")


def test_help_names_every_option_and_version_names_the_build(sample_program: Path) -> None:
    text = run([sample_program, "--help"]).stdout
    for option in ("threads", "affinity", "warmup", "repeat", "cases", "outputs", "result", "no-verify", "version"):
        assert f"--{option} " in text
    assert run([sample_program, "--version"]).stdout == f"sample for host, identity {IDENTITY}\n"


def test_the_result_is_json_even_when_names_need_escapes(link_sample: Callable[..., Path], tmp_path: Path) -> None:
    program = link_sample("quoted", 'MODEL_NAME="a\\"b\\\\c"')
    bundle = make_bundle(tmp_path / "bundle", program)
    bundle.edit_manifest(lambda manifest: manifest.update(model='a"b\\c'))
    assert json.loads(bundle.run().stdout)["model"] == 'a"b\\c'
