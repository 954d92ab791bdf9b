"""Which addresses a door listens on."""

import socket

import pytest

from fairlead_gateway.edge.binding import (
    BindError,
    InsecureBindingError,
    TcpListener,
    Tls,
    bind,
    check_binding,
    format_address,
    is_loopback,
)

TLS = Tls(certificate_file="c", key_file="k")
MTLS = Tls(certificate_file="c", key_file="k", client_ca_file="ca")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_loopback(host):
    assert is_loopback(host)
    check_binding(TcpListener(host=host))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.1.2.3", "no-such-host.invalid"])
def test_elsewhere_needs_tls_and_authentication(host):
    assert not is_loopback(host)
    for listener in (
        TcpListener(host=host),
        TcpListener(host=host, token="t"),
        TcpListener(host=host, tls=TLS),
    ):
        with pytest.raises(InsecureBindingError, match=r"ssl_certfile.*FAIRLEAD_TOKEN.*ssl_ca_certs.*--insecure"):
            check_binding(listener)
        with pytest.raises(InsecureBindingError):
            bind(listener)
    check_binding(TcpListener(host=host, insecure=True))
    check_binding(TcpListener(host=host, tls=TLS, token="t"))
    check_binding(TcpListener(host=host, tls=MTLS))


def test_a_taken_port_is_an_error_that_says_where_and_why():
    with bind(TcpListener()) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}.*in use.*another port with http_options"):
            bind(TcpListener(port=port))


def test_workers_may_share_a_port():
    with bind(TcpListener(reuse_port=True)) as first:
        port = first.getsockname()[1]
        bind(TcpListener(port=port, reuse_port=True)).close()


def test_unresolvable_host():
    with pytest.raises(BindError, match=r"no-such-host\.invalid"):
        bind(TcpListener(host="no-such-host.invalid", insecure=True))


def test_addresses():
    assert format_address("127.0.0.1", 1) == "127.0.0.1:1"
    assert format_address("::1", 1) == "[::1]:1"
    with bind(TcpListener()) as bound:
        assert bound.family is socket.AF_INET
