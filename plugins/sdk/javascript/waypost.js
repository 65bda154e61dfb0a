// Waypost plugins in JavaScript: the host's interfaces under short names, and
// short ways to make the records of the contract. Types and comments are in
// waypost.d.ts; the contract itself is waypost-policy.wit.
//
// Records have camelCase keys; a variant is { tag, val }; an enum is a string; an
// option that is not there is null. A function whose result is an error throws it.

import ambient from "waypost:policy/ambient@0.1.0";
import config from "waypost:policy/config@0.1.0";
import destination from "waypost:policy/destination@0.1.0";
import dns from "waypost:policy/dns@0.1.0";
import http from "waypost:policy/http@0.1.0";
import logging from "waypost:policy/log@0.1.0";
import message from "waypost:policy/message@0.1.0";
import metrics from "waypost:policy/metrics@0.1.0";
import state from "waypost:policy/state@0.1.0";
import tables from "waypost:policy/tables@0.1.0";

export { ambient, config, destination, dns, http, logging, message, metrics, state, tables };

// ---- Life ----------------------------------------------------------------

export function plugin({ name, version, checkConfig = () => [], init = () => {} }) {
  return { identify: () => ({ name, version }), checkConfig, init };
}

// ---- Configuration and log -------------------------------------------------

export function readConfig(path = "") {
  return JSON.parse(config.json(path));
}

export function quoteKey(key) {
  return `"${key.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

export function log(level, text, fields = {}) {
  const list = Object.entries(fields).map(([name, value]) => ({ name, value: String(value) }));
  logging.write(level, text, list);
}

// ---- Errors ----------------------------------------------------------------

export function temporary(why) {
  return { tag: "temporary", val: String(why) };
}

export function broken(why) {
  return { tag: "broken", val: String(why) };
}

// ---- Replies and decisions -------------------------------------------------

export function reply(text, code = 0, enhanced = "") {
  return { code, enhanced, text };
}

export const proceed = { tag: "proceed" };

export function useHops(hops, { fallBackToMx = false } = {}) {
  return { tag: "use-hops", val: { hops: [].concat(hops), fallBackToMx } };
}

export function select(choices) {
  return { tag: "select", val: choices };
}

export function edit(edits) {
  return { tag: "edit", val: [].concat(edits) };
}

export function defer(reason, retryAfter = null) {
  return { tag: "defer", val: { reason, retryAfter } };
}

export function reject(text, code = 0, enhanced = "") {
  return { tag: "reject", val: reply(text, code, enhanced) };
}

// In the SMTP phases a deferral is a reply.
export function deferReply(text, code = 0, enhanced = "") {
  return { tag: "defer", val: reply(text, code, enhanced) };
}

export function discard(reason) {
  return { tag: "discard", val: reason };
}

export function hold(reason, releaseAfter = null) {
  return { tag: "hold", val: { reason, releaseAfter } };
}

// ---- Hops ------------------------------------------------------------------

const ADDRESS = /^(\d+\.\d+\.\d+\.\d+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$/;

export function isAddress(text) {
  return ADDRESS.test(text);
}

export function hop(place, options = {}) {
  const tag = isAddress(place) ? "address" : "host";
  return {
    endpoint: { tag, val: place },
    port: null,
    priority: 0,
    weight: 1,
    protocol: "smtp",
    tls: null,
    auth: null,
    sourcePool: null,
    site: null,
    ...options,
  };
}

// ---- Verdicts --------------------------------------------------------------

// Of the routing phase.
export function verdict(decision, { recipients = [], settings = null, stop = false, note = null } = {}) {
  return {
    recipients,
    decision,
    settings: settings && {
      tls: null,
      sourcePool: null,
      trafficClass: null,
      expiresAfter: null,
      rerouteOnRetry: false,
      extra: [],
      ...settings,
    },
    flow: stop ? "stop" : "next",
    note,
  };
}

// Of the sender, recipient and message phases.
export function answer(action, { stop = false, note = null } = {}) {
  return { action, flow: stop ? "stop" : "next", note };
}
