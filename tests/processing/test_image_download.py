# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Addresses: off by default, public hosts only, every redirect checked, bounded in size and time."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fila.processing import image_download
from fila.processing.image_download import allowed_hosts, download
from fila.processing.image_error import ImageInputError, UnusableImage
from fila.processing.image_input import load_images
from fila.processing.image_source import read_source
from tests.cases import each

HERE = ("127.0.0.1",)
BODY = b"not an image, but bytes"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to="):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        if self.path == "/later":
            time.sleep(0.06)
            self.send_response(302)
            self.send_header("Location", "/later")
            self.end_headers()
            return
        known = {"/a.png", "/a.png?size=3", "/large", "/short", "/slow", "/a%20b%C3%A4.png?c=%20%C3%A4%2F"}
        self.send_response(200 if self.path in known else 404)
        if self.path == "/short":
            self.send_header("Content-Length", str(len(BODY) + 7))
        self.end_headers()
        if self.path == "/slow":  # a byte now and then, until the client leaves
            while True:
                time.sleep(0.02)
                self.wfile.write(b"x")
                self.wfile.flush()
        self.wfile.write(BODY * (50 if self.path == "/large" else 1))

    def log_message(self, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        pass  # a client that leaves early


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("path", ["/a.png", "/a.png?size=3", "/to=/a.png", "/to=/to=/a.png"])
def test_download_follows_to_the_body(address: str, path: str) -> None:
    assert download(address + path, HERE) == BODY


@pytest.mark.parametrize(
    "path", ["/a b\u00e4.png?c= \u00e4%2F", "/a%20b%C3%A4.png?c=%20%C3%A4%2F", "/to=/a%20b%C3%A4.png?c=%20%C3%A4%2F"]
)
def test_addresses_may_hold_what_browsers_escape(address: str, path: str) -> None:
    assert download(address + path, HERE) == BODY


@pytest.mark.parametrize("scheme", ["HTTP", "Http"])
def test_the_scheme_may_be_written_in_capitals(address: str, scheme: str) -> None:
    assert read_source(scheme + address.removeprefix("http") + "/a.png", HERE) == (BODY, None)


def test_redirects_share_one_time_limit(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download, "MAX_SECONDS", 0.1)
    with pytest.raises(UnusableImage, match=r"no complete answer in 0.1 seconds"):
        download(f"{address}/later", HERE)


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://b\u00fccher.example/", "xn--bcher-kva.example"), ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1")],
)
def test_hosts_are_compared_as_they_are_looked_up(url: str, host: str) -> None:
    with pytest.raises(UnusableImage, match=f"is on the host '{host}', which is not allowed"):
        download(url, ())


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::]"])
def test_other_spellings_of_an_address_are_no_way_in(address: str, host: str) -> None:
    with pytest.raises(UnusableImage, match=r"which is not a(llowed| public address)|cannot be read"):
        download(f"http://{host}:{address.rpartition(':')[2]}/a.png", ("*", "127.0.0.1", "::1"))


def test_download_is_off_by_default(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FILA_IMAGE_HOSTS", raising=False)
    message = r"^Image 0 of sample 0 'http://127.*a.png' is on the host '127.0.0.1', which is not allowed. Download it"
    with pytest.raises(ImageInputError, match=message):
        load_images([[f"{address}/a.png"]])


def test_hosts_come_from_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILA_IMAGE_HOSTS", " Example.com, *.example.org ,127.0.0.1,")
    assert allowed_hosts() == ("example.com", "*.example.org", "127.0.0.1")
    assert download(f"{address}/a.png") == BODY


@pytest.mark.parametrize("hosts", [(), ("example.com",), ("*.0.0.2",)])
def test_download_rejects_other_hosts(address: str, hosts: tuple[str, ...]) -> None:
    with pytest.raises(UnusableImage, match=r"is on the host '127.0.0.1', which is not allowed"):
        download(f"{address}/a.png", hosts)


@pytest.mark.parametrize("hosts", [("*",), ("127.0.0.*",), ("localhost", "127.0.0.1")])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_wildcards_and_names_do_not_open_private_addresses(address: str, host: str, hosts: tuple[str, ...]) -> None:
    url = f"http://{host}:{address.rpartition(':')[2]}/a.png"
    named = host in hosts
    if host == "127.0.0.1" and named:
        assert download(url, hosts) == BODY
        return
    with pytest.raises(UnusableImage, match=r"which is not a(llowed| public address)"):
        download(url, hosts)


def test_a_name_that_also_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.7")]
    monkeypatch.setattr(image_download.socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(UnusableImage, match=r"leads to 10.0.0.7, which is not a public address"):
        download("http://images.example.com/a.png", ("images.example.com",))


def test_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]
    monkeypatch.setattr(image_download.socket, "getaddrinfo", lambda *args, **kwargs: found)
    reached: list[Any] = []

    def connect(target: tuple[str, int], timeout: float) -> socket.socket:
        reached.append(target)
        raise OSError("no network in tests")

    monkeypatch.setattr(image_download.socket, "create_connection", connect)
    with pytest.raises(UnusableImage, match=r"cannot be read \(no network in tests\)"):
        download("http://images.example.com:8000/a.png", ("*",))
    assert reached == [("8.8.8.8", 8000)]


@pytest.mark.parametrize("target", ["http://127.0.0.2/a.png", "//127.0.0.2/a.png"])
def test_redirects_are_checked(address: str, target: str) -> None:
    with pytest.raises(UnusableImage, match=r"'http://127.0.0.2/a.png' is on the host '127.0.0.2', which is not al"):
        download(f"{address}/to={target}", HERE)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.png"])
def test_redirects_stay_on_the_web(address: str, target: str) -> None:
    with pytest.raises(UnusableImage, match=r"is no plain http or https address"):
        download(f"{address}/to={target}", HERE)


def test_endless_redirects_are_refused(address: str) -> None:
    with pytest.raises(UnusableImage, match=r"redirects more than 5 times"):
        download(f"{address}{'/to=' * 9}/a.png", HERE)


def test_errors_of_the_server_are_told(address: str) -> None:
    with pytest.raises(UnusableImage, match=r"'http://.*/b.png' cannot be read \(HTTP Error 404: Not Found\)"):
        download(f"{address}/b.png", HERE)


def test_large_bodies_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download, "MAX_BYTES", 1000)
    with pytest.raises(UnusableImage, match=r"it has more than 1000 bytes"):
        download(f"{address}/large", HERE)


def test_short_bodies_are_refused(address: str) -> None:
    with pytest.raises(UnusableImage, match=r"the connection ended 7 bytes early"):
        download(f"{address}/short", HERE)


def test_slow_bodies_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download, "MAX_SECONDS", 0.1)
    with pytest.raises(UnusableImage, match=r"no complete answer in 0.1 seconds"):
        download(f"{address}/slow", HERE)


PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]
PRIVATE = ["10.1.2.3", "127.9.9.9", "169.254.169.254", "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0", "::"]
PRIVATE += ["::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808"]
PRIVATE += ["fec0::1", "64:ff9b:1::808:808", "::8.8.8.8", "100::1", "5f00::1"]
PRIVATE += ["2002:a00:1::", "2002:808:808::", "2001:0:1::", "224.0.0.1", "240.0.0.1"]


@each(("address", "expected"), [(a, True) for a in PUBLIC] + [(a, False) for a in PRIVATE])
def test_public_addresses(address: str, expected: bool) -> None:
    assert image_download._is_public(address) is expected
