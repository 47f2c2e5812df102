"""Checks of the requested host, and of requests that other sites make a browser send.

A page of another site cannot read this server's answers, but it can send requests, and by DNS
rebinding (its own name resolved to this machine) it can read the answers too. Such requests name
the other site in `Host`, `Origin` or `Sec-Fetch-Site`, which scripts cannot change. Following a
link to the page is allowed: GET, `Sec-Fetch-Mode: navigate`, a whole document.
"""

import contextlib
import re
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.requests import HTTPConnection

from ser.corpus.errors import UserError
from ser.serve.limits import Refused

AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
OWN = ("same-origin", "none")


class Hosts:
    """The accepted hosts: those of `--host` and `--allow-host`, and the loopback interface."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {_plain(name) for name in names}

    def check(self, request: HTTPConnection) -> None:
        """Raise `Refused` for a request to another host, or one that another site caused."""
        given = request.headers.getlist("host")
        match = AUTHORITY.fullmatch(given[0]) if len(given) == 1 else None
        if match is None:
            raise Refused(
                400, "the request needs exactly one `Host` header with a name or an address."
            )
        name = _plain(match[1])
        if name not in self._names and not is_loopback(name):
            raise Refused(
                421,
                f"this server does not accept requests to {name:.100}; start it with "
                "`--allow-host` and this name.",
            )
        host = given[0].lower()
        own = (f"http://{host}", f"https://{host}")
        foreign = any(o.lower() not in own for o in request.headers.getlist("origin"))
        site = request.headers.get("sec-fetch-site", "none")
        if foreign or (site not in OWN and not _followed_link(request)):
            raise Refused(403, "the request comes from another site; open this server's own page.")


def allowed_host(name: str) -> str:
    """Return the value of `--allow-host`; raises `UserError` if it cannot be a `Host`."""
    with contextlib.suppress(ValueError):
        return str(ip_address(name.strip("[]")))
    if ":" in name or AUTHORITY.fullmatch(name) is None:
        raise UserError(
            f"--allow-host {name}: give only a name or an address, e.g. ser.example.org"
        )
    return name


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from this machine only."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def _plain(name: str) -> str:
    """Return a host without brackets, capitals and the dot of the root; addresses in one form."""
    name = name.lower().strip("[]").removesuffix(".")
    with contextlib.suppress(ValueError):
        return str(ip_address(name))
    return name


def _followed_link(request: HTTPConnection) -> bool:
    headers = request.headers
    return (
        request.scope.get("method") == "GET"  # a websocket has none
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
    )
