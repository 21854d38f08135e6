// @ts-check
// The two sockets' messages: types, reading what the server sends, making what the page sends. Pure.
// The server's side is executors/messages.py, executors/consumers.py and charts/messages.py.

/**
 * @typedef {"buy" | "sell"} Side
 * @typedef {"ACTIVE" | "REDUCING" | "HALTED"} Mode
 *
 * @typedef {{signal_id: string, targets: {terminals: string[]}, ttl_ms?: number, age_ms?: number}} SignalBase
 * @typedef {"market" | "limit" | "stop" | "stop_limit"} OrderType
 * @typedef {{distance: number, step?: number}} Trailing  in units of the price
 * @typedef {{trigger: number, offset?: number}} BreakEven
 * @typedef {{trailing?: Trailing | null, break_even?: BreakEven | null}} Protection  null removes
 * @typedef {{stop_loss?: number, take_profit?: number}} Stops  0 removes
 * @typedef {Stops & {price?: number, limit_price?: number, expires_ms?: number}} Levels
 * @typedef {SignalBase & Levels & {action: "open", symbol: string, side: Side, order_type: OrderType, lots: number,
 *   trailing?: Trailing, break_even?: BreakEven}} OpenSignal
 * @typedef {SignalBase & {action: "close", position_ticket?: number, symbol?: string, all?: true, lots?: number,
 *   fraction?: number}} CloseSignal
 * @typedef {SignalBase & Levels & {action: "modify", position_ticket?: number, order_ticket?: number, symbol?: undefined}} ModifySignal
 * @typedef {SignalBase & {action: "cancel", order_ticket?: number, symbol?: string, all?: true}} CancelSignal
 * @typedef {SignalBase & {action: "close_by", position_ticket: number, by_position_ticket: number, symbol?: undefined}} CloseBySignal
 * @typedef {SignalBase & Protection & {action: "protect", position_ticket: number, symbol?: undefined}} ProtectSignal
 * @typedef {OpenSignal | CloseSignal | ModifySignal | CancelSignal | CloseBySignal | ProtectSignal} Signal
 *
 * @typedef {object} Report
 * @property {string} order_id
 * @property {string} signal_id
 * @property {string} terminal_id
 * @property {number} report_seq
 * @property {string} state
 * @property {Signal["action"]} action
 * @property {string} symbol
 * @property {Side | null} side
 * @property {number} lots
 * @property {number} filled_lots
 * @property {number | null} price
 * @property {string} code
 * @property {string} message
 * @property {number | null} retcode
 * @property {number[]} position_tickets
 * @property {number[]} deal_tickets
 * @property {number} time_ms
 * @property {Record<string, number>} trace
 * @property {string} [woken_by]
 *
 * @typedef {{order_id: string, terminal_id: string, state: string, overdue: boolean, report: Report}} OrderView
 * @typedef {{signal_id: string, action: string, user: string, accepted_ms: number, orders: OrderView[]}} SignalView
 *
 * @typedef {object} Account
 * @property {number} login
 * @property {string} server
 * @property {string} currency
 * @property {number} balance
 * @property {number} equity
 * @property {number} margin
 * @property {number} margin_free
 * @property {number} margin_level
 * @property {number} profit
 * @property {boolean} trade_allowed
 * @property {boolean} connected
 *
 * @typedef {object} Position
 * @property {string} terminal_id
 * @property {number} position_ticket
 * @property {number} [position_id] what deals name; a reversal changes the ticket only
 * @property {string} symbol
 * @property {Side} side
 * @property {number} lots
 * @property {number} price_open
 * @property {number} price_current
 * @property {number | null} [stop_loss]
 * @property {number | null} [take_profit]
 * @property {number} profit
 * @property {number} swap
 * @property {string | null} [order_id]
 * @property {number} opened_ms
 * @property {Trailing | null} [trailing] armed in the executor
 * @property {BreakEven | null} [break_even]
 * @property {string} [protect_error]
 *
 * @typedef {object} PendingOrder
 * @property {string} terminal_id
 * @property {number} order_ticket
 * @property {string} symbol
 * @property {string} order_type buy_limit, sell_stop_limit …
 * @property {number} lots
 * @property {number} price
 * @property {number | null} [limit_price]
 * @property {number | null} [expires_ms]
 * @property {number | null} [stop_loss]
 * @property {number | null} [take_profit]
 * @property {string | null} [order_id]
 * @property {number} placed_ms
 *
 * @typedef {object} Terminal
 * @property {string} terminal_id
 * @property {string} label
 * @property {string} status
 * @property {Mode} mode
 * @property {Mode} effective_mode
 * @property {boolean} can_trade
 * @property {boolean} enabled
 * @property {boolean} stale
 * @property {string[]} groups
 * @property {string} last_error
 * @property {number | null} latency_us
 * @property {number | null} broker_us
 * @property {Account | null} account
 * @property {DriftLog | null} [drift]
 * @property {Alert[]} [alerts] open ones, newest first
 *
 * @typedef {{code: string, terminal_id: string, text: string, time_ms: number}} Alert
 *
 * @typedef {{code: string, message: string, symbol: string, ticket: number | null, time_ms: number}} DriftEvent
 * @typedef {{counts: Record<string, number>, events: DriftEvent[]}} DriftLog  newest first
 *
 * @typedef {{terminal_id: string, status: string, account?: Account, positions?: Position[], pending_orders?: PendingOrder[], latency_us?: number,
 *   broker_us?: number, drift?: DriftLog, last_error?: string, alerts?: Alert[], time_ms: number}} TerminalUpdate
 * @typedef {{global: Mode, terminals: Record<string, Mode>}} Modes
 * @typedef {{name: string, role: string, may_trade: boolean}} User
 *
 * @typedef {{type: "snapshot", n: number, cursor: string, user: User, modes: Modes, terminals: Terminal[],
 *   positions: Position[], pending_orders?: PendingOrder[], orders: OrderView[]}} OrderSnapshot
 * @typedef {{type: "accepted", n: number, request_id: string, created: boolean, signal: SignalView}} Accepted
 * @typedef {{type: "refused", n: number, request_id: string, signal_id: string, code: string, message: string}} Refused
 * @typedef {{type: "report", n: number, cursor: string, report: Report}} Reported
 * @typedef {{type: "terminal", n: number, update: TerminalUpdate}} TerminalChanged
 * @typedef {{type: "modes", n: number, modes: Modes}} ModesChanged
 * @typedef {{type: "status", n: number, redis: "up" | "down"}} Status
 * @typedef {{type: "pong", n: number, at: number}} Pong
 * @typedef {{type: "error", n: number, code: string, message: string}} Problem
 * @typedef {OrderSnapshot | Accepted | Refused | Reported | TerminalChanged | ModesChanged | Status | Pong
 *   | Problem} OrderMessage
 *
 * @typedef {{time_ms: number, bid: number, ask: number}} Tick
 * @typedef {[open_ms: number, open: number, high: number, low: number, close: number, ticks: number]} CandleRow
 * @typedef {{type: "snapshot", n: number, symbol: string, seconds: number, candles: CandleRow[],
 *   forming: CandleRow | null, tick: Tick | null}} ChartSnapshot
 * @typedef {{type: "update", n: number, symbol: string, seconds: number, tick: Tick, candles: CandleRow[]}} ChartUpdate
 * @typedef {{type: "ticks", n: number, ticks: Record<string, Tick>}} Ticks
 * @typedef {ChartSnapshot | ChartUpdate | Ticks | Status | Pong | Problem} ChartMessage
 *
 * @typedef {{symbol: string, description: string, digits: number, point: number, volume_min: number,
 *   volume_max: number, volume_step: number}} SymbolInfo
 */

/** States that an order does not leave by itself; NOT_EXECUTED may still turn out filled. */
export const SETTLED = new Set([
  "FILLED", "DONE", "REJECTED", "DENIED", "EXPIRED", "CANCELLED", "NOT_EXECUTED", "MANUAL",
]);

/** States whose reason a trader must see. */
export const FAILED = new Set(["REJECTED", "DENIED", "EXPIRED", "CANCELLED", "NOT_EXECUTED", "UNKNOWN"]);

/** Answers after which the same signal is sent again: it may be recorded, or nothing could be. */
export const SEND_AGAIN = new Set(["ACCEPT_UNKNOWN", "STORE_FULL", "UNAVAILABLE"]);

/** A message that is not what the contract says. The connection cannot be trusted further. */
export class MessageError extends Error {}

/** What each type must carry; other types are counted and left alone, so that a server may say more. */
const REQUIRED = {
  orders: {
    snapshot: { cursor: "string", user: "object", modes: "object", terminals: "array", positions: "array", orders: "array" },
    accepted: { request_id: "string", signal: "object" },
    refused: { request_id: "string", signal_id: "string", code: "string", message: "string" },
    report: { cursor: "string", report: "object" },
    terminal: { update: "object" },
    modes: { modes: "object" },
    status: { redis: "string" },
    pong: { at: "number" },
    error: { code: "string", message: "string" },
  },
  chart: {
    snapshot: { symbol: "string", seconds: "number", candles: "array" },
    update: { symbol: "string", seconds: "number", tick: "object", candles: "array" },
    ticks: { ticks: "object" },
    status: { redis: "string" },
    pong: { at: "number" },
    error: { code: "string", message: "string" },
  },
};

/** @param {unknown} value */
const kindOf = (value) => (Array.isArray(value) ? "array" : value === null ? "null" : typeof value);

/**
 * @param {string} text
 * @param {"orders" | "chart"} socket
 * @returns {{type: string, n: number} & Record<string, any>}
 */
export function readMessage(text, socket) {
  /** @type {any} */
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new MessageError("a message is not JSON");
  }
  if (kindOf(message) !== "object" || typeof message.type !== "string" || !Number.isInteger(message.n)) {
    throw new MessageError("a message has no type or no number");
  }
  /** @type {Record<string, Record<string, string>>} */
  const known = REQUIRED[socket];
  for (const [name, kind] of Object.entries(known[message.type] ?? {})) {
    if (kindOf(message[name]) !== kind) throw new MessageError(`${message.type}: ${name} is no ${kind}`);
  }
  return message;
}

/** @param {Signal} signal @param {string} requestId @param {number} ageMs */
export function sendSignal(signal, requestId, ageMs) {
  return { type: "signal", request_id: requestId, signal: aged(signal, ageMs) };
}

/** The signal with its age: only the age may differ between two sends. @param {Signal} signal @param {number} ageMs */
export function aged(signal, ageMs) {
  return { ...signal, age_ms: Math.max(0, Math.round(ageMs)) };
}

/** @param {number} at */
export const ping = (at) => ({ type: "ping", at });

/** @param {string} symbol @param {number} seconds @param {number} count */
export const subscribe = (symbol, seconds, count) => ({ type: "subscribe", symbol, seconds, count });

/** @param {string[]} symbols */
export const watch = (symbols) => ({ type: "watch", symbols: symbols.slice(0, 100) });

/**
 * A random UUID (version 4). crypto.randomUUID is missing where the page is served without TLS.
 * @param {(bytes: Uint8Array<ArrayBuffer>) => unknown} fill
 */
export function uuid(fill = (bytes) => crypto.getRandomValues(bytes)) {
  const bytes = new Uint8Array(16);
  fill(bytes);
  bytes[6] = (/** @type {number} */ (bytes[6]) & 0x0f) | 0x40;
  bytes[8] = (/** @type {number} */ (bytes[8]) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/**
 * @typedef {object} OpenWish
 * @property {string} symbol
 * @property {Side} side
 * @property {number} lots
 * @property {number | null} stopLoss
 * @property {number | null} takeProfit
 * @property {string[]} terminals
 * @property {OrderType} [orderType]
 * @property {number | null} [price]
 * @property {number | null} [limitPrice]
 * @property {number | null} [expiresMs]
 * @property {Trailing | null} [trailing]
 * @property {BreakEven | null} [breakEven]
 */

/** @param {OpenWish} wish @returns {OpenSignal} */
export function openSignal({
  symbol, side, lots, stopLoss, takeProfit, terminals, orderType = "market", price = null, limitPrice = null, expiresMs = null,
  trailing = null, breakEven = null,
}) {
  return {
    signal_id: uuid(), action: "open", symbol, side, order_type: orderType, lots, targets: { terminals },
    ...given({
      stop_loss: stopLoss, take_profit: takeProfit, price, limit_price: limitPrice, expires_ms: expiresMs, trailing, break_even: breakEven,
    }),
  };
}

/**
 * Without what is null: an absent field is no wish.
 * @template {Record<string, unknown>} T
 * @param {T} fields
 * @returns {{[K in keyof T]?: NonNullable<T[K]>}}
 */
function given(fields) {
  return /** @type {any} */ (Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null)));
}

/**
 * @param {{position_ticket: number, lots?: number, fraction?: number} | {symbol: string} | {all: true}} what
 * @param {string[]} terminals
 * @returns {CloseSignal}
 */
export function closeSignal(what, terminals) {
  return { signal_id: uuid(), action: "close", targets: { terminals }, ...what };
}

/** @param {{position_ticket: number} & Stops | {order_ticket: number} & Levels} what @param {string} terminal @returns {ModifySignal} */
export function modifySignal(what, terminal) {
  return { signal_id: uuid(), action: "modify", targets: { terminals: [terminal] }, ...what };
}

/** @param {{order_ticket: number} | {all: true}} what @param {string[]} terminals @returns {CancelSignal} */
export function cancelSignal(what, terminals) {
  return { signal_id: uuid(), action: "cancel", targets: { terminals }, ...what };
}

/** @param {number} ticket @param {number} by @param {string} terminal @returns {CloseBySignal} */
export function closeBySignal(ticket, by, terminal) {
  return { signal_id: uuid(), action: "close_by", targets: { terminals: [terminal] }, position_ticket: ticket, by_position_ticket: by };
}

/** @param {number} ticket @param {Protection} protection @param {string} terminal @returns {ProtectSignal} */
export function protectSignal(ticket, protection, terminal) {
  return { signal_id: uuid(), action: "protect", targets: { terminals: [terminal] }, position_ticket: ticket, ...protection };
}
