/** Waypost plugins in JavaScript: what `waypost.js` offers, with its types. */

export interface Mailbox { localPart: string; domain: string }
export interface Recipient {
  mailbox: Mailbox;
  notify: { never: boolean; success: boolean; failure: boolean; delay: boolean };
  original: string | null;
}
export interface Attribute { name: string; value: string }
export interface Reply { code: number; enhanced: string; text: string }

/** What `routingPhase.route` is asked. */
export interface Request {
  messageId: string;
  /** Domain of the recipients of this call, in lower case. */
  domain: string;
  /** null: the null reverse-path. */
  sender: Mailbox | null;
  recipients: Recipient[];
  size: number;
  receivedAt: number;
  /** Attempts made before; 0 on the first. */
  attempt: number;
  listener: string;
  user: string | null;
  /** Values of the fields named under `route_headers`, in that order. */
  headers: string[];
  attributes: Attribute[];
}

export type TlsPolicy =
  | { tag: "off" | "opportunistic" | "encrypt" | "dane" | "dane-only" | "destination" | "implicit" }
  | { tag: "verify"; val: string[] };
export type Endpoint = { tag: "host" | "mx-of" | "address" | "unix-socket"; val: string };
export interface NextHop {
  endpoint: Endpoint;
  port: number | null;
  priority: number;
  weight: number;
  protocol: "smtp" | "lmtp";
  tls: TlsPolicy | null;
  auth: string | null;
  sourcePool: string | null;
  site: string | null;
}
export type Decision = { tag: string; val?: unknown };
export interface Settings {
  tls: TlsPolicy | null;
  sourcePool: string | null;
  trafficClass: string | null;
  expiresAfter: number | null;
  rerouteOnRetry: boolean;
  extra: Attribute[];
}
export interface Verdict {
  recipients: number[];
  decision: Decision;
  settings: Settings | null;
  flow: "next" | "stop";
  note: string | null;
}
export interface Answer { action: Decision; flow: "next" | "stop"; note: string | null }
export type HookError = { tag: "temporary" | "broken"; val: string };

/** The host's interfaces, as the contract has them. */
export const ambient: { now(): number; random(): number; remaining(): number };
export const config: {
  get(path: string): { tag: "boolean" | "integer" | "real" | "text"; val: boolean | number | string } | null;
  keys(path: string): string[];
  json(path: string): string;
  revision(): number;
};
export const destination: any;
export const dns: any;
export const http: any;
export const logging: any;
export const message: any;
export const metrics: any;
export const state: any;
export const tables: any;

/** The `lifecycle` export: who the plugin is, and every fault of its configuration. */
export function plugin(self: {
  name: string;
  version: string;
  checkConfig?: () => string[];
  init?: () => void;
}): unknown;

/** The configuration at a path; null: nothing there. Read only what a call needs. */
export function readConfig(path?: string): any;
/** A key as one step of a path: in quotes, so that its dots do not count. */
export function quoteKey(key: string): string;
export function log(level: "trace" | "debug" | "info" | "warn" | "error", text: string, fields?: Record<string, unknown>): void;

/** To be thrown: the same call may work later. */
export function temporary(why: unknown): HookError;
/** To be thrown: the plugin or its configuration is at fault. */
export function broken(why: unknown): HookError;

export function reply(text: string, code?: number, enhanced?: string): Reply;
/** No opinion. */
export const proceed: Decision;
/** These hops and nothing else. */
export function useHops(hops: NextHop | NextHop[], options?: { fallBackToMx?: boolean }): Decision;
export function select(choices: unknown[]): Decision;
export function edit(edits: unknown): Decision;
/** Not now (routing phase); seconds, or by the queue's schedule. */
export function defer(reason: string, retryAfter?: number | null): Decision;
/** Not now, as an SMTP reply (SMTP phases). */
export function deferReply(text: string, code?: number, enhanced?: string): Decision;
/** Never: a bounce, or a 5xx in the SMTP phases. */
export function reject(text: string, code?: number, enhanced?: string): Decision;
export function discard(reason: string): Decision;
export function hold(reason: string, releaseAfter?: number | null): Decision;

/** Whether a text looks like an IP address. */
export function isAddress(text: string): boolean;
/** A host or an address, by SMTP at the usual port unless `options` say otherwise. */
export function hop(place: string, options?: Partial<NextHop>): NextHop;
/** A verdict of the routing phase; without `recipients` for all that no other names. */
export function verdict(
  decision: Decision,
  options?: { recipients?: number[]; settings?: Partial<Settings> | null; stop?: boolean; note?: string | null },
): Verdict;
/** A verdict of the sender, recipient and message phases. */
export function answer(action: Decision, options?: { stop?: boolean; note?: string | null }): Answer;
