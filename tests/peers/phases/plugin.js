// Takes part in every phase: what sdk_samples.rs builds, and phases.toml asks.

import {
  answer, hold, hop, message, plugin, proceed, quoteKey, readConfig, reject, useHops, verdict,
} from "./vendor/sdk/javascript/waypost.js";

// Every fault of the configuration; any refuses it.
function checkConfig() {
  const routes = readConfig("routes") ?? {};
  return Object.keys(routes).length > 0 ? [] : ["routes: a table of domains is wanted"];
}

// No verdict means no opinion: the mail goes where it would have gone.
function route({ domain }) {
  const host = readConfig(`routes.${quoteKey(domain)}`);
  if (host === null) return [];
  return [verdict(useHops(hop(host)), { note: `${domain} -> ${host}` })];
}

export const lifecycle = plugin({ name: "every-phase", version: "0.1.0", checkConfig });
export const routingPhase = { route };
export const senderPhase = {
  onMailFrom: ({ helo }) =>
    answer(helo === "bad.example" ? reject("not you", 550, "5.7.1") : proceed),
};
export const recipientPhase = {
  onRcpt: ({ mailbox }) =>
    answer(mailbox.localPart === "closed" ? reject("closed", 550, "5.1.1") : proceed),
};
export const messagePhase = {
  onMessage: () => answer(message.header("x-hold").length > 0 ? hold("asked for") : proceed),
};
export const deliveryPhase = { onDeliveryResult: () => ({ tag: "retry-after", val: 3600 }) };
