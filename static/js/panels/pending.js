// @ts-check
// Pending orders at the brokers: change or cancel one, cancel all.
import { cancellable } from "../actions.js";
import { count, lots, moment, price, stateName } from "../format.js";
import { pendingOrders, terminalLabel } from "../selectors.js";
import { KeyedNodes, el, fillCell, find, listening, onceAFrame, setText, tableRow } from "./dom.js";

/**
 * @import {Actions} from "../actions.js"
 * @import {PendingOrder} from "../messages.js"
 * @import {Store} from "../store.js"
 * @typedef {{node: HTMLTableRowElement, cells: Record<string, HTMLTableCellElement>, buttons: HTMLElement[]}} Row
 */

const COLUMNS = ["terminal", "symbol", "type", "lots.r", "price.r", "limit.r", "sl.r", "tp.r", "expires", "placed", "ticket.r", "act.act"];

/** @param {PendingOrder} order */
const keyOf = (order) => `${order.terminal_id}:${order.order_ticket}`;

/**
 * @param {{store: Store, actions: Actions, edit: (order: PendingOrder) => void, filter: () => string,
 *   filterChanged: (listener: () => void) => () => void}} parts
 */
export function attachPending({ store, actions, edit, filter, filterChanged }) {
  const root = find("#panel-pending", HTMLElement);
  const body = find("tbody", HTMLElement, root);
  const empty = find("[data-empty]", HTMLElement, root);
  const tab = find("[data-testid=count-pending]", HTMLElement);
  const cancelAll = find("#cancel-all", HTMLButtonElement);
  const events = listening();
  /** @type {Map<string, PendingOrder>} */
  let byKey = new Map();

  /** @param {string} key @returns {Row} */
  function makeRow(key) {
    const buttons = [
      el("button", { type: "button", class: "row-edit", "data-testid": "pending-edit", "data-key": key, "data-act": "edit", "aria-haspopup": "dialog" }, "Edit"),
      el("button", { type: "button", class: "row-close", "data-testid": "pending-cancel", "data-key": key, "data-act": "cancel" }, "Cancel"),
    ];
    return { ...tableRow("pending", COLUMNS), buttons };
  }

  /** @type {KeyedNodes<PendingOrder, Row>} */
  const rows = new KeyedNodes(body, makeRow, ({ node, cells, buttons }, order) => {
    const digits = store.symbols.get(order.symbol)?.digits ?? 5;
    const terminal = store.terminals.get(order.terminal_id);
    const now = Date.now();
    Object.assign(node.dataset, { terminal: order.terminal_id, ticket: String(order.order_ticket) });
    fillCell(cells["terminal"], terminalLabel(store, order.terminal_id));
    fillCell(cells["symbol"], order.symbol);
    fillCell(cells["type"], stateName(order.order_type), order.order_type.startsWith("buy") ? "up" : "down");
    fillCell(cells["lots"], lots(order.lots));
    fillCell(cells["price"], price(order.price, digits));
    fillCell(cells["limit"], price(order.limit_price || null, digits));
    fillCell(cells["sl"], price(order.stop_loss || null, digits));
    fillCell(cells["tp"], price(order.take_profit || null, digits));
    fillCell(cells["expires"], order.expires_ms ? moment(order.expires_ms, now) : "–");
    fillCell(cells["placed"], moment(order.placed_ms, now));
    fillCell(cells["ticket"], String(order.order_ticket));
    for (const button of buttons) {
      if (!terminal?.can_trade) button.remove();
      else if (!button.isConnected) cells["act"]?.append(button);
      button.setAttribute("aria-label", `${button.textContent} ${order.order_type.replaceAll("_", " ")} ${lots(order.lots)} ${order.symbol} on ${terminalLabel(store, order.terminal_id)}`);
    }
  });

  function draw() {
    const all = pendingOrders(store);
    const shown = pendingOrders(store, { terminal: filter() });
    byKey = new Map(all.map((order) => [keyOf(order), order]));
    rows.show(shown, keyOf);
    empty.hidden = shown.length > 0;
    setText(tab, String(all.length));
    const mine = cancellable(store, { terminal: filter() }).length;
    cancelAll.hidden = mine === 0;
    setText(cancelAll, `Cancel ${count(mine, "pending order")}`);
  }

  events.on(body, "click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-key]") : null;
    const order = button instanceof HTMLElement ? byKey.get(button.dataset["key"] ?? "") : undefined;
    if (!order || !(button instanceof HTMLElement)) return;
    if (button.dataset["act"] === "edit") edit(order);
    else actions.cancelOrder(order);
  });
  events.on(cancelAll, "click", () => void actions.cancelMany(filter() ? { terminal: filter() } : {}));

  const frame = onceAFrame(draw);
  for (const changed of [store.pendingChanged, store.terminalsChanged, store.symbolsChanged]) events.keep(changed.subscribe(frame.ask));
  events.keep(store.userChanged.subscribe(frame.ask), filterChanged(frame.ask), frame.end);
  frame.ask();
  return events.end;
}
