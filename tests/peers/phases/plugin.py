"""Takes part in every phase: what sdk_samples.rs builds, and phases.toml asks."""

from typing import List

import waypost
from waypost import content, delivery, recipient, routing, sender


class Lifecycle(waypost.Plugin):
    NAME = "every-phase"
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


class SenderPhase(sender.SenderPhase):
    def on_mail_from(self, peer, s):
        bad = peer.helo == "bad.example"
        return sender.verdict(sender.reject("not you", 550, "5.7.1") if bad else sender.proceed())


class RecipientPhase(recipient.RecipientPhase):
    def on_rcpt(self, rcpt):
        bad = rcpt.mailbox.local_part == "closed"
        return recipient.verdict(recipient.reject("closed", 550, "5.1.1") if bad else recipient.proceed())


class MessagePhase(content.MessagePhase):
    def on_message(self):
        held = waypost.message.header("x-hold")
        return content.verdict(content.hold("asked for") if held else content.proceed())


class DeliveryPhase(delivery.DeliveryPhase):
    def on_delivery_result(self, attempt):
        return delivery.retry_after(3600)
