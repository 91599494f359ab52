"""Downloads, tried against a real server on this machine that misbehaves as told."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.errors import FetchError, ToolError
from crossfarm.stages.fetch.download import base_name, download_url, download_wheel, other_wheel

BODY = b"weights" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def good(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY)


def truncated(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY[:100])


def dropped(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def without_length(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(BODY)


def status(code: int) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def redirect(target: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class Server:
    """Gives the prepared answers one after another, the last one for ever, and counts the requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests += 1
                answer = owner.answers.pop(0) if len(owner.answers) > 1 else owner.answers[0]
                answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A dropped connection makes the handler raise when it flushes, which is meant here.
        self.http.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_port}/models/model.onnx"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def test_a_download_is_stored_under_its_base_name(server: Server, tmp_path: Path) -> None:
    server.answers = [good]
    fetched = download_url(server.url, sha256=DIGEST, folder=tmp_path)
    assert fetched.path == tmp_path / "model.onnx"
    assert fetched.path.read_bytes() == BODY
    assert (fetched.size, fetched.sha256) == (len(BODY), DIGEST)


def test_a_body_of_unknown_length_is_taken(server: Server, tmp_path: Path) -> None:
    server.answers = [without_length]
    assert download_url(server.url, sha256=DIGEST, folder=tmp_path).size == len(BODY)


@pytest.mark.parametrize("trouble", [status(500), status(503), truncated, dropped], ids=["500", "503", "cut", "drop"])
def test_transient_trouble_is_waited_out(server: Server, tmp_path: Path, trouble: Answer) -> None:
    server.answers = [trouble, trouble, good]
    waits: list[float] = []
    download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=waits.append)
    assert waits == [1.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_after_six_attempts_the_last_reason_is_told(server: Server, tmp_path: Path) -> None:
    server.answers = [truncated]
    waits: list[float] = []
    with pytest.raises(FetchError, match=r"in 6 attempts: the body was truncated: 100 of 7000 bytes"):
        download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert server.requests == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [400, 403, 404, 410, 429])
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, code: int) -> None:
    server.answers = [status(code)]
    with pytest.raises(FetchError, match=f"the server says {code}"):
        download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=_never)
    assert server.requests == 1


def test_another_content_is_refused_with_both_digests(server: Server, tmp_path: Path) -> None:
    server.answers = [good]
    with pytest.raises(FetchError, match=f"expected sha256 {'0' * 64}, got {DIGEST}.*put its sha256 into models.yaml"):
        download_url(server.url, sha256="0" * 64, folder=tmp_path, sleep=_never)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [good, without_length], ids=["announced", "streamed"])
def test_a_file_over_the_limit_is_refused(server: Server, tmp_path: Path, answer: Answer) -> None:
    server.answers = [answer]
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        download_url(server.url, sha256=DIGEST, folder=tmp_path, size_limit=1000, sleep=_never)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_on_this_machine_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers = [redirect(server.url), good]
    assert download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=_never).size == len(BODY)


@pytest.mark.parametrize(
    "target", ["http://example.org/model.onnx", "ftp://example.org/model.onnx", "file:///etc/passwd"]
)
def test_a_redirect_to_an_unsafe_address_is_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.answers = [redirect(target)]
    with pytest.raises(FetchError):
        download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=_never)
    assert server.requests == 1


def test_redirects_in_a_circle_end(server: Server, tmp_path: Path) -> None:
    server.answers = [redirect(server.url)]
    with pytest.raises(FetchError):
        download_url(server.url, sha256=DIGEST, folder=tmp_path, sleep=_never)
    assert server.requests < 10


@pytest.mark.parametrize("url", ["http://example.org/a", "file:///etc/passwd", "ftp://example.org/a", "https:///a"])
def test_only_https_and_this_machine_are_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match="give an https address"):
        download_url(url, sha256=DIGEST, folder=tmp_path, sleep=_never)


def test_a_server_that_is_not_there_is_tried_six_times(tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(FetchError, match="in 6 attempts"):
        download_url("http://127.0.0.1:1/model.onnx", sha256=DIGEST, folder=tmp_path, sleep=waits.append)
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/b.onnx?token=1#x", "b.onnx"),
        ("https://example.org/", "download"),
        ("https://example.org/a/..", "download"),
        ("https://example.org/%2e%2e%2fpasswd", "passwd"),
        ("https://example.org/a%00b;rm.onnx", "a_b_rm.onnx"),
    ],
)
def test_the_name_of_a_download_cannot_leave_its_folder(url: str, name: str) -> None:
    assert base_name(url) == name


def test_a_wheel_is_taken_when_it_is_the_pinned_one(tmp_path: Path) -> None:
    command = _pip(tmp_path, 'Path(folder, "thing-1.0-py3-none-any.whl").write_bytes(b"wheel")')
    digest = hashlib.sha256(b"wheel").hexdigest()
    fetched = download_wheel("thing==1.0", sha256=digest, folder=_output(tmp_path), sleep=_never, command=command)
    assert fetched.path.read_bytes() == b"wheel"
    assert [path.name for path in fetched.path.parent.iterdir()] == ["thing-1.0-py3-none-any.whl"]


def test_another_wheel_is_refused_with_both_digests(tmp_path: Path) -> None:
    command = _pip(tmp_path, 'Path(folder, "thing-1.0-py3-none-any.whl").write_bytes(b"wheel")')
    digest = hashlib.sha256(b"wheel").hexdigest()
    with pytest.raises(FetchError, match=f"expected sha256 {'0' * 64}, got .* {digest}"):
        download_wheel("thing==1.0", sha256="0" * 64, folder=_output(tmp_path), sleep=_never, command=command)


def test_a_wheel_for_another_machine_serves_when_it_is_the_pinned_one(tmp_path: Path) -> None:
    script = """
foreign = "--platform" in sys.argv
name = "thing-1.0-cp311-cp311-manylinux2014_x86_64.whl" if foreign else "thing-1.0-cp311-cp311-linux_aarch64.whl"
Path(folder, name).write_bytes(b"foreign" if foreign else b"native")
"""
    digest = hashlib.sha256(b"foreign").hexdigest()
    command = _pip(tmp_path, script)
    fetched = download_wheel("thing==1.0", sha256=digest, folder=_output(tmp_path), sleep=_never, command=command)
    assert fetched.path.read_bytes() == b"foreign"


def test_a_package_that_does_not_exist_is_told_at_once(tmp_path: Path) -> None:
    command = _pip(tmp_path, 'sys.exit("ERROR: No matching distribution found for thing==1.0")')
    with pytest.raises(FetchError, match=r"no wheel of thing==1\.0: No matching distribution"):
        download_wheel("thing==1.0", sha256=DIGEST, folder=_output(tmp_path), sleep=_never, command=command)


def test_a_network_failure_of_pip_is_waited_out(tmp_path: Path) -> None:
    script = """
count = Path(sys.argv[0]).with_suffix(".count")
calls = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (calls + 1))
if calls < 2:
    Path(folder, "half.whl").write_bytes(b"ha")
    sys.exit("WARNING: Retrying (Retry(total=0)) after connection broken\\nERROR: No matching distribution found")
Path(folder, "thing-1.0-py3-none-any.whl").write_bytes(b"wheel")
"""
    waits: list[float] = []
    digest = hashlib.sha256(b"wheel").hexdigest()
    command = _pip(tmp_path, script)
    download_wheel("thing==1.0", sha256=digest, folder=_output(tmp_path), sleep=waits.append, command=command)
    assert waits == [1.0, 2.0]


def test_an_index_that_answers_with_server_errors_is_asked_again(tmp_path: Path) -> None:
    script = """
print("Could not fetch URL http://index/simple/thing/: (Caused by ResponseError('too many 503 error responses'))")
sys.exit("ERROR: No matching distribution found for thing==1.0")
"""
    waits: list[float] = []
    command = _pip(tmp_path, script)
    with pytest.raises(FetchError, match=r"thing==1\.0 in 6 attempts: Could not fetch URL .*too many 503"):
        download_wheel("thing==1.0", sha256=DIGEST, folder=_output(tmp_path), sleep=waits.append, command=command)
    assert len(waits) == 5


def test_another_failure_of_pip_is_told_with_its_last_error(tmp_path: Path) -> None:
    command = _pip(tmp_path, 'sys.exit("ERROR: Invalid requirement\\nNotice: a newer pip is there")')
    with pytest.raises(FetchError, match=r"could not download thing==1\.0: Invalid requirement"):
        download_wheel("thing==1.0", sha256=DIGEST, folder=_output(tmp_path), sleep=_never, command=command)


def test_a_pip_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"\./inv setup"):
        download_wheel(
            "thing==1.0", sha256=DIGEST, folder=_output(tmp_path), sleep=_never, command=[str(tmp_path / "no-pip")]
        )


def _never(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s for something that cannot change")


def _output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def _pip(tmp_path: Path, script: str) -> list[str]:
    """Return a command that is called like pip and does what the script says."""
    program = tmp_path / "pip.py"
    head = "import sys\nfrom pathlib import Path\nfolder = sys.argv[sys.argv.index('--dest') + 1]\n"
    program.write_text(head + script)
    return [sys.executable, str(program)]


def test_the_wheel_that_pip_was_offered_is_found_in_what_it_says() -> None:
    digest = "ab" * 32
    said = f"""
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
    thing==1.0 from https://index.example/thing-1.0-py3-none-any.whl#sha256={digest} (from -r r.txt):
        Expected sha256 {"0" * 64}
             Got        {digest}
"""
    assert other_wheel(said) == ("https://index.example/thing-1.0-py3-none-any.whl", digest)
    assert other_wheel(said.replace("Got", "Not")) is None
    assert other_wheel("ERROR: No matching distribution found") is None


@pytest.mark.parametrize(
    "flood",
    [
        "DO NOT MATCH THE HASHES " * 40_000,
        "DO NOT MATCH THE HASHES" + " from x.whl" * 90_000,
        "DO NOT MATCH THE HASHES from a.whl" + " Got " * 200_000,
        "DO NOT MATCH THE HASHES from " + ".whl" * 250_000 + " Got" + " " * 1_000_000,
    ],
)
def test_a_megabyte_of_what_an_index_made_pip_say_is_read_in_no_time(flood: str) -> None:
    started = time.process_time()
    assert other_wheel(flood) is None
    assert time.process_time() - started < 1
