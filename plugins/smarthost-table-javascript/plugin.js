// A sample of a plugin that overrides: a table of recipient domains, each with the
// host that takes its mail instead of what DNS says.
//
//   [plugin.config.routes]
//   "example.com" = "relay.example.net:2525"
//   "*.example.org" = { host = "10.0.0.25", tls = "encrypt", auth = "partner" }
//   "*" = "smarthost.example.net"
//
// An exact entry wins over a suffix, a longer suffix over a shorter one, and any of
// them over `*`. A domain that no entry matches goes where it would have gone.

import {
  broken, hop, isAddress, plugin, quoteKey, readConfig, useHops, verdict,
} from "../sdk/javascript/waypost.js";

const KEY = /^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$/;
const NAME = /^[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)*$/u;
const POLICIES = ["off", "opportunistic", "encrypt", "verify", "dane", "implicit"];
const FIELDS = ["host", "port", "tls", "auth"];

// An entry as { host, port, tls, auth }; throws what is wrong with it.
function parse(value) {
  let entry;
  if (typeof value === "string") {
    entry = fromText(value);
  } else if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    const unknown = Object.keys(value).find((key) => !FIELDS.includes(key));
    if (unknown !== undefined) throw `unknown field \`${unknown}\``;
    entry = { port: null, tls: null, auth: null, ...value };
  } else {
    throw `${JSON.stringify(value)} is neither "host:port" nor a table`;
  }
  check(entry);
  return entry;
}

// `host`, `host:port`, `[2001:db8::1]:port`.
function fromText(text) {
  let [, host, port] = /^\[(.*?)\]:?(.*)$/.exec(text) ?? [];
  if (host === undefined && isAddress(text)) host = text;
  if (host === undefined) [, host, port] = /^([^:]*):?(.*)$/.exec(text);
  const bare = !port && !text.endsWith(":");
  if (!bare && !(/^\d{1,5}$/.test(port) && Number(port) < 65536)) {
    throw `${JSON.stringify(port)} is no port`;
  }
  return { host, port: bare ? null : Number(port), tls: null, auth: null };
}

function check({ host, port, tls, auth }) {
  if (typeof host !== "string") throw "missing field `host`";
  if (port === 0) throw "0 is no port";
  if (port !== null && !(Number.isInteger(port) && port > 0 && port < 65536)) {
    throw `port = ${JSON.stringify(port)}, but a number up to 65535 is wanted`;
  }
  if (!isAddress(host) && !NAME.test(host)) {
    throw `${JSON.stringify(host)} is neither a host nor an address`;
  }
  if (tls !== null && !POLICIES.includes(tls)) {
    throw `tls = ${JSON.stringify(tls)}, but off, opportunistic, encrypt, verify, dane or implicit is wanted`;
  }
  if (auth !== null && typeof auth !== "string") throw "auth: a text is wanted";
}

function toHop({ host, port, tls, auth }) {
  const policy = tls && (tls === "verify" ? { tag: tls, val: [] } : { tag: tls });
  return hop(host, { port, tls: policy, auth });
}

function show({ host, port }) {
  if (port === null) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

// The keys that match a domain, the closest first.
function* keysFor(domain) {
  yield domain;
  for (let dot = domain.indexOf("."); dot >= 0; dot = domain.indexOf(".", dot + 1)) {
    yield `*${domain.slice(dot)}`;
  }
  yield "*";
}

function checkConfig() {
  const routes = readConfig("routes");
  if (routes === null || Object.keys(routes).length === 0) {
    return ["routes: no entry; a table of domains is wanted"];
  }
  const faults = [];
  for (const [key, value] of Object.entries(routes)) {
    const place = `routes.${JSON.stringify(key)}`;
    if (!KEY.test(key)) {
      faults.push(`${place}: a domain in lower case, \`*.domain\` or \`*\` is wanted`);
    }
    try {
      parse(value);
    } catch (fault) {
      faults.push(`${place}: ${fault}`);
    }
  }
  return faults;
}

function route(request) {
  for (const key of keysFor(request.domain)) {
    // Only the entry that matters is read: a call costs the same with a table of
    // ten thousand domains.
    const value = readConfig(`routes.${quoteKey(key)}`);
    if (value === null) continue;
    let entry;
    try {
      entry = parse(value);
    } catch (fault) {
      // What has been checked cannot be wrong, unless the check is.
      throw broken(fault);
    }
    return [verdict(useHops(toHop(entry)), { note: `${key} -> ${show(entry)}` })];
  }
  return [];
}

export const lifecycle = plugin({ name: "smarthost-table", version: "0.1.0", checkConfig });
export const routingPhase = { route };
