"""The sender phase: short ways to make its verdicts."""

from typing import Optional

from wit_world.exports import SenderPhase
from wit_world.exports import sender_phase as contract
from wit_world.exports.sender_phase import Action, Verdict
from wit_world.imports import types

from . import reply

__all__ = ["Action", "SenderPhase", "Verdict", "defer", "proceed", "reject", "rewrite", "verdict"]


def proceed() -> Action:
    """No opinion."""
    return contract.Action_Proceed()


def rewrite(mailbox: Optional[types.Mailbox]) -> Action:
    """Go on as if this had been given; None is the null reverse-path."""
    return contract.Action_Rewrite(mailbox)


def defer(text: str, code: int = 0, enhanced: str = "") -> Action:
    """4xx."""
    return contract.Action_Defer(reply(text, code, enhanced))


def reject(text: str, code: int = 0, enhanced: str = "") -> Action:
    """5xx."""
    return contract.Action_Reject(reply(text, code, enhanced))


def verdict(action: Action, *, stop: bool = False, note: Optional[str] = None) -> Verdict:
    """An answer to MAIL FROM."""
    return Verdict(action, types.Flow.STOP if stop else types.Flow.NEXT, note)
