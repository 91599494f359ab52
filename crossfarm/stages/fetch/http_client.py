"""Downloads one file over HTTP with requests; urllib3's Retry counts the attempts and waits between them."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from crossfarm.errors import FetchError
from crossfarm.util.https import authorities, bad_certificate, is_private, no_password

ATTEMPTS = 6
TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20
_REDIRECTS = 5
_SERVER_ERRORS = range(500, 600)


class Patience(Retry):
    """Six attempts with 1, 2, 4, 8 and 16 seconds between them, for what may be gone at the next one.

    Attributes:
        wait: waits the given seconds.
    """

    wait: Callable[[float], None]

    @classmethod
    def of(cls, wait: Callable[[float], None]) -> Self:
        """Return the patience of a download that has not begun."""
        made = cls(
            total=ATTEMPTS - 1,
            status_forcelist=_SERVER_ERRORS,
            allowed_methods={"GET"},
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        made.wait = wait
        return made

    def new(self, **changes: Any) -> Self:
        """Return a copy after one attempt more, as urllib3 makes it."""
        made = super().new(**changes)
        made.wait = self.wait
        return made

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait before the next attempt. urllib3 itself would not wait before the second one."""
        self.wait(2.0 ** (len(self.history) - 1))

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        """Count one attempt; a certificate that is not trusted will not be trusted the next time."""
        if isinstance(error, SSLError) and bad_certificate(error) is not None:
            raise MaxRetryError(_pool, url or "", error)
        return super().increment(method, url, response, error, _pool, _stacktrace)


def download(url: str, *, sha256: str, path: Path, size_limit: int, wait: Callable[[float], None]) -> int:
    """Download an address to a file and return its size in bytes; on any error the file is not there.

    Args:
        url: an address that `is_private` allows.
        sha256: digest that the content must have, 64 hexadecimal digits.
        path: of the file; it is not read before this returns.
        size_limit: bytes after which the download is given up.
        wait: waits the given seconds between two attempts.

    Raises:
        FetchError: the server refuses, six attempts failed, or the content is not the pinned one.
    """
    adapter = HTTPAdapter(max_retries=Patience.of(wait))
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, adapter)
        # The file is pinned as it is sent, so it may not be compressed on the way.
        session.headers.update({"User-Agent": "crossfarm", "Accept-Encoding": "identity"})
        session.verify = authorities()
        session.auth = no_password
        try:
            while True:
                with _open(session, adapter, url) as response:
                    try:
                        return _receive(response, url, sha256=sha256, path=path, size_limit=size_limit)
                    except _CutError as error:
                        # The same count goes on: urllib3 sees only trouble before the body.
                        adapter.max_retries = response.raw.retries.increment("GET", url, error=error.cause)
                adapter.max_retries.sleep()
        except (requests.RequestException, MaxRetryError) as error:
            raise _failed(url, error) from error


class _CutError(Exception):
    """A body that broke off."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.cause = HTTPError(message)


def _open(session: requests.Session, adapter: HTTPAdapter, url: str) -> requests.Response:
    """Return the answer behind all redirects, its body unread."""
    place = url
    for _ in range(_REDIRECTS + 1):
        response = session.get(place, stream=True, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        target = session.get_redirect_target(response)
        if target is None:
            if response.status_code >= 300:
                response.close()
                raise _refused(url, response)
            return response
        response.close()
        target = urllib.parse.urljoin(place, target)
        if not is_private(target):
            raise FetchError(
                f"{place} redirects to {target}, which is not https; give the final https address in `url`"
            )
        place, adapter.max_retries = target, response.raw.retries
    raise FetchError(f"{url} redirects more than {_REDIRECTS} times; give the final https address in `url`")


def _refused(url: str, response: requests.Response) -> FetchError:
    said = f"the server says {response.status_code} {response.reason}"
    if response.status_code in _SERVER_ERRORS:
        return _given_up(url, said)
    return FetchError(f"{url}: {said}; correct `url`")


def _receive(response: requests.Response, url: str, *, sha256: str, path: Path, size_limit: int) -> int:
    """Stream the body into the file, digesting as it comes.

    Raises:
        _CutError: the connection broke.
    """
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isascii() and length.isdecimal() else -1
    too_large = f"{url} is larger than {size_limit} bytes, which is the most that is downloaded"
    if announced > size_limit:
        raise FetchError(too_large)
    hasher = hashlib.sha256()
    size = 0
    try:
        with path.open("wb") as stream:
            while chunk := _read(response, size, announced):
                size += len(chunk)
                if size > size_limit:
                    raise FetchError(too_large)
                hasher.update(chunk)
                stream.write(chunk)
        if size < announced:
            raise _CutError(f"the body was truncated: {size} of {announced} bytes")
        if hasher.hexdigest() != sha256:
            raise FetchError(
                f"{url} is not the pinned file: expected sha256 {sha256}, got {hasher.hexdigest()} ({size} bytes); "
                "if the new file is the one you want, put its sha256 into models.yaml"
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return size


def _read(response: requests.Response, size: int, announced: int) -> bytes:
    try:
        return bytes(response.raw.read1(_CHUNK, decode_content=False))
    except (HTTPError, OSError) as error:
        if size < announced:
            raise _CutError(f"the body was truncated: {size} of {announced} bytes ({type(error).__name__})") from error
        raise _CutError(f"the body broke off after {size} bytes: {type(error).__name__}") from error


def _failed(url: str, error: Exception) -> FetchError:
    """Return what to tell of what requests or urllib3 gave up at."""
    reason: Any = error
    while (inner := getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)) and isinstance(
        inner, Exception
    ):
        reason = inner
    certificate = bad_certificate(reason)
    if certificate is not None:
        return FetchError(
            f"{url}: the server's certificate is not trusted: {certificate.verify_message}; "
            "install the certificate authority of your network"
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return FetchError(f"{url} is no address that can be asked: {reason}; correct `url`")
    if isinstance(reason.__cause__, OSError):  # urllib3 puts an object's address before what the system said
        reason = reason.__cause__
    return _given_up(url, str(reason) or type(reason).__name__)


def _given_up(url: str, reason: str) -> FetchError:
    return FetchError(f"could not download {url} in {ATTEMPTS} attempts: {reason}; check the network and try again")
