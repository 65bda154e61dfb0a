// Mail for the domains of a table goes to the hosts that the table names.

import { hop, plugin, quoteKey, readConfig, useHops, verdict } from "./vendor/sdk/javascript/waypost.js";

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

export const lifecycle = plugin({ name: "{{name}}", version: "0.1.0", checkConfig });
export const routingPhase = { route };
