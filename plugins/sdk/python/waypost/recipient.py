"""The recipient phase: short ways to make its verdicts."""

from typing import Optional

from wit_world.exports import RecipientPhase
from wit_world.exports import recipient_phase as contract
from wit_world.exports.recipient_phase import Action, Verdict
from wit_world.imports import types

from . import reply

__all__ = ["Action", "RecipientPhase", "Verdict", "defer", "proceed", "reject", "rewrite", "verdict"]


def proceed() -> Action:
    """No opinion."""
    return contract.Action_Proceed()


def rewrite(*mailboxes: types.Mailbox) -> Action:
    """These in place of the one given; none: accepted and dropped."""
    return contract.Action_Rewrite(list(mailboxes))


def defer(text: str, code: int = 0, enhanced: str = "") -> Action:
    """4xx."""
    return contract.Action_Defer(reply(text, code, enhanced))


def reject(text: str, code: int = 0, enhanced: str = "") -> Action:
    """5xx."""
    return contract.Action_Reject(reply(text, code, enhanced))


def verdict(action: Action, *, stop: bool = False, note: Optional[str] = None) -> Verdict:
    """An answer to RCPT TO."""
    return Verdict(action, types.Flow.STOP if stop else types.Flow.NEXT, note)
