"""Notices of real runs: a real command, real servers that speak TLS, hang, redirect, or have a wrong certificate."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from crossfarm.util.paths import HOME
from crossfarm.util.webhook import post
from tests.integration.pipeline.conftest import Farm
from tests.waiting import stretched

pytestmark = pytest.mark.integration

SECRET = "T0000-B0000-XXXX"  # noqa: S105


class Server:
    """A server on this machine that keeps what it was asked."""

    def __init__(self, certificate: Path | None = None, **redirects: str) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, dict(self.headers), content))
                kind = self.path.strip("/").split("/")[0]
                if kind in redirects:
                    self.send_response(307)
                    self.send_header("Location", redirects[kind])
                elif kind == "hang":
                    outer.released.wait(60)
                elif kind == "drip":
                    with contextlib.suppress(OSError):
                        while not outer.released.wait(0.05):
                            self.wfile.write(b"H")
                            self.wfile.flush()
                    return
                else:
                    self.send_response(500 if kind == "broken" else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str = SECRET) -> str:
        return (
            f"{self.scheme}://{'localhost' if self.scheme == 'https' else '127.0.0.1'}:{self.server.server_port}/{path}"
        )

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Any]:
    made: list[Server] = []

    def started(certificate: Path | None = None, **redirects: str) -> Server:
        made.append(Server(certificate, **redirects))
        return made[-1]

    yield started
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return key and certificate of `localhost`, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", *words, *names, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return both


def send(url: str, seconds: float = 20, **headers: str) -> str:
    return post(url, '{"text": "x"}', headers=headers, seconds=seconds)


def test_a_document_arrives_with_its_headers_over_https(
    serve: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serve(certificate)
    assert send(server.url(), Authorization="Bearer abc") == ""
    ((path, headers, content),) = server.asked
    assert (path, content) == (f"/{SECRET}", b'{"text": "x"}')
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer abc", "application/json")


def test_a_certificate_that_nobody_signed_is_not_trusted_and_nothing_is_sent(
    serve: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    server = serve(certificate)
    told = send(server.url())
    assert told.startswith(f"localhost:{server.server.server_port}: its certificate is not trusted (self")
    assert SECRET not in told
    assert server.asked == []


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_webhook_that_hangs_is_given_up_in_time(serve: Any, how: str) -> None:
    server = serve()
    started = time.monotonic()
    told = send(server.url(f"{how}/{SECRET}"), seconds=1)
    assert time.monotonic() - started < stretched(5)
    assert told == f"127.0.0.1:{server.server.server_port} did not answer within 1 s"


def test_a_redirect_to_another_place_is_not_followed(serve: Any) -> None:
    other = serve()
    server = serve(away=other.url())
    told = send(server.url(f"away/{SECRET}"), Authorization="Bearer abc")
    port = other.server.server_port
    assert told.endswith(f"redirects to another place, 127.0.0.1:{port}, which is told nothing")
    assert other.asked == []


def test_a_redirect_on_the_same_host_is_followed_and_one_for_ever_is_not(serve: Any) -> None:
    server = serve(moved="/new", round="/round")
    assert send(server.url("moved")) == ""
    assert [path for path, _, _ in server.asked] == ["/moved", "/new"]
    assert send(server.url("round")).endswith("redirects more than 3 times")


def test_a_server_that_refuses_or_is_not_there_is_told_without_its_path(serve: Any) -> None:
    server = serve()
    assert send(server.url(f"broken/{SECRET}")).endswith(" answered 500")
    server.close()
    told = send(server.url())
    assert told.endswith("it cannot be reached")
    assert SECRET not in told


@pytest.mark.parametrize(("name", "value"), [("X-Token", "a\nb"), ("X-Token", "\x00"), ("X-Token", " a")])
def test_a_header_that_cannot_be_sent_is_told_without_its_value(serve: Any, name: str, value: str) -> None:
    server = serve()
    told = send(server.url(), **{name: value})
    assert told.endswith("correct the address or the headers")
    assert server.asked == []


class MailServer(socketserver.ThreadingTCPServer):
    """A server that takes mail over TLS, and keeps who sent what."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        self.logins: list[str] = []
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", 0), _Mail)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Mail(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"EHLO":
                self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif word == b"AUTH":
                self.server.logins.append(base64.b64decode(line.split()[2]).decode())
                self.wfile.write(b"235 welcome\r\n")
            elif word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                content = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(b"".join(content).decode())
                self.wfile.write(b"250 taken\r\n")
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


def test_the_example_for_mail_sends_the_text_over_tls_and_refuses_a_stranger(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MailServer(certificate)
    environment = {"SMTP_HOST": f"localhost:{server.server_address[1]}", "SMTP_USER": "farm@example.org"}
    for name, value in (environment | {"SMTP_PASSWORD": "hunter2"}).items():
        monkeypatch.setenv(name, value)
    told = json.dumps({"text": "regressed: a cell", "run": {"headline": "FAILED: 1 cell"}})
    command = [sys.executable, str(HOME / "docs" / "notify" / "mail.py"), "team@example.org"]
    try:
        for trusted, code in ((certificate, 0), (None, 1)):
            if trusted is None:
                for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
                    monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            done = subprocess.run(command, input=told, text=True, capture_output=True, check=False, timeout=60)
            assert done.returncode == code, done.stderr
            assert "hunter2" not in done.stderr
    finally:
        server.shutdown()
        server.server_close()
    assert server.logins == ["\0farm@example.org\0hunter2"]
    (mail,) = server.mails
    assert "Subject: crossfarm: FAILED: 1 cell" in mail and "To: team@example.org" in mail
    assert "regressed: a cell" in mail


NOTIFY = """
notify:
  - {{name: keeper, command: [{python}, -c, "import sys; open('told.json', 'w').write(sys.stdin.read())"],
     when: always}}
  - {{name: chat, url_variable: CHAT_WEBHOOK, text_key: text, when: always, headers: {{Authorization: CHAT_TOKEN}}}}
  - {{name: hanging, url: "{hanging}", when: always, timeout: 1}}
  - {{name: broken, command: ["false"], when: always}}
"""


def test_a_run_tells_all_that_its_pipeline_names_and_none_of_their_failures_fails_it(
    farm: Farm, small_model: onnx.ModelProto, serve: Any
) -> None:
    farm.add("adder", small_model)
    server, hanging = serve(), serve()
    path = farm.folder / "trial.yaml"
    path.write_text(path.read_text() + NOTIFY.format(python=sys.executable, hanging=hanging.url("hang")))
    farm.environment |= {"CHAT_WEBHOOK": server.url(), "CHAT_TOKEN": "hunter2"}
    for run in range(2):
        ended = farm.run("--measure-again") if run else farm.run()
        assert ended.code == 0, ended.output
        assert "notify hanging: not told: 127.0.0.1:" in ended.output and "did not answer within 1 s" in ended.output
        assert "notify broken: not told: false ended with exit code 1" in ended.output
        everything = ended.output + "".join(file.read_text() for file in farm.out.rglob("*") if file.is_file())
        assert "hunter2" not in everything and SECRET not in everything
    told = json.loads((farm.folder / "told.json").read_text())
    assert told["old"] == "the last 12 runs before"
    assert told["run"]["headline"] == "passed: 1 cell: 1 passed"
    assert len(server.asked) == 2
    (asked, headers, content) = server.asked[-1]
    assert (asked, headers["Authorization"]) == (f"/{SECRET}", "hunter2")
    assert json.loads(content)["text"].startswith("crossfarm: passed: 1 cell: 1 passed\nrun ")
