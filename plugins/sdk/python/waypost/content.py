"""The message phase: short ways to make its verdicts. (`waypost.message` is the
host's interface to the message.)"""

from typing import Any, Optional, Sequence

from wit_world.exports import MessagePhase
from wit_world.exports import message_phase as contract
from wit_world.exports.message_phase import Action, Verdict
from wit_world.imports import types

from . import reply

__all__ = [
    "Action",
    "MessagePhase",
    "Verdict",
    "defer",
    "discard",
    "hold",
    "proceed",
    "reject",
    "rewrite",
    "verdict",
]


def proceed() -> Action:
    """No opinion."""
    return contract.Action_Proceed()


def rewrite(
    *headers: types.HeaderEdit,
    recipients: Optional[Sequence[types.Mailbox]] = None,
    sender: Any = None,
) -> Action:
    """Changes on the way in. `sender`: None as it is, Some(None) the null
    reverse-path, Some(mailbox) another one (`componentize_py_types.Some`)."""
    whom = None if recipients is None else list(recipients)
    return contract.Action_Rewrite(contract.Rewrite(list(headers), whom, sender))


def hold(reason: str, release_after: Optional[int] = None) -> Action:
    """Answer 250 and keep the message aside."""
    return contract.Action_Hold(contract.Hold(reason, release_after))


def discard(reason: str) -> Action:
    """Answer 250 and drop it."""
    return contract.Action_Discard(reason)


def defer(text: str, code: int = 0, enhanced: str = "") -> Action:
    """4xx."""
    return contract.Action_Defer(reply(text, code, enhanced))


def reject(text: str, code: int = 0, enhanced: str = "") -> Action:
    """5xx."""
    return contract.Action_Reject(reply(text, code, enhanced))


def verdict(action: Action, *, stop: bool = False, note: Optional[str] = None) -> Verdict:
    """An answer to the end of DATA."""
    return Verdict(action, types.Flow.STOP if stop else types.Flow.NEXT, note)
