# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Download images from http and https addresses; every host must be allowed.

A prompt that names an address makes this machine fetch it, so an address must not reach what only this machine can
reach. The environment variable `FILA_IMAGE_HOSTS` lists the allowed hosts, separated by commas, with `*` as a wildcard
(`*` alone allows every public host). Whatever the list says:

- only http and https, no user name in the address;
- a host must resolve to public addresses alone; one that is private, loopback, link-local or reserved must be in
  the list itself, as an address (`127.0.0.1`), because a name could resolve to anything;
- the connection goes to the very address that was checked, and every redirect is checked anew;
- `MAX_BYTES` of body and `MAX_SECONDS` for everything, redirects included, however slowly the servers speak.

Spaces and other than ASCII letters are sent as browsers send them.

Proxies are not used: through one, the address could not be checked.
"""

import contextlib
import fnmatch
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from .image_error import UnusableImage

HOSTS_VARIABLE = "FILA_IMAGE_HOSTS"
MAX_BYTES = 64 * 2**20
MAX_SECONDS = 30.0
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
# All of IPv6 that is public; the rest is one network's own, or leads to IPv4 addresses that it hides.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
ADDRESS_SIGNS = "!#$%&'()*+,/:;=?@[]~"  # allowed in an address besides letters and digits; `%` is escaped already


def allowed_hosts() -> tuple[str, ...]:
    """Return the hosts that the environment allows; none by default."""
    return tuple(host.strip().lower() for host in os.environ.get(HOSTS_VARIABLE, "").split(",") if host.strip())


def download(url: str, hosts: Sequence[str] | None = None) -> bytes:
    """Fetch the body of an address.

    Args:
        url: An http or https address.
        hosts: Allowed hosts, with `*` as a wildcard; those of the environment by default.

    Raises:
        UnusableImage: If the address is not allowed, does not answer in time, or answers anything but a body of
            moderate size.
    """
    hosts = allowed_hosts() if hosts is None else hosts
    given, deadline = url, time.monotonic() + MAX_SECONDS
    try:
        for _ in range(MAX_REDIRECTS + 1):
            parts = _checked(url, hosts)
            body, location = _get(parts, _public_address(parts, hosts), deadline)
            if location is None:
                return body
            url = urljoin(url, location)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnusableImage(f"{given!r} cannot be read ({error})", "Check the address.") from error
    raise UnusableImage(f"{given!r} redirects more than {MAX_REDIRECTS} times", "Pass the final address.")


def _checked(url: str, hosts: Sequence[str]) -> SplitResult:
    """Check an address and return its parts in ASCII."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise UnusableImage(f"{url!r} is no plain http or https address", "Download it and pass the file.")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    if not any(fnmatch.fnmatchcase(host, pattern) for pattern in hosts):
        raise UnusableImage(
            f"{url!r} is on the host {host!r}, which is not allowed",
            f"Download it and pass the file, or name the host in the environment variable {HOSTS_VARIABLE}.",
        )
    netloc = (f"[{host}]" if ":" in host else host) + ("" if parts.port is None else f":{parts.port}")
    path, query = quote(parts.path, ADDRESS_SIGNS), quote(parts.query, ADDRESS_SIGNS)
    return parts._replace(netloc=netloc, path=path, query=query)


def _public_address(parts: SplitResult, hosts: Sequence[str]) -> tuple[str, int]:
    """Return the address and port to connect to."""
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not (_is_public(address) or (address == host and address in hosts)):
            raise UnusableImage(
                f"{parts.geturl()!r} leads to {address}, which is not a public address",
                "Download it and pass the file; addresses inside a network are not fetched.",
            )
    return found[0], port


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(str(address.ipv4_mapped))
        if address not in GLOBAL_UNICAST or address.sixtofour is not None:  # an IPv4 address behind a relay
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _get(parts: SplitResult, address: tuple[str, int], deadline: float) -> tuple[bytes, str | None]:
    """Return the body, or the target of a redirect."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise _late()
    connection = http.client.HTTPConnection(str(parts.hostname), address[1])
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(address, timeout=seconds))
        if parts.scheme == "https":
            context = ssl.create_default_context()
            sock = stack.enter_context(
                context.wrap_socket(sock, server_hostname=parts.hostname, do_handshake_on_connect=False)
            )
        # A timeout of the socket starts again with every byte; this one does not.
        late = threading.Event()
        timer = threading.Timer(seconds, _shut, [sock, late])
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        connection.sock = sock
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": "fila", "Host": parts.netloc})
            response = stack.enter_context(connection.getresponse())
            location = response.headers.get("Location") if response.status in REDIRECTS else None
            if location is None and response.status != 200:
                raise OSError(f"HTTP Error {response.status}: {response.reason}")
            body = b"" if location else response.read(MAX_BYTES + 1)
            missing = 0 if location else response.length or 0  # what the header announced and did not come
        except (OSError, http.client.HTTPException) as error:
            if not late.is_set():
                raise
            raise _late() from error
        if late.is_set():
            raise _late()
    if len(body) > MAX_BYTES:
        raise OSError(f"it has more than {MAX_BYTES} bytes")
    if missing:
        raise OSError(f"the connection ended {missing} bytes early")
    # headers are read as latin-1; browsers send the bytes on as they came
    return body, None if location is None else quote(location.encode("latin-1"), ADDRESS_SIGNS)


def _late() -> OSError:
    return OSError(f"no complete answer in {MAX_SECONDS:g} seconds")


def _shut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):  # closed meanwhile
        sock.shutdown(socket.SHUT_RDWR)
