// @ts-check
// Every order with its state and, when it was refused, denied or rejected, why. A signal of this page that has no
// answer yet, or was refused as a whole, is a row of its own. Fills are the same orders where something was executed.
import { count, lots, micros, moment, price, stateName } from "../format.js";
import { FAILED, SETTLED } from "../messages.js";
import { fills, listedOrders, terminalLabel, unplacedSignals } from "../selectors.js";
import { KeyedNodes, el, fillCell, find, onceAFrame, setAttribute, setClass, setText, tableRow } from "./dom.js";

/**
 * @import {Order, Sent, Store} from "../store.js"
 * @typedef {{node: HTMLTableRowElement, cells: Record<string, HTMLTableCellElement>, badge: HTMLElement, code: HTMLElement, reason: Text}} OrderRow
 * @typedef {{key: string, order: Order} | {key: string, sent: Sent}} Listed
 */

const MOST_ROWS = 300;
const ORDER_COLUMNS = ["time", "terminal", "what", "symbol", "lots.r", "filled.r", "price.r", "state", "reason.wide", "own.r", "broker.r"];
const FILL_COLUMNS = ["time", "terminal", "what", "symbol", "lots.r", "price.r", "deal.r", "own.r", "broker.r", "click.r", "trace.act"];

/** @param {string} state */
function badgeOf(state) {
  if (state === "FILLED" || state === "DONE") return "badge badge-good";
  if (state === "UNKNOWN" || state === "PARTIAL") return "badge badge-warn";
  if (state === "REFUSED" || FAILED.has(state)) return "badge badge-bad";
  return SETTLED.has(state) ? "badge" : "badge badge-busy";
}

/** @param {{action: string, side?: string | null}} about */
function wordOf({ action, side }) {
  if (action !== "open") return stateName(action);
  return side === "sell" ? "Sell" : "Buy";
}

/** @param {{action: string, side?: string | null}} about */
const toneOf = ({ action, side }) => (action !== "open" ? "" : side === "sell" ? "down" : "up");

/** @param {{store: Store, filter: () => string, filterChanged: (listener: () => void) => () => void}} parts */
export function attachOrders({ store, filter, filterChanged }) {
  const root = find("#panel-orders", HTMLElement);
  const empty = find("[data-empty]", HTMLElement, root);
  const tab = find("[data-testid=count-orders]", HTMLElement);

  /** @returns {OrderRow} */
  function makeRow() {
    const row = tableRow("order", ORDER_COLUMNS);
    const badge = el("span", { "data-testid": "order-state" });
    const code = el("code", { "data-testid": "order-code" });
    const reason = document.createTextNode("");
    row.cells["state"]?.append(badge);
    row.cells["reason"]?.append(code, reason);
    return { ...row, badge, code, reason };
  }

  /** @param {OrderRow} row @param {string} state @param {string} code @param {string} message @param {string} [more] */
  function fillState({ node, badge, code: codeNode, reason }, state, code, message, more = "") {
    node.dataset["state"] = state;
    setClass(badge, badgeOf(state));
    setText(badge, stateName(state) + more);
    setText(codeNode, code);
    const text = (code && message ? " " : "") + message;
    if (reason.data !== text) reason.data = text;
  }

  /** @type {KeyedNodes<Listed, OrderRow>} */
  const rows = new KeyedNodes(find("tbody", HTMLElement, root), makeRow, (row, listed) => {
    if ("order" in listed) fillOrder(row, listed.order);
    else fillSent(row, listed.sent);
  });

  /** @param {OrderRow} row @param {Order} order */
  function fillOrder(row, { report, state, overdue, accepted_ms }) {
    const { node, cells } = row;
    const digits = store.symbols.get(report.symbol)?.digits ?? 5;
    Object.assign(node.dataset, { order: report.order_id, terminal: report.terminal_id, signal: report.signal_id, action: report.action });
    fillCell(cells["time"], moment(accepted_ms, Date.now()));
    fillCell(cells["terminal"], terminalLabel(store, report.terminal_id));
    fillCell(cells["what"], wordOf(report), toneOf(report));
    fillCell(cells["symbol"], report.symbol || (report.action === "close" ? "all" : "–"));
    fillCell(cells["lots"], report.lots ? lots(report.lots) : "–");
    fillCell(cells["filled"], report.filled_lots ? lots(report.filled_lots) : "–");
    fillCell(cells["price"], price(report.symbol ? report.price : null, digits));
    fillState(row, state, report.code, report.message, overdue ? " · overdue" : "");
    fillCell(cells["own"], micros(report.trace["own_us"]));
    fillCell(cells["broker"], micros(report.trace["broker_us"] || null));
  }

  /** @param {OrderRow} row @param {Sent} sent */
  function fillSent(row, { signal, state, code, message, created_ms }) {
    const { node, cells } = row;
    const open = signal.action === "open" ? signal : null;
    const { terminals } = signal.targets;
    Object.assign(node.dataset, { signal: signal.signal_id, action: signal.action });
    fillCell(cells["time"], moment(created_ms, Date.now()));
    fillCell(cells["terminal"], terminals.length === 1 ? terminalLabel(store, terminals[0] ?? "") : count(terminals.length, "terminal"));
    fillCell(cells["what"], wordOf({ action: signal.action, side: open?.side }), toneOf({ action: signal.action, side: open?.side }));
    fillCell(cells["symbol"], signal.symbol ?? (signal.action === "close" ? "all" : "–"));
    fillCell(cells["lots"], open ? lots(open.lots) : "–");
    for (const name of ["filled", "price", "own", "broker"]) fillCell(cells[name], "–");
    fillState(row, state, code, message);
  }

  function draw() {
    const terminal = filter();
    /** @type {Listed[]} */
    const waiting = unplacedSignals(store)
      .filter(({ signal }) => !terminal || signal.targets.terminals.includes(terminal))
      .map((sent) => ({ key: sent.signal.signal_id, sent }));
    const orders = listedOrders(store, terminal);
    /** @param {Listed} listed */
    const timeOf = (listed) => ("order" in listed ? listed.order.accepted_ms : listed.sent.created_ms);
    /** @type {Listed[]} */
    const listed = [...waiting, ...orders.map((order) => ({ key: order.order_id, order }))];
    if (waiting.length) listed.sort((one, other) => timeOf(other) - timeOf(one));
    rows.show(listed.slice(0, MOST_ROWS), ({ key }) => key);
    empty.hidden = listed.length > 0;
    const open = orders.filter((order) => !SETTLED.has(order.state)).length + waiting.filter((row) => "sent" in row && row.sent.state === "SENDING").length;
    setText(tab, String(listed.length));
    setAttribute(tab, "data-open", String(open));
  }

  return drawing(store, filterChanged, draw);
}

/**
 * @param {{store: Store, showTrace: (order: Order) => void, filter: () => string,
 *   filterChanged: (listener: () => void) => () => void}} parts
 */
export function attachFills({ store, showTrace, filter, filterChanged }) {
  const root = find("#panel-fills", HTMLElement);
  const empty = find("[data-empty]", HTMLElement, root);
  const tab = find("[data-testid=count-fills]", HTMLElement);
  const body = find("tbody", HTMLElement, root);

  /** @param {string} key */
  function makeRow(key) {
    const row = tableRow("fill", FILL_COLUMNS);
    row.cells["trace"]?.append(
      el("button", { type: "button", class: "row-close", "data-testid": "fill-trace", "data-key": key, "aria-haspopup": "dialog" }, "Trace"));
    return row;
  }

  /** @type {KeyedNodes<Order, {node: HTMLTableRowElement, cells: Record<string, HTMLTableCellElement>}>} */
  const rows = new KeyedNodes(body, makeRow, ({ node, cells }, { report, click_us }) => {
    const digits = store.symbols.get(report.symbol)?.digits ?? 5;
    Object.assign(node.dataset, { order: report.order_id, terminal: report.terminal_id, signal: report.signal_id, action: report.action });
    fillCell(cells["time"], moment(report.time_ms, Date.now()));
    fillCell(cells["terminal"], terminalLabel(store, report.terminal_id));
    fillCell(cells["what"], wordOf(report), toneOf(report));
    fillCell(cells["symbol"], report.symbol || "several");
    fillCell(cells["lots"], lots(report.filled_lots));
    fillCell(cells["price"], price(report.symbol ? report.price : null, digits));
    fillCell(cells["deal"], report.deal_tickets.length > 1 ? `${report.deal_tickets[0]} +${report.deal_tickets.length - 1}` : String(report.deal_tickets[0] ?? "–"));
    fillCell(cells["own"], micros(report.trace["own_us"]));
    fillCell(cells["broker"], micros(report.trace["broker_us"]));
    fillCell(cells["click"], micros(click_us));
  });
  body.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-key]") : null;
    const order = button instanceof HTMLElement ? store.orders.get(button.dataset["key"] ?? "") : undefined;
    if (order) showTrace(order);
  });

  function draw() {
    const listed = fills(store, filter());
    rows.show(listed.slice(0, MOST_ROWS), (order) => order.order_id);
    empty.hidden = listed.length > 0;
    setText(tab, String(listed.length));
  }

  return drawing(store, filterChanged, draw);
}

/** @param {Store} store @param {(listener: () => void) => () => void} filterChanged @param {() => void} draw */
function drawing(store, filterChanged, draw) {
  const frame = onceAFrame(draw);
  const ends = [
    store.ordersChanged.subscribe(frame.ask),
    store.userChanged.subscribe(frame.ask),
    store.symbolsChanged.subscribe(frame.ask),
    filterChanged(frame.ask),
    frame.end,
  ];
  frame.ask();
  return () => {
    for (const end of ends) end();
  };
}
