"""A load balancer that begins to speak TLS cuts no app server off."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
from ansible.module_utils.testing import patch_module_args
from ansible.modules import tls_upstreams
from conftest import needs_ipv6
from servers import serving

NAME = "app-servers.flaskfleet.internal"
FLEET, OTHER = trustme.CA(), trustme.CA()


class Handler(socketserver.BaseRequestHandler):
    """What nginx does: it answers 400 to a certificate that it does not take, and nothing to a request for no host."""

    def handle(self) -> None:
        """Answer one request."""
        is_balancer = isinstance(self.request, ssl.SSLSocket) and self.request.getpeercert()
        if self.request.recv(10000) and not is_balancer:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class IPv6Server(socketserver.TCPServer):
    """A server with an IPv6 address."""

    address_family = socket.AF_INET6


@contextmanager
def listening(name: str = "", ca: trustme.CA = FLEET, address: str = "127.0.0.1") -> Iterator[str]:
    """A server with a certificate for a name, or without TLS; its address and port."""
    server = (IPv6Server if ":" in address else socketserver.TCPServer)((address, 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if name:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        ca.issue_cert(name).configure_cert(context)
        FLEET.configure_trust(context)
        server.get_request = lambda: _wrapped(server, context)  # type: ignore[method-assign]
    with serving(server):
        shown = f"[{address}]" if ":" in address else address
        yield f"{shown}:{server.server_address[1]}"


def _wrapped(server: socketserver.TCPServer, context: ssl.SSLContext) -> Any:
    connection, address = server.socket.accept()
    return context.wrap_socket(connection, server_side=True), address


@pytest.fixture
def closed() -> Iterator[str]:
    """An address and port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """The balancer's certificate and key in one file."""
    path = tmp_path / "balancer.pem"
    FLEET.issue_cert("load-balancers.flaskfleet.internal").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def refusal(address: str, certificate: str) -> str:
    context = tls_upstreams.make_context(certificate, FLEET.cert_pem.bytes().decode())
    return tls_upstreams.refusal(address, context, NAME)


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_hosts_of_the_fleet_take_each_others_certificates(certificate: str, address: str) -> None:
    with listening(NAME, address=address) as server:
        assert refusal(server, certificate) == ""


def test_nginx_resets_the_connection_of_a_request_for_no_host(
    certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL of Debian 13 tells that as an error, the one of Debian 12 as an end."""
    monkeypatch.setattr(ssl.SSLSocket, "recv", Mock(side_effect=ConnectionResetError("reset")))
    with listening(NAME) as server:
        assert refusal(server, certificate) == ""


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({}, "[SSL: "),
        ({"name": "load-balancers.flaskfleet.internal"}, "Hostname mismatch"),
        ({"name": NAME, "ca": OTHER}, "certificate verify failed"),
    ],
    ids=["no TLS", "another name", "another CA"],
)
def test_others_are_refused(certificate: str, server: dict[str, Any], words: str) -> None:
    with listening(**server) as address:
        told = refusal(address, certificate)
    assert told and words in told


def test_an_answer_of_nginx_that_takes_no_certificate_is_told() -> None:
    """The handshake succeeds."""
    context = ssl.create_default_context(cadata=FLEET.cert_pem.bytes().decode())
    with listening(NAME) as address:
        assert tls_upstreams.refusal(address, context, NAME) == "HTTP/1.1 400 Bad Request"


# the module


def result(capsys: pytest.CaptureFixture[str], certificate: str, **servers: tuple[str, str]) -> dict[str, Any]:
    """What the module returns; ``servers`` by name, each the addresses of http and TLS."""
    arguments = {
        "servers": [{"name": name, "address": http, "secure_address": tls} for name, (http, tls) in servers.items()],
        "server_name": NAME,
        "certificate": certificate,
        "ca": FLEET.cert_pem.bytes().decode(),
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        tls_upstreams.main()
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_an_app_server_that_would_be_cut_off_is_named(
    capsys: pytest.CaptureFixture[str], certificate: str, closed: str
) -> None:
    with ExitStack() as stack:
        http, tls = (stack.enter_context(listening(name)) for name in ("", NAME))
        told = result(capsys, certificate, app1=(http, tls), app2=(http, closed), app3=(closed, closed))
    assert told["failed"]
    assert f"not yet by TLS: app2 ({closed}: [Errno 111] Connection refused). The nginx of this" in told["msg"]
    assert told["msg"].endswith("Run site.yml for them first, or for all hosts (no --limit)")


def test_an_app_server_that_is_down_hinders_nobody(
    capsys: pytest.CaptureFixture[str], certificate: str, closed: str
) -> None:
    with listening() as http, listening(NAME) as tls:
        told = result(capsys, certificate, app1=(http, tls), app2=(closed, closed))
    assert (told["changed"], told.get("failed", False)) == (False, False)
