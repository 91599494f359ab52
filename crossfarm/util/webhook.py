"""Sends a document to a webhook: once, encrypted, to nobody else, and for no longer than it may take."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from crossfarm.util.https import authorities, bad_certificate, is_private, no_password

if TYPE_CHECKING:
    import requests

_REDIRECTS = 3
_GOOD = range(200, 300)
_SEE_OTHER = HTTPStatus.SEE_OTHER
"""The document has arrived; another page tells of it."""

_NOT_SO = "it cannot be asked so: correct the address or the headers"


def post(url: str, document: str, *, headers: Mapping[str, str], seconds: float) -> str:
    """Send a JSON document by POST; return why it did not arrive, empty when it did.

    Only https is spoken, or http with this machine; certificates are checked against what this machine trusts. A
    redirect is followed on the same host and port alone: neither the document nor a header goes to another one. What
    is returned holds nothing of the address but its host, because chat services make the path a secret.

    Args:
        url: the address.
        document: JSON.
        headers: of the request.
        seconds: after which it is given up, whatever the server is doing.
    """
    answered: list[str] = []

    def ask() -> None:
        answered.append(_asked(url, document, headers, seconds))

    # A server may send a byte now and then for ever: no limit of a socket ends that, so the thread is left to itself.
    asking = threading.Thread(target=ask, name="webhook", daemon=True)
    asking.start()
    asking.join(seconds)
    return answered[0] if answered else f"{host_of(url)} did not answer within {seconds:g} s"


def host_of(url: str) -> str:
    """Return the host of an address, and its port where one is given."""
    try:
        parts = urllib.parse.urlsplit(url)
        return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "?"


def _asked(url: str, document: str, headers: Mapping[str, str], seconds: float) -> str:
    import requests

    if not all(value.isprintable() for value in headers.values()):
        return f"{host_of(url)}: {_NOT_SO}"
    try:
        with requests.Session() as session:
            session.auth = no_password
            # A proxy of the environment would read what is to stay on this machine.
            session.trust_env = url.startswith("https:")
            session.headers.update({"Content-Type": "application/json", "User-Agent": "crossfarm", **headers})
            return _sent(session, url, document.encode(), seconds)
    except requests.Timeout:
        return f"{host_of(url)} did not answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        # The words of these errors hold the address, so only their kind is told.
        return f"{host_of(url)}: {_kind(error)}"


def _sent(session: requests.Session, url: str, content: bytes, seconds: float) -> str:
    place = url
    for _ in range(_REDIRECTS + 1):
        if not is_private(place):
            return f"{host_of(url)}: the address is not https"
        answer = session.post(
            place, data=content, timeout=seconds, allow_redirects=False, stream=True, verify=authorities()
        )
        target = session.get_redirect_target(answer)
        answer.close()
        if answer.status_code in _GOOD or answer.status_code == _SEE_OTHER:
            return ""
        if target is None:
            return f"{host_of(url)} answered {answer.status_code}"
        following = urllib.parse.urljoin(place, target)
        if _origin(following) != _origin(place):
            return f"{host_of(url)} redirects to another place, {host_of(following)}, which is told nothing"
        place = following
    return f"{host_of(url)} redirects more than {_REDIRECTS} times"


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _kind(error: BaseException) -> str:
    import requests

    certificate = bad_certificate(error)
    if certificate is not None:
        return f"its certificate is not trusted ({certificate.verify_message})"
    if isinstance(error, requests.exceptions.SSLError):
        return "no encrypted connection can be made"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return "the certificates that are to be trusted cannot be read"
    return _NOT_SO
