"""Which names are answered to, and which requests of browsers come from another site."""

import pytest
from starlette.requests import Request

from ser.corpus.errors import UserError
from ser.serve.hosts import Hosts, allowed_host, is_loopback
from ser.serve.limits import Refused


def status(hosts, *headers, method="POST"):
    """Return the status of the refusal, or 200."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        hosts.check(Request({"type": "http", "method": method, "headers": raw}))
    except Refused as refused:
        return refused.status_code
    return 200


OPEN = Hosts(["192.168.0.7", "Ser.example.org", "2001:db8::1", "0.0.0.0"])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("localhost", 200), ("localhost:7860", 200), ("LOCALHOST", 200), ("localhost.", 200)),
        *(("127.0.0.1", 200), ("127.9.9.9:80", 200), ("[::1]", 200), ("[::1]:7860", 200)),
        *(("[0:0:0:0:0:0:0:1]", 200), ("192.168.0.7:1", 200), ("ser.EXAMPLE.org.:443", 200)),
        *(("[2001:db8:0::1]:80", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421)),
        *(("localhost.evil.example", 421), ("evil-localhost", 421), ("192.168.0.8", 421)),
        *(("[::2]", 421), ("ser.example.org.evil", 421), ("0127.0.0.1", 421), ("127.1", 421)),
        *(("", 400), ("localhost:", 400), ("localhost:x", 400), ("localhost, evil.example", 400)),
        *(("user@localhost", 400), ("localhost/", 400), ("localhost evil", 400), ("::1", 400)),
        *(("[::1", 400), ("löcalhost", 400), ("localhost:999999", 400), ("localhost:80:80", 400)),
    ],
)
def test_names_that_are_answered_to(host, expected):
    assert status(OPEN, ("host", host)) == expected


def test_exactly_one_host():
    assert status(OPEN) == 400
    assert status(OPEN, ("host", "localhost"), ("host", "localhost")) == 400
    assert status(OPEN, ("host", "localhost"), ("x-forwarded-host", "evil.example")) == 200


def test_without_names_only_loopback_is_answered():
    assert status(Hosts(), ("host", "127.0.0.1:7860")) == 200
    assert status(Hosts(), ("host", "192.168.0.7")) == 421


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("localhost:7860", "http://localhost:7860", 200),
        ("localhost:7860", "http://LOCALHOST:7860", 200),
        ("ser.example.org", "https://ser.example.org", 200),
        ("localhost:7860", "http://localhost:3000", 403),
        ("localhost:7860", "http://localhost", 403),
        ("localhost:7860", "http://127.0.0.1:7860", 403),
        ("localhost:7860", "https://evil.example", 403),
        ("localhost:7860", "http://localhost:7860@evil.example", 403),
        ("localhost:7860", "http://evil.example/localhost:7860", 403),
        ("localhost:7860", "null", 403),
        ("localhost:7860", "", 403),
        ("localhost:7860", "http://[", 403),
        ("localhost:7860", "ftp://localhost:7860", 403),
    ],
)
def test_only_the_same_origin_may_send_requests(host, origin, expected):
    for method in ("POST", "GET", "OPTIONS"):
        assert status(OPEN, ("host", host), ("origin", origin), method=method) == expected


def test_two_origins_are_both_checked():
    own, other = ("origin", "http://localhost"), ("origin", "http://evil.example")
    assert status(OPEN, ("host", "localhost"), own, other) == 403


@pytest.mark.parametrize(
    ("method", "site", "mode", "dest", "expected"),
    [
        ("POST", "same-origin", "cors", "empty", 200),
        ("GET", "none", "navigate", "document", 200),
        ("GET", "cross-site", "navigate", "document", 200),
        ("GET", "cross-site", "navigate", "iframe", 403),
        ("GET", "cross-site", "no-cors", "image", 403),
        ("POST", "cross-site", "navigate", "document", 403),
        ("POST", "same-site", "cors", "empty", 403),
        ("GET", "same-site", "no-cors", "script", 403),
    ],
)
def test_headers_of_browsers_name_the_requesting_site(method, site, mode, dest, expected):
    headers = (("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest))
    assert status(OPEN, ("host", "localhost"), *headers, method=method) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("example.org", False), ("192.168.0.7", False)),
        *(("", False), ("127.1", False), ("localhost.example", False)),
    ],
)
def test_is_loopback(host, expected):
    assert is_loopback(host) is expected


def test_values_of_allow_host():
    assert allowed_host("ser.example.org") == "ser.example.org"
    assert allowed_host("2001:db8::1") == allowed_host("[2001:db8::1]") == "2001:db8::1"
    for wrong in ("", "*", "http://a", "a:80", "a b", "a/"):
        with pytest.raises(UserError, match="give only a name or an address"):
            allowed_host(wrong)
