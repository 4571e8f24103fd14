"""A server that answers only those who reached it by a name of its own, for pages that need no login."""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

Application = Callable[..., Iterable[bytes]]
"""A WSGI application (PEP 3333)."""

LOCALHOST = "localhost"


def is_loopback(host: str) -> bool:
    """Whether an address or a name, such as ``127.0.0.1`` or ``localhost``, is this machine's alone."""
    address = _address(host)
    return host.lower() == LOCALHOST if address is None else address.is_loopback


def check_host(application: Application, listening: str) -> Application:
    """``application``, with 403 for every request that names another host than the one it listens on.

    A web page may let its own name point to the loopback address (DNS rebinding) or send requests to it: a browser
    would carry either out, and whoever reads or deletes here needs no login. Such requests have that page's name in
    ``Host`` or in ``Origin``.

    Args:
        application: a WSGI application.
        listening: the address that the server listens on; where it is not the loopback address, any address and this
            machine's names are answered as well, since no page owns these.
    """
    names = {LOCALHOST, listening.lower()}
    if not is_loopback(listening):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def answers(authority: str) -> bool:
        host = _host(authority)
        address = _address(host)
        if address is not None:
            return address.is_loopback or not is_loopback(listening)
        return host in names

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if answers(environ.get("HTTP_HOST", "")) and (origin is None or answers(urlsplit(origin).netloc)):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This server answers to its own address only; open the address that the command printed.\n"]

    return checked


def _host(authority: str) -> str:
    """The host of ``host:port`` in lower case, without the brackets of an IPv6 address; empty where there is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
