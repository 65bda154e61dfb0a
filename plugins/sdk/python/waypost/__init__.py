"""Waypost plugins in Python: the host's interfaces under short names, and short
ways to use them.

`wit_world` is what componentize-py generates from the contract
(waypost-policy.wit); its classes carry the contract's own comments. What belongs
to one phase is in a module of its own, which can be imported where the plugin
exports the phase: `waypost.sender`, `recipient`, `content` (the message phase),
`routing`, `delivery`.

There is no WASI: time and random numbers come from `ambient`, output goes to
`log`.
"""

import json
import re
from typing import Any, List, NoReturn, Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import lifecycle
from wit_world.imports import (
    ambient,
    config,
    destination,
    dns,
    http,
    log,
    message,
    metrics,
    routes,
    state,
    tables,
    types,
)

__all__ = [
    "Plugin",
    "ambient",
    "broken",
    "config",
    "destination",
    "dns",
    "hop",
    "http",
    "is_address",
    "log",
    "message",
    "metrics",
    "quote_key",
    "read_config",
    "reply",
    "routes",
    "state",
    "tables",
    "temporary",
    "types",
    "write_log",
]


class Plugin(exports.Lifecycle):
    """Who the plugin is. Make a class `Lifecycle` of it that says NAME and VERSION,
    and `check_config` where there is something to check."""

    NAME: str = ""
    VERSION: str = "0.1.0"

    def identify(self) -> lifecycle.Identity:
        return lifecycle.Identity(self.NAME, self.VERSION)

    def check_config(self) -> List[str]:
        """Every fault of the configuration; any refuses it."""
        return []

    def init(self) -> None:
        """Once for each instance, before its first call."""


def read_config(path: str = "") -> Any:
    """The configuration at a path, None where there is nothing. Read only what a
    call needs."""
    return json.loads(config.json(path))


def quote_key(key: str) -> str:
    """A key as one step of a path: in quotes, so that its dots do not count."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_log(level: log.Level, text: str, **fields: Any) -> None:
    """One line in the relay's log."""
    log.write(level, text, [types.Attribute(name, str(value)) for name, value in fields.items()])


def temporary(why: object) -> NoReturn:
    """Ends the call without a decision: it may work later."""
    raise Err(types.HookError_Temporary(str(why)))


def broken(why: object) -> NoReturn:
    """Ends the call without a decision: the plugin or its configuration is at fault."""
    raise Err(types.HookError_Broken(str(why)))


def reply(text: str, code: int = 0, enhanced: str = "") -> types.Reply:
    """An SMTP reply; 0 and "" stand for the relay's defaults."""
    return types.Reply(code, enhanced, text)


_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")


def is_address(text: str) -> bool:
    """Whether a text looks like an IP address."""
    return _ADDRESS.fullmatch(text) is not None


def hop(
    place: str,
    port: Optional[int] = None,
    *,
    tls: Optional[routes.TlsPolicy] = None,
    auth: Optional[str] = None,
    priority: int = 0,
    weight: int = 1,
    protocol: routes.Protocol = routes.Protocol.SMTP,
    source_pool: Optional[str] = None,
    site: Optional[str] = None,
) -> routes.NextHop:
    """A host or an address, by SMTP at the usual port unless said otherwise."""
    endpoint = routes.Endpoint_Address(place) if is_address(place) else routes.Endpoint_Host(place)
    return routes.NextHop(endpoint, port, priority, weight, protocol, tls, auth, source_pool, site)
