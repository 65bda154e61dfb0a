"""The delivery phase: short ways to make advice."""

from wit_world.exports import DeliveryPhase
from wit_world.exports import delivery_phase as contract
from wit_world.exports.delivery_phase import Advice, Attempt, Stage

from . import reply

__all__ = [
    "Advice",
    "Attempt",
    "DeliveryPhase",
    "Stage",
    "give_up",
    "hold",
    "next_hop_now",
    "reroute",
    "retry_after",
    "usual",
]


def usual() -> Advice:
    """The queue's own schedule."""
    return contract.Advice_Usual()


def retry_after(seconds: int) -> Advice:
    """Seconds from now."""
    return contract.Advice_RetryAfter(seconds)


def next_hop_now() -> Advice:
    """At once, by the next hop in the list."""
    return contract.Advice_NextHopNow()


def reroute() -> Advice:
    """Ask the routing plugins again, then try at once."""
    return contract.Advice_Reroute()


def give_up(text: str, code: int = 0, enhanced: str = "") -> Advice:
    """Bounce, with this reply."""
    return contract.Advice_GiveUp(reply(text, code, enhanced))


def hold(reason: str) -> Advice:
    """Kept aside until released."""
    return contract.Advice_Hold(reason)
