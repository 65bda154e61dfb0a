"""The routing phase: short ways to make decisions and verdicts."""

from typing import Any, Optional, Sequence

from wit_world.exports import RoutingPhase
from wit_world.exports import routing_phase as contract
from wit_world.exports.routing_phase import Decision, Request, Settings, Verdict
from wit_world.imports import routes, types

from . import reply

__all__ = [
    "Decision",
    "Request",
    "RoutingPhase",
    "Settings",
    "Verdict",
    "defer",
    "discard",
    "edit",
    "hold",
    "proceed",
    "reject",
    "select",
    "settings",
    "use_hops",
    "verdict",
]


def proceed() -> Decision:
    """No opinion."""
    return contract.Decision_Proceed()


def use_hops(*hops: routes.NextHop, fall_back_to_mx: bool = False) -> Decision:
    """These hops and nothing else."""
    return contract.Decision_UseHops(contract.ExplicitRoute(list(hops), fall_back_to_mx))


def select(*choices: routes.HopChoice) -> Decision:
    """This selection of the candidates and other places, in this order."""
    return contract.Decision_Select(list(choices))


def edit(*edits: routes.MxEdit) -> Decision:
    """The MX-based list with these edits."""
    return contract.Decision_Edit(list(edits))


def defer(reason: str, retry_after: Optional[int] = None) -> Decision:
    """Not now; again after so many seconds, or by the queue's own schedule."""
    return contract.Decision_Defer(contract.Deferral(reason, retry_after))


def reject(text: str, code: int = 0, enhanced: str = "") -> Decision:
    """Never: a bounce with this reply."""
    return contract.Decision_Reject(reply(text, code, enhanced))


def discard(reason: str) -> Decision:
    """Dropped without a bounce."""
    return contract.Decision_Discard(reason)


def hold(reason: str, release_after: Optional[int] = None) -> Decision:
    """Kept aside until released, or for so many seconds."""
    return contract.Decision_Hold(contract.Hold(reason, release_after))


def settings(**changes: Any) -> Settings:
    """Settings for the delivery; what is not named stays as it is."""
    usual = {
        "tls": None,
        "source_pool": None,
        "traffic_class": None,
        "expires_after": None,
        "reroute_on_retry": False,
        "extra": [],
    }
    return Settings(**{**usual, **changes})


def verdict(
    decision: Decision,
    *,
    recipients: Sequence[int] = (),
    settings: Optional[Settings] = None,
    stop: bool = False,
    note: Optional[str] = None,
) -> Verdict:
    """A verdict; without `recipients` for all that no other verdict names."""
    flow = types.Flow.STOP if stop else types.Flow.NEXT
    return Verdict(list(recipients), decision, settings, flow, note)
