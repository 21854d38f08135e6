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

/** Whether the session still holds; null when the server does not say. */
export async function signedIn() {
  try {
    const { status } = await call("/api/me");
    return status === 200 ? true : status === 401 ? false : null;
  } catch {
    return null; // no network: the sockets go on trying
  }
}

/** @param {Signal} signal */
export async function postSignal(signal) {
  const token = document.querySelector("input[name=csrfmiddlewaretoken]");
  try {
    return await call("/api/signals", {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-CSRFToken": token instanceof HTMLInputElement ? token.value : "",
      },
      body: JSON.stringify(signal),
    });
  } catch {
    return null; // not known whether it arrived: the sender sends the same signal_id again
  }
}
