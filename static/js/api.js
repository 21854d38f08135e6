// @ts-check
// REST calls of the page: symbols, older candles, who is signed in, and signals while the order socket is away.

/**
 * @import {CandleRow, Signal, SymbolInfo} from "./messages.js"
 */

const LIMIT_MS = 8_000;

/** The server's answer was no success. `code` is the server's own. */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<{status: number, body: any}>} */
async function call(path, options = {}) {
  const response = await fetch(path, {
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(LIMIT_MS),
    ...options,
    headers: { Accept: "application/json", ...options.headers },
  });
  const type = response.headers.get("content-type") ?? "";
  return { status: response.status, body: type.startsWith("application/json") ? await response.json() : null };
}

/** @param {string} path */
async function read(path) {
  const { status, body } = await call(path);
  if (status !== 200) throw new ApiError(status, body?.code ?? "UNAVAILABLE", body?.message ?? `The server answered ${status}.`);
  return body;
}

/** @returns {Promise<SymbolInfo[]>} */
export async function symbols() {
  return (await read("/api/symbols")).items;
}

/** Candles before `toMs`, oldest first. @param {string} symbol @param {number} seconds @param {number} toMs @param {number} limit @returns {Promise<CandleRow[]>} */
export async function olderCandles(symbol, seconds, toMs, limit) {
  const query = new URLSearchParams({ symbol, timeframe: String(seconds), to: String(toMs), limit: String(limit) });
  /** @type {any[]} */
  const items = (await read(`/api/candles?${query}`)).items;
  return items
    .map((item) => /** @type {CandleRow} */ (
      Array.isArray(item) ? item : [item.open_ms, item.open, item.high, item.low, item.close, item.ticks]))
    .filter(([openMs]) => openMs < toMs)
    .sort((one, other) => one[0] - other[0]);
}

/** Whose session this is: a name, "" when it has ended, null when the server does not say. @returns {Promise<string | null>} */
export async function whoAmI() {
  try {
    const { status, body } = await call("/api/me");
    return status === 200 ? String(body.username) : status === 401 ? "" : null;
  } catch {
    return null; // no network: the sockets go on trying
  }
}

/** From the cookie, which another tab's sign-in renews; the page's own form holds the one it was loaded with. */
function csrfToken() {
  const cookie = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];
  const input = document.querySelector("input[name=csrfmiddlewaretoken]");
  return cookie ?? (input instanceof HTMLInputElement ? input.value : "");
}

/** Only as the user who placed it: another tab may have signed in someone else. @param {Signal} signal @param {string} user */
export async function postSignal(signal, user) {
  try {
    if ((await whoAmI()) !== user) return null;
    return await call("/api/signals", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
      body: JSON.stringify(signal),
    });
  } catch {
    return null; // not known whether it arrived: the sender sends the same signal_id again
  }
}
