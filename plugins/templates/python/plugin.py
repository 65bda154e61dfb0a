"""Mail for the domains of a table goes to the hosts that the table names."""

from typing import List

import waypost
from waypost import routing


class Lifecycle(waypost.Plugin):
    NAME = "{{name}}"
    VERSION = "0.1.0"

    def check_config(self) -> List[str]:
        """Every fault of the configuration; any refuses it."""
        if not waypost.read_config("routes"):
            return ["routes: a table of domains is wanted"]
        return []


class RoutingPhase(routing.RoutingPhase):
    def route(self, req: routing.Request) -> List[routing.Verdict]:
        """No verdict means no opinion: the mail goes where it would have gone."""
        host = waypost.read_config(f"routes.{waypost.quote_key(req.domain)}")
        if host is None:
            return []
        hops = routing.use_hops(waypost.hop(host))
        return [routing.verdict(hops, note=f"{req.domain} -> {host}")]
