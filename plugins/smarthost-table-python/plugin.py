"""A sample of a plugin that overrides: a table of recipient domains, each with the
host that takes its mail instead of what DNS says.

    [plugin.config.routes]
    "example.com" = "relay.example.net:2525"
    "*.example.org" = { host = "10.0.0.25", tls = "encrypt", auth = "partner" }
    "*" = "smarthost.example.net"

An exact entry wins over a suffix, a longer suffix over a shorter one, and any of
them over `*`. A domain that no entry matches goes where it would have gone.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional

import waypost
from waypost import routes, routing

KEY = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
POLICIES = {
    "off": routes.TlsPolicy_Off(),
    "opportunistic": routes.TlsPolicy_Opportunistic(),
    "encrypt": routes.TlsPolicy_Encrypt(),
    "verify": routes.TlsPolicy_Verify([]),
    "dane": routes.TlsPolicy_Dane(),
    "implicit": routes.TlsPolicy_Implicit(),
}
FIELDS = ("host", "port", "tls", "auth")


@dataclass
class Entry:
    """Where the mail of a domain goes."""

    host: str
    port: Optional[int] = None
    tls: Optional[str] = None
    auth: Optional[str] = None

    @staticmethod
    def parse(value: Any) -> "Entry":
        """Reads an entry; raises ValueError with what is wrong with it."""
        if isinstance(value, str):
            entry = Entry.from_text(value)
        elif isinstance(value, dict):
            for key in value:
                if key not in FIELDS:
                    raise ValueError(f"unknown field `{key}`")
            if "host" not in value:
                raise ValueError("missing field `host`")
            entry = Entry(**value)
        else:
            raise ValueError(f'{json.dumps(value)} is neither "host:port" nor a table')
        entry.check()
        return entry

    @staticmethod
    def from_text(text: str) -> "Entry":
        """`host`, `host:port`, `[2001:db8::1]:port`."""
        bracketed = re.fullmatch(r"\[(.*?)\]:?(.*)", text)
        if bracketed:
            host, port = bracketed.groups()
        elif waypost.is_address(text):
            host, port = text, ""
        else:
            host, _, port = text.partition(":")
        if not port and not text.endswith(":"):
            return Entry(host)
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{json.dumps(port)} is no port")
        return Entry(host, int(port))

    def check(self) -> None:
        if self.port == 0:
            raise ValueError("0 is no port")
        if self.port is not None and not (type(self.port) is int and 0 < self.port < 65536):
            raise ValueError(f"port = {json.dumps(self.port)}, but a number up to 65535 is wanted")
        if not waypost.is_address(self.host) and not NAME.fullmatch(self.host):
            raise ValueError(f"{json.dumps(self.host)} is neither a host nor an address")
        if self.tls is not None and self.tls not in POLICIES:
            raise ValueError(
                f"tls = {json.dumps(self.tls)}, but off, opportunistic, encrypt, verify, dane "
                "or implicit is wanted"
            )

    def hop(self) -> routes.NextHop:
        tls = POLICIES[self.tls] if self.tls else None
        return waypost.hop(self.host, self.port, tls=tls, auth=self.auth)

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def keys_for(domain: str) -> Iterator[str]:
    """The keys that match a domain, the closest first."""
    yield domain
    _, dot, rest = domain.partition(".")
    while dot:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")
    yield "*"


class Lifecycle(waypost.Plugin):
    NAME = "smarthost-table"

    def check_config(self) -> List[str]:
        routes = waypost.read_config("routes")
        if not routes:
            return ["routes: no entry; a table of domains is wanted"]
        faults = []
        for key, value in routes.items():
            place = f"routes.{json.dumps(key)}"
            if not KEY.fullmatch(key):
                faults.append(f"{place}: a domain in lower case, `*.domain` or `*` is wanted")
            try:
                Entry.parse(value)
            except ValueError as fault:
                faults.append(f"{place}: {fault}")
        return faults


class RoutingPhase(routing.RoutingPhase):
    def route(self, req: routing.Request) -> List[routing.Verdict]:
        for key in keys_for(req.domain):
            # Only the entry that matters is read: a call costs the same with a
            # table of ten thousand domains.
            value = waypost.read_config(f"routes.{waypost.quote_key(key)}")
            if value is None:
                continue
            try:
                entry = Entry.parse(value)
            except ValueError as fault:
                # What has been checked cannot be wrong, unless the check is.
                waypost.broken(fault)
            return [routing.verdict(routing.use_hops(entry.hop()), note=f"{key} -> {entry}")]
        return []
