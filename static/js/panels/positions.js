// @ts-check
// Open positions with live profit, sums per currency, close one; and the dock's buttons that close several.
import { closable } from "../actions.js";
import { count, lots, moment, price, signed, tone } from "../format.js";
import { closingPositions, openPositions, positionKey, profitByCurrency, terminalLabel, whyNoTrading } from "../selectors.js";
import { KeyedNodes, el, fillCell, find, listening, onceAFrame, setText, tableRow } from "./dom.js";

/**
 * @import {Actions} from "../actions.js"
 * @import {Position} from "../messages.js"
 * @import {Store} from "../store.js"
 * @typedef {{node: HTMLTableRowElement, cells: Record<string, HTMLTableCellElement>, button: HTMLButtonElement, edit: HTMLButtonElement}} Row
 */

const COLUMNS = ["terminal", "symbol", "side", "lots.r", "open.r", "now.r", "sl.r", "tp.r", "swap.r", "profit.r", "opened", "ticket.r", "close.act"];

/**
 * @param {{store: Store, actions: Actions, edit: (position: Position) => void, filter: () => string,
 *   filterChanged: (listener: () => void) => () => void}} parts
 */
export function attachPositions({ store, actions, edit: editPosition, filter, filterChanged }) {
  const root = find("#panel-positions", HTMLElement);
  const body = find("tbody", HTMLElement, root);
  const empty = find("[data-empty]", HTMLElement, root);
  const totals = find("#position-totals", HTMLElement);
  const tab = find("[data-testid=count-positions]", HTMLElement);
  const closeSymbol = find("#close-symbol", HTMLButtonElement);
  const closeAll = find("#close-all", HTMLButtonElement);
  const closeActions = find("#close-actions", HTMLElement);
  const closeNote = find("#close-note", HTMLElement);
  const topTotals = find("#open-profit", HTMLElement);
  const events = listening();
  /** @type {Map<string, Position>} */
  let byKey = new Map();

  /** @param {string} key @returns {Row} */
  function makeRow(key) {
    const row = tableRow("position", COLUMNS);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "row-close";
    button.dataset["testid"] = "position-close";
    button.dataset["key"] = key;
    const edit = document.createElement("button");
    edit.type = "button";
    edit.className = "row-edit";
    edit.textContent = "Edit";
    edit.dataset["testid"] = "position-edit";
    edit.dataset["edit"] = key;
    edit.setAttribute("aria-haspopup", "dialog");
    return { ...row, button, edit };
  }

  /** @type {KeyedNodes<Position, Row>} */
  const rows = new KeyedNodes(body, makeRow, fillRow);
  let closing = /** @type {Set<string>} */ (new Set());

  /** @param {Row} row @param {Position} position */
  function fillRow({ node, cells, button, edit }, position) {
    const digits = store.symbols.get(position.symbol)?.digits ?? 5;
    const terminal = store.terminals.get(position.terminal_id);
    const key = positionKey(position);
    node.dataset["terminal"] = position.terminal_id;
    node.dataset["ticket"] = String(position.position_ticket);
    fillCell(cells["terminal"], terminalLabel(store, position.terminal_id));
    fillCell(cells["symbol"], position.symbol);
    fillCell(cells["side"], position.side === "buy" ? "Buy" : "Sell", position.side === "buy" ? "up" : "down");
    fillCell(cells["lots"], lots(position.lots));
    fillCell(cells["open"], price(position.price_open, digits));
    fillCell(cells["now"], price(position.price_current, digits));
    fillCell(cells["sl"], `${price(position.stop_loss || null, digits)}${position.trailing || position.break_even ? " ⤴" : ""}`);
    if (cells["sl"]) cells["sl"].title = armedText(position);
    fillCell(cells["tp"], price(position.take_profit || null, digits));
    fillCell(cells["swap"], signed(position.swap));
    fillCell(cells["profit"], `${signed(position.profit)} ${terminal?.account?.currency ?? ""}`, tone(position.profit));
    fillCell(cells["opened"], moment(position.opened_ms, Date.now()));
    fillCell(cells["ticket"], String(position.position_ticket));
    const waits = closing.has(key);
    if (terminal?.can_trade) {
      if (!button.isConnected) cells["close"]?.append(edit, button);
      edit.setAttribute("aria-label", `Change ${position.side} ${lots(position.lots)} ${position.symbol} on ${terminalLabel(store, position.terminal_id)}`);
      setText(button, waits ? "Closing…" : "Close");
      button.disabled = waits;
      button.setAttribute("aria-label", `Close ${position.side} ${lots(position.lots)} ${position.symbol} on ${terminalLabel(store, position.terminal_id)}`);
    } else {
      button.remove();
      edit.remove();
    }
    node.classList.toggle("waiting", waits);
  }

  function draw() {
    const terminal = filter();
    const all = openPositions(store);
    const shown = openPositions(store, { terminal });
    byKey = new Map(all.map((position) => [positionKey(position), position]));
    closing = closingPositions(store);
    rows.show(shown, positionKey);
    empty.hidden = shown.length > 0;
    setText(tab, String(all.length));
    drawSums(totals, shown);
    drawTop(all);
    drawCloseButtons(terminal);
  }

  /** @param {HTMLElement} root @param {Position[]} positions */
  function drawSums(root, positions) {
    const sums = profitByCurrency(store, positions);
    const text = sums.map(([currency, sum]) => `${currency} ${signed(sum)}`).join("|");
    if (root.dataset["shown"] === text) return;
    root.dataset["shown"] = text;
    root.replaceChildren(...(sums.length ? [el("span", {}, "Profit with swap")] : []), ...sums.map(([currency, sum]) =>
      el("span", { "data-testid": `total-${currency}` }, currency, el("b", { class: tone(sum) }, signed(sum)))));
  }

  /** @param {Position[]} positions */
  function drawTop(positions) {
    const sums = profitByCurrency(store, positions);
    const text = sums.map(([currency, sum]) => `${currency} ${signed(sum)}`).join("|");
    if (topTotals.dataset["shown"] === text) return;
    topTotals.dataset["shown"] = text;
    topTotals.replaceChildren(...sums.slice(0, 3).map(([currency, sum]) =>
      el("span", { class: tone(sum) }, signed(sum), el("span", { class: "unit" }, currency))));
  }

  /** @param {string} terminal */
  function drawCloseButtons(terminal) {
    const mayTrade = whyNoTrading(store) === "" && store.user !== null;
    const ofAll = closable(store, { terminal }).length;
    const ofSymbol = closable(store, { terminal, symbol: store.symbol }).length;
    closeActions.hidden = !mayTrade;
    closeNote.hidden = store.user === null || mayTrade;
    setText(closeNote, "View only: closing is for traders.");
    setText(closeSymbol, `Close ${store.symbol}${ofSymbol ? ` (${ofSymbol})` : ""}`);
    setText(closeAll, `Close all${ofAll ? ` (${ofAll})` : ""}`);
    closeSymbol.disabled = !ofSymbol;
    closeAll.disabled = !ofAll;
    closeAll.title = ofAll ? `${count(ofAll, "position")}${terminal ? ` on ${terminalLabel(store, terminal)}` : ""}` : "";
  }

  events.on(body, "click", (event) => {
    const wish = event.target instanceof Element ? event.target.closest("button[data-edit]") : null;
    const edited = wish instanceof HTMLElement ? byKey.get(wish.dataset["edit"] ?? "") : undefined;
    if (edited) return editPosition(edited);
    const button = event.target instanceof Element ? event.target.closest("button[data-key]") : null;
    const position = button instanceof HTMLElement ? byKey.get(button.dataset["key"] ?? "") : undefined;
    if (position) actions.closePosition(position);
  });
  /** @param {{symbol?: string}} only */
  const closeMany = (only) => void actions.closeMany({ ...only, ...(filter() ? { terminal: filter() } : {}) });
  events.on(closeSymbol, "click", () => closeMany({ symbol: store.symbol }));
  events.on(closeAll, "click", () => closeMany({}));

  const frame = onceAFrame(draw);
  for (const changed of [store.positionsChanged, store.ordersChanged, store.terminalsChanged, store.symbolsChanged, store.selectionChanged]) {
    events.keep(changed.subscribe(frame.ask));
  }
  events.keep(store.userChanged.subscribe(frame.ask), filterChanged(frame.ask), frame.end);
  frame.ask();
  return events.end;
}

/** What moves a position's stop loss, as a sentence. @param {Position} position */
export function armedText({ trailing, break_even: even, protect_error: error }) {
  const parts = [];
  if (trailing) parts.push(`Trailing at ${trailing.distance}${trailing.step ? ` in steps of ${trailing.step}` : ""}.`);
  if (even) parts.push(`Even after ${even.trigger}${even.offset ? ` with ${even.offset}` : ""}.`);
  if (error) parts.push(error);
  return parts.join(" ");
}
