// @ts-check
// What the page knows: user, terminals, positions, orders, the market, and signals that this page sent. Messages come
// in, events go out; no DOM, no network. Precedes: panels and chart subscribe. Follows: socket and sender.
import { Delegate } from "./delegate.js";
import { SETTLED } from "./messages.js";
import { tellsOutcome } from "./trace.js";

/**
 * @import {ChartMessage, CandleRow, DriftEvent, DriftLog, Modes, OrderMessage, OrderView, PendingOrder, Position, Report, Side, Signal, SymbolInfo,
 *   Terminal, TerminalUpdate, Tick, User} from "./messages.js"
 *
 * @typedef {"connecting" | "live" | "reconnecting" | "redis-down" | "signed-out"} Connection
 *
 * A signal of this page. `sent_at` is on the page's monotonic clock, `created_ms` on the wall clock.
 * @typedef {{signal: Signal, state: "SENDING" | "ACCEPTED" | "REFUSED", code: string, message: string,
 *   created_ms: number, sent_at: number, answered_at: number | null}} Sent
 *
 * An order as the page lists it. `click_us`: from the click to the last report, for signals of this page; `page`: when
 * it was clicked, accepted and its outcome came, on the page's clock.
 * @typedef {OrderView & {accepted_ms: number, click_us: number | null, page: import("./trace.js").PageTimes | null}} Order
 *
 * @typedef {{kind: "replace", symbol: string, seconds: number, rows: CandleRow[]}
 *   | {kind: "update", symbol: string, seconds: number, rows: CandleRow[]}} CandleChange
 */

const MAX_ORDERS = 1_000;
const MAX_SENT = 200;
const MAX_HELD = 5_000;
const SILENT_MS = 5_000; // a terminal speaks every 500 ms

export class Store {
  /** @type {Connection} */
  connection = "connecting";
  /** @type {User | null} */
  user = null;
  /** @type {Modes} */
  modes = { global: "ACTIVE", terminals: {} };
  /** @type {string | null} */
  cursor = null;
  /** @type {Map<string, Terminal>} */
  terminals = new Map();
  /** @type {Map<string, Position[]>} */
  positions = new Map();
  /** @type {Map<string, PendingOrder[]>} */
  pending = new Map();
  /** @type {Map<string, Order>} */
  orders = new Map();
  /** @type {Map<string, Sent>} */
  sent = new Map();
  /** @type {Map<string, SymbolInfo>} */
  symbols = new Map();
  /** @type {Map<string, Tick>} */
  ticks = new Map();
  symbol = "";
  seconds = 60;

  connectionChanged = /** @type {Delegate<Connection>} */ (new Delegate());
  userChanged = /** @type {Delegate<User>} */ (new Delegate());
  terminalsChanged = /** @type {Delegate<void>} */ (new Delegate());
  positionsChanged = /** @type {Delegate<void>} */ (new Delegate());
  pendingChanged = /** @type {Delegate<void>} */ (new Delegate());
  ordersChanged = /** @type {Delegate<void>} */ (new Delegate());
  symbolsChanged = /** @type {Delegate<void>} */ (new Delegate());
  selectionChanged = /** @type {Delegate<void>} */ (new Delegate());
  ticked = /** @type {Delegate<string>} */ (new Delegate());
  candlesChanged = /** @type {Delegate<CandleChange>} */ (new Delegate());
  /** A report that came live, not in a snapshot. */
  reported = /** @type {Delegate<Order>} */ (new Delegate());
  /** The outcome of an order of this page, once. */
  arrived = /** @type {Delegate<Order>} */ (new Delegate());
  /** Something at a terminal that no order explains. */
  drifted = /** @type {Delegate<{terminal_id: string, event: DriftEvent}>} */ (new Delegate());
  refused = /** @type {Delegate<Sent>} */ (new Delegate());
  /** A part of the server does not do what was asked. */
  problems = /** @type {Delegate<{code: string, message: string}>} */ (new Delegate());

  /** What each position was, for the report of its close that comes after it is gone. @type {Map<string, {symbol: string, side: Side}>} */
  #held = new Map();
  /** When each terminal last spoke, on the page's clock. @type {Map<string, number>} */
  #heard = new Map();
  #stateRedis = true;
  #ticksRedis = true;
  /** @type {Exclude<Connection, "redis-down">} */
  #sockets = "connecting";
  #now;

  /** @param {() => number} now the page's monotonic clock, milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** Every listener of every event: what a leak would show in. */
  get listeners() {
    return Object.values(this).reduce((sum, value) => sum + (value instanceof Delegate ? value.size : 0), 0);
  }

  // --- The order socket ---

  /** @param {OrderMessage} message */
  takeOrderMessage(message) {
    switch (message.type) {
      case "snapshot":
        this.#takeSnapshot(message);
        break;
      case "accepted":
        this.#takeAccepted(message.signal);
        break;
      case "report":
        this.cursor = message.cursor;
        this.#takeReport(message.report);
        break;
      case "terminal":
        this.#takeTerminal(message.update);
        break;
      case "modes":
        this.#takeModes(message.modes);
        break;
      case "status":
        this.#stateRedis = message.redis === "up";
        this.#connectionMoved();
        break;
      case "error":
        this.problems.fire(message);
        break;
    }
  }

  /** @param {Extract<OrderMessage, {type: "snapshot"}>} snapshot */
  #takeSnapshot(snapshot) {
    this.cursor = snapshot.cursor;
    this.user = snapshot.user;
    this.terminals = new Map(snapshot.terminals.map((terminal) => [terminal.terminal_id, terminal]));
    this.positions = new Map();
    this.#remember(snapshot.positions);
    this.#heard = new Map(snapshot.terminals.map((terminal) => [terminal.terminal_id, this.#now()]));
    for (const position of snapshot.positions) {
      const held = this.positions.get(position.terminal_id);
      if (held) held.push(position);
      else this.positions.set(position.terminal_id, [position]);
    }
    this.pending = new Map();
    for (const order of snapshot.pending_orders ?? []) {
      this.pending.set(order.terminal_id, [...(this.pending.get(order.terminal_id) ?? []), order]);
    }
    const before = this.orders;
    this.orders = new Map();
    // newest first on the wire; kept oldest first, so that the oldest are dropped first
    for (const view of [...snapshot.orders].reverse()) {
      this.orders.set(view.order_id, this.#orderOf(view, before.get(view.order_id)));
    }
    this.#stateRedis = true;
    this.#takeModes(snapshot.modes);
    this.userChanged.fire(snapshot.user);
    this.#connectionMoved();
    this.positionsChanged.fire();
    this.pendingChanged.fire();
    this.ordersChanged.fire();
  }

  /** @param {import("./messages.js").SignalView} signal */
  #takeAccepted(signal) {
    const sent = this.sent.get(signal.signal_id);
    if (sent) {
      sent.state = "ACCEPTED";
      sent.answered_at ??= this.#now();
    }
    for (const view of signal.orders) {
      const known = this.orders.get(view.order_id);
      if (!known || known.report.report_seq < view.report.report_seq) {
        this.orders.set(view.order_id, this.#orderOf(view, known));
      }
    }
    this.#dropOldOrders();
    this.ordersChanged.fire();
  }

  /** @param {Report} report */
  #takeReport(report) {
    const known = this.orders.get(report.order_id);
    if (known && known.report.report_seq >= report.report_seq) return;
    const sent = this.sent.get(report.signal_id);
    const now = this.#now();
    const view = { order_id: report.order_id, terminal_id: report.terminal_id, state: report.state, overdue: false, report };
    const order = this.#orderOf(view, known);
    if (sent) order.click_us = Math.round((now - sent.sent_at) * 1_000);
    if (known) order.accepted_ms = known.accepted_ms;
    const arrives = sent !== undefined && order.page === null && tellsOutcome(report);
    if (arrives) order.page = { clicked_ms: sent.sent_at, accepted_ms: sent.answered_at, reported_ms: now };
    this.orders.set(report.order_id, order);
    this.#dropOldOrders();
    this.ordersChanged.fire();
    this.reported.fire(order);
    if (arrives) this.arrived.fire(order);
  }

  #dropOldOrders() {
    if (this.orders.size <= MAX_ORDERS) return;
    for (const [id, order] of this.orders) {
      if (this.orders.size <= MAX_ORDERS) return;
      if (SETTLED.has(order.state)) this.orders.delete(id);
    }
  }

  /** @param {TerminalUpdate} update */
  #takeTerminal(update) {
    const terminal = this.terminals.get(update.terminal_id);
    if (!terminal) return; // a snapshot follows when it becomes visible
    const { positions, terminal_id: id } = update;
    this.terminals.set(id, {
      ...terminal,
      status: update.status,
      stale: false,
      account: update.account ?? terminal.account,
      latency_us: update.latency_us ?? terminal.latency_us,
      broker_us: update.broker_us ?? terminal.broker_us,
      last_error: update.last_error ?? terminal.last_error,
      drift: update.drift ?? terminal.drift ?? null,
      alerts: update.alerts ?? terminal.alerts ?? [],
    });
    this.#tellDrift(id, terminal.drift, update.drift);
    this.#heard.set(id, this.#now());
    if (positions) {
      this.#remember(positions);
      this.positions.set(id, positions);
      this.positionsChanged.fire();
    }
    if (update.pending_orders) {
      this.pending.set(id, update.pending_orders);
      this.pendingChanged.fire();
    }
    this.terminalsChanged.fire();
  }

  /** What is new in a terminal's log. @param {string} id @param {DriftLog | null | undefined} known @param {DriftLog | undefined} now */
  #tellDrift(id, known, now) {
    if (!now) return;
    const newest = known?.events[0]?.time_ms ?? (known ? 0 : Infinity); // without a log before it nothing is new
    for (const event of now.events.filter((one) => one.time_ms > newest).reverse()) this.drifted.fire({ terminal_id: id, event });
  }

  /** @param {Position[]} positions */
  #remember(positions) {
    for (const { terminal_id: id, position_ticket: ticket, symbol, side } of positions) this.#held.set(`${id}:${ticket}`, { symbol, side });
    for (const key of this.#held.keys()) {
      if (this.#held.size <= MAX_HELD) break;
      this.#held.delete(key);
    }
  }

  /** A close of all names no symbol; when its positions were of one, the page knows which. @param {OrderView} view @param {Order | undefined} known @returns {Order} */
  #orderOf(view, known) {
    let { report } = view;
    if (report.action === "open" && report.side) {
      for (const ticket of report.position_tickets) this.#held.set(`${view.terminal_id}:${ticket}`, { symbol: report.symbol, side: report.side });
    }
    if (report.action === "close" && report.position_tickets.length && (!report.symbol || !report.side)) {
      const held = report.position_tickets.map((ticket) => this.#held.get(`${view.terminal_id}:${ticket}`));
      const [first] = held;
      if (first && held.every((one) => one?.symbol === first.symbol)) {
        const side = held.every((one) => one?.side === first.side) ? (first.side === "buy" ? "sell" : "buy") : null;
        report = { ...report, symbol: report.symbol || first.symbol, side: report.side ?? side };
      }
    }
    return { ...view, report, accepted_ms: report.trace["accepted"] ?? report.time_ms, click_us: known?.click_us ?? null, page: known?.page ?? null };
  }

  /** Terminals that say nothing while the connection lives are shown as silent. Called each second. */
  lookForSilence() {
    if (this.connection !== "live") return;
    for (const [id, terminal] of this.terminals) {
      const silent = this.#now() - (this.#heard.get(id) ?? 0) > SILENT_MS;
      if (!silent || terminal.stale) continue;
      this.terminals.set(id, { ...terminal, stale: true });
      this.terminalsChanged.fire();
    }
  }

  /** @param {Modes} modes */
  #takeModes(modes) {
    this.modes = modes;
    for (const [id, terminal] of this.terminals) {
      const mode = modes.terminals[id] ?? terminal.mode;
      this.terminals.set(id, { ...terminal, mode, effective_mode: strictest(mode, modes.global) });
    }
    this.terminalsChanged.fire();
  }

  // --- Signals of this page ---

  /** @param {Signal} signal @param {number} createdMs @param {number} sentAt */
  signalSent(signal, createdMs, sentAt) {
    this.sent.set(signal.signal_id, {
      signal, state: "SENDING", code: "", message: "", created_ms: createdMs, sent_at: sentAt, answered_at: null,
    });
    for (const [id, sent] of this.sent) {
      if (this.sent.size <= MAX_SENT) break;
      if (sent.state !== "SENDING") this.sent.delete(id);
    }
    this.ordersChanged.fire();
  }

  /** @param {string} signalId @param {string} code @param {string} message */
  signalRefused(signalId, code, message) {
    const sent = this.sent.get(signalId);
    if (!sent || sent.state !== "SENDING") return;
    Object.assign(sent, { state: "REFUSED", code, message });
    this.ordersChanged.fire();
    this.refused.fire(sent);
  }

  /** Not answered yet, and why as far as it is known. @param {string} signalId @param {string} code @param {string} message */
  signalWaits(signalId, code, message) {
    const sent = this.sent.get(signalId);
    if (!sent || sent.state !== "SENDING" || sent.code === code) return;
    Object.assign(sent, { code, message });
    this.ordersChanged.fire();
  }

  // --- The chart socket ---

  /** @param {ChartMessage} message */
  takeChartMessage(message) {
    switch (message.type) {
      case "snapshot":
      case "update": {
        if (message.symbol !== this.symbol || message.seconds !== this.seconds) return; // of the chart before
        const { symbol, seconds, candles: rows } = message;
        if (message.type === "snapshot") {
          this.candlesChanged.fire({
            kind: "replace", symbol, seconds, rows: message.forming ? [...rows, message.forming] : rows,
          });
        } else if (rows.length) {
          this.candlesChanged.fire({ kind: "update", symbol, seconds, rows });
        }
        if (message.tick) this.#takeTick(symbol, message.tick);
        break;
      }
      case "ticks":
        for (const [symbol, tick] of Object.entries(message.ticks)) this.#takeTick(symbol, tick);
        break;
      case "status":
        this.#ticksRedis = message.redis === "up";
        this.#connectionMoved();
        break;
      case "error":
        this.problems.fire(message);
        break;
    }
  }

  /** @param {string} symbol @param {Tick} tick */
  #takeTick(symbol, tick) {
    const known = this.ticks.get(symbol);
    if (known && known.time_ms > tick.time_ms) return;
    this.ticks.set(symbol, tick);
    this.ticked.fire(symbol);
  }

  /** @param {SymbolInfo[]} items */
  setSymbols(items) {
    this.symbols = new Map(items.map((info) => [info.symbol, info]));
    this.symbolsChanged.fire();
  }

  /** @param {string} symbol @param {number} seconds */
  select(symbol, seconds) {
    if (symbol === this.symbol && seconds === this.seconds) return;
    this.symbol = symbol;
    this.seconds = seconds;
    this.selectionChanged.fire();
  }

  // --- The connection as people see it ---

  /** @param {Exclude<Connection, "redis-down">} state of the two sockets together */
  setSockets(state) {
    this.#sockets = state;
    if (state !== "live") this.#stateRedis = this.#ticksRedis = true; // the next connection says how it is then
    this.#connectionMoved();
  }

  #connectionMoved() {
    const up = this.#stateRedis && this.#ticksRedis;
    const now = this.#sockets === "live" && !up ? "redis-down" : this.#sockets;
    if (now === this.connection) return;
    this.connection = now;
    this.connectionChanged.fire(now);
  }
}

/** @param {import("./messages.js").Mode} one @param {import("./messages.js").Mode} other */
function strictest(one, other) {
  /** @type {import("./messages.js").Mode[]} */
  const order = ["ACTIVE", "REDUCING", "HALTED"];
  return order.indexOf(one) > order.indexOf(other) ? one : other;
}
