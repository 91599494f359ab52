"""What requests and urllib3 are told to do otherwise than they do by themselves, tried against real servers."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crossfarm.errors import FetchError
from crossfarm.stages.fetch.http_client import download

BODY = b"weights" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()
Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


def answer(code: int = 200, body: bytes = BODY, *, sent: int | None = None, **headers: str) -> Answer:
    """Return an answer that announces its body, and sends `sent` bytes of it."""

    def give(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[:sent])

    return give


class Server:
    """Gives the answers one after another, the last one for ever; keeps the headers of the requests."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.answers: list[Answer] = [answer()]
        self.asked: list[dict[str, str]] = []
        owner = self

        class Asked(Handler):
            def do_GET(self) -> None:
                owner.asked.append(dict(self.headers))
                (owner.answers.pop(0) if len(owner.answers) > 1 else owner.answers[0])(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.http.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.http.server_port}/model.onnx"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End the server."""
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and a certificate of 127.0.0.1 that no authority signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a farm's mirror")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    made = Server(certificate)
    yield made
    made.close()


def fetch(url: str, folder: Path, *, waits: list[float] | None = None, digest: str = DIGEST) -> bytes:
    """Download to a file and return its content; without `waits` no attempt may fail."""
    wait = _never if waits is None else waits.append
    download(url, sha256=digest, path=folder / "file", size_limit=1 << 20, wait=wait)
    return (folder / "file").read_bytes()


def _never(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s for something that cannot change")


def test_a_certificate_that_nobody_signed_is_told_at_once(secure: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="certificate is not trusted: self-signed certificate; install the cert"):
        fetch(secure.url, tmp_path)
    assert secure.asked == []


def test_an_authority_that_this_machine_trusts_is_trusted(
    secure: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch(secure.url, tmp_path) == BODY


def test_attempts_before_and_within_the_body_are_counted_together(server: Server, tmp_path: Path) -> None:
    server.answers = [answer(503), answer(sent=10), answer(503), answer(sent=10), answer(500), answer(502), answer()]
    waits: list[float] = []
    with pytest.raises(FetchError, match=r"in 6 attempts: the server says 502 Bad Gateway; check the network"):
        fetch(server.url, tmp_path, waits=waits)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert not (tmp_path / "file").exists()


def test_what_refused_the_connection_is_told_in_the_system_s_words(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"in 6 attempts: \[Errno 111\] Connection refused; check the network"):
        fetch("http://127.0.0.1:1/model.onnx", tmp_path, waits=[])


def test_a_packed_body_is_not_asked_for_and_not_unpacked(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(BODY)
    server.answers = [answer(body=packed, Content_Encoding="gzip")]
    assert fetch(server.url, tmp_path, digest=hashlib.sha256(packed).hexdigest()) == packed
    assert server.asked[0]["Accept-Encoding"] == "identity"


def test_a_password_of_the_user_is_sent_to_no_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login farm password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.answers = [answer(302, b"", Location=server.url), answer()]
    assert fetch(server.url, tmp_path) == BODY
    assert [asked.get("Authorization") for asked in server.asked] == [None, None]


def test_a_proxy_of_the_environment_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    # Nothing listens at port 1, so the body can only come by way of the proxy.
    assert fetch("http://127.0.0.1:1/model.onnx", tmp_path) == BODY


def test_how_long_a_server_wishes_to_be_left_alone_changes_nothing(server: Server, tmp_path: Path) -> None:
    server.answers = [answer(503, b"", Retry_After="86400"), answer()]
    waits: list[float] = []
    assert fetch(server.url, tmp_path, waits=waits) == BODY
    assert waits == [1.0]
