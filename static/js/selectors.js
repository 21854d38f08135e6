// @ts-check
// What follows from the store's content: pure functions, the panels' questions.
import { SETTLED } from "./messages.js";

/**
 * @import {PendingOrder, Position, Terminal} from "./messages.js"
 * @import {Order, Sent, Store} from "./store.js"
 */

/** @param {Store} store @param {{symbol?: string, terminal?: string}} [only] */
export function openPositions(store, only = {}) {
  /** @type {Position[]} */
  const found = [];
  for (const terminal of sortedTerminals(store)) {
    if (only.terminal && terminal.terminal_id !== only.terminal) continue;
    for (const position of store.positions.get(terminal.terminal_id) ?? []) {
      if (!only.symbol || position.symbol === only.symbol) found.push(position);
    }
  }
  return found;
}

/** @param {Store} store @param {{symbol?: string, terminal?: string}} [only] */
export function pendingOrders(store, only = {}) {
  /** @type {PendingOrder[]} */
  const found = [];
  for (const terminal of sortedTerminals(store)) {
    if (only.terminal && terminal.terminal_id !== only.terminal) continue;
    for (const order of store.pending.get(terminal.terminal_id) ?? []) {
      if (!only.symbol || order.symbol === only.symbol) found.push(order);
    }
  }
  return found;
}

/** Positions that a position may be closed against. @param {Store} store @param {Position} position */
export function opposites(store, position) {
  return (store.positions.get(position.terminal_id) ?? []).filter((other) => other.symbol === position.symbol && other.side !== position.side);
}

/** By label, as people look for them. @param {Store} store */
export function sortedTerminals(store) {
  return [...store.terminals.values()].sort((one, other) => labelOf(one).localeCompare(labelOf(other), "en"));
}

/** @param {Terminal} terminal */
const labelOf = (terminal) => terminal.label || terminal.terminal_id;

/** @param {Store} store @param {string} terminalId */
export function terminalLabel(store, terminalId) {
  const terminal = store.terminals.get(terminalId);
  return terminal ? labelOf(terminal) : terminalId;
}

/**
 * Sums by currency, in the order of the currencies' names: profits of different currencies are not added.
 * @param {Store} store
 * @param {Position[]} positions
 * @returns {[currency: string, sum: number][]}
 */
export function profitByCurrency(store, positions) {
  return sumBy(positions, (position) => [
    store.terminals.get(position.terminal_id)?.account?.currency ?? "?", position.profit + position.swap,
  ]);
}

/**
 * @template T
 * @param {Iterable<T>} items
 * @param {(item: T) => [string, number]} part
 * @returns {[string, number][]}
 */
export function sumBy(items, part) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const item of items) {
    const [name, value] = part(item);
    sums.set(name, (sums.get(name) ?? 0) + value);
  }
  return [...sums].sort(([one], [other]) => one.localeCompare(other, "en"));
}

/** Newest first. @param {Store} store @param {string} [terminal] @returns {Order[]} */
export function listedOrders(store, terminal = "") {
  return [...store.orders.values()]
    .filter((order) => !terminal || order.terminal_id === terminal)
    .sort((one, other) => other.accepted_ms - one.accepted_ms || one.order_id.localeCompare(other.order_id));
}

/** Signals of this page that have no orders: not answered yet, or refused. Newest first. @param {Store} store @returns {Sent[]} */
export function unplacedSignals(store) {
  return [...store.sent.values()].filter((sent) => sent.state !== "ACCEPTED").reverse();
}

/** @param {Store} store @param {string} [terminal] */
export function fills(store, terminal = "") {
  return listedOrders(store, terminal)
    .filter((order) => order.report.filled_lots > 0)
    .sort((one, other) => other.report.time_ms - one.report.time_ms);
}

/**
 * Position tickets (`terminal:ticket`) that an unsettled close covers, as far as the page can tell.
 * @param {Store} store
 * @returns {Set<string>}
 */
export function closingPositions(store) {
  /** @type {Set<string>} */
  const closing = new Set();
  /** @param {string} terminalId @param {(position: Position) => boolean} covers */
  const mark = (terminalId, covers) => {
    for (const position of store.positions.get(terminalId) ?? []) {
      if (covers(position)) closing.add(positionKey(position));
    }
  };
  for (const { signal, state } of store.sent.values()) {
    if (signal.action !== "close" || state === "REFUSED") continue;
    for (const terminalId of signal.targets.terminals) {
      const order = store.orders.get(`${signal.signal_id}:${terminalId}`);
      if (order ? !SETTLED.has(order.state) : state === "SENDING") mark(terminalId, (position) => covered(signal, position));
    }
  }
  for (const { report, state, terminal_id: terminalId } of store.orders.values()) {
    if (report.action !== "close" || SETTLED.has(state) || store.sent.has(report.signal_id)) continue;
    const tickets = new Set(report.position_tickets);
    mark(terminalId, (position) =>
      tickets.size ? tickets.has(position.position_ticket) : report.symbol !== "" && report.symbol === position.symbol);
  }
  return closing;
}

/** @param {import("./messages.js").CloseSignal} signal @param {Position} position */
function covered(signal, position) {
  if (signal.position_ticket !== undefined) return signal.position_ticket === position.position_ticket;
  return signal.symbol === undefined || signal.symbol === position.symbol;
}

/** @param {Position} position */
export const positionKey = (position) => `${position.terminal_id}:${position.position_ticket}`;

/** Terminals that take an order to open now, as far as the page can tell. @param {Terminal} terminal */
export function takesOpens(terminal) {
  return terminal.can_trade && terminal.enabled && terminal.effective_mode === "ACTIVE";
}

/**
 * Group names and their terminals that can be traded on.
 * @param {Store} store
 * @returns {[group: string, terminals: string[]][]}
 */
export function groups(store) {
  /** @type {Map<string, string[]>} */
  const found = new Map();
  for (const terminal of sortedTerminals(store)) {
    if (!terminal.can_trade) continue;
    for (const group of terminal.groups ?? []) found.set(group, [...(found.get(group) ?? []), terminal.terminal_id]);
  }
  return [...found].sort(([one], [other]) => one.localeCompare(other, "en"));
}

/**
 * Why the ticket is not there, as a sentence; empty when the user may trade.
 * @param {Store} store
 */
export function whyNoTrading(store) {
  const { user } = store;
  if (!user) return "";
  if (user.role === "viewer" || user.may_trade === false) {
    return "You are signed in as a viewer: you see what you were granted and send nothing. An administrator can make you a trader.";
  }
  if (![...store.terminals.values()].some((terminal) => terminal.can_trade)) {
    return "You have no terminal to trade on. An administrator can grant you the right to trade on one.";
  }
  return "";
}
