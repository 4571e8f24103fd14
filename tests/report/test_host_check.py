import socket

import pytest

from bitsearch.report.host_check import check_host, is_loopback


def answer(host, listening="127.0.0.1", **environ):
    """The status of a request."""
    statuses = []

    def application(environ, start_response):
        start_response("204 No Content", [])
        return []

    request = {"REQUEST_METHOD": "DELETE", **({} if host is None else {"HTTP_HOST": host}), **environ}
    list(check_host(application, listening)(request, lambda status, headers: statuses.append(status)))
    return int(statuses[0].split()[0])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LOCALHOST.", "[::1]:8080", "127.1.2.3"]
)
def test_loopback_names_are_answered(host):
    assert answer(host) == 204


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080"),
        *("evil.example@127.0.0.1x", "192.168.1.7:8080", "0.0.0.0", "[::]", "[::1", "10.0.0.1"),
    ],
)
def test_a_page_that_rebinds_its_name_is_refused(host):
    assert answer(host) == 403


def test_a_request_that_another_page_sends_is_refused():
    assert answer("127.0.0.1:8080", HTTP_ORIGIN="https://evil.example") == 403
    assert answer("127.0.0.1:8080", HTTP_ORIGIN="null") == 403
    assert answer("127.0.0.1:8080", HTTP_ORIGIN="http://127.0.0.1:8080") == 204


def test_a_server_for_others_answers_to_addresses_and_its_own_names():
    for host in ("192.168.1.7:8080", "localhost", f"{socket.gethostname()}:8080", "[fe80::1]"):
        assert answer(host, "0.0.0.0") == 204
    assert answer("lab.example:80", "lab.example") == 204
    for host in ("evil.example", "", None):
        assert answer(host, "0.0.0.0") == 403


def test_loopback_addresses_are_known():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "lab.example")] == [
        *(True, True, True, False, False)
    ]
