// @ts-check
// What the order ticket can tell without asking: whether the typed numbers make an order, and what is wrong with them.
// A courtesy to the trader; the server decides. Pure.
import { count, digitsOf, lots as lotsText, points, typedNumber } from "./format.js";
import { checkProtection, entryProblem, levelProblem, typedPrice, words } from "./order-rules.js";

/**
 * @import {BreakEven, OrderType, Side, SymbolInfo, Tick, Trailing} from "./messages.js"
 * @typedef {object} Typed
 * @property {Side | null} side
 * @property {string} lots
 * @property {string} stopLoss
 * @property {string} takeProfit
 * @property {string[]} terminals
 * @property {OrderType} [orderType]
 * @property {string} [price]
 * @property {string} [limitPrice]
 * @property {{trailing: string, step: string, trigger: string, offset: string}} [protection] in points
 *
 * @typedef {"" | "lots" | "price" | "limit" | "sl" | "tp" | "trailing" | "step" | "trigger" | "offset"} Field
 * @typedef {{problem: string, field: Field, lots: number, price: number | null, limitPrice: number | null,
 *   stopLoss: number | null, takeProfit: number | null, trailing: Trailing | null, breakEven: BreakEven | null}} Checked
 */

const NO_PROTECTION = { trailing: "", step: "", trigger: "", offset: "" };

/**
 * @param {Typed} typed
 * @param {SymbolInfo} info
 * @param {Tick | undefined} tick
 * @returns {Checked}
 */
export function checkTicket(typed, info, tick) {
  const { side, orderType = "market" } = typed;
  const pending = orderType !== "market";
  const lots = typedNumber(typed.lots);
  const entry = typedPrice(pending ? typed.price ?? "" : "", "price", info);
  const limit = typedPrice(orderType === "stop_limit" ? typed.limitPrice ?? "" : "", "limit price", info);
  const stopLoss = typedPrice(typed.stopLoss, "stop loss", info);
  const takeProfit = typedPrice(typed.takeProfit, "take profit", info);
  const protection = checkProtection(typed.protection ?? NO_PROTECTION, info);
  /** @type {Checked} */
  const checked = {
    problem: "", field: "", lots: lots ?? 0, price: entry.value, limitPrice: limit.value, stopLoss: stopLoss.value, takeProfit: takeProfit.value,
    trailing: protection.trailing, breakEven: protection.breakEven,
  };
  /** @param {Field} field @param {string} problem @returns {Checked} */
  const wrong = (field, problem) => ({ ...checked, field, problem });

  if (lots === null || Number.isNaN(lots) || lots <= 0) return wrong("lots", "Type a number of lots above 0.");
  if (digitsOf(lots) > 8) return wrong("lots", "Lots have at most 8 digits after the point.");
  for (const [field, { problem }] of /** @type {[Field, {problem: string}][]} */ ([
    ["price", entry], ["limit", limit], ["sl", stopLoss], ["tp", takeProfit], [protection.field, protection],
  ])) {
    if (problem) return wrong(field, problem);
  }
  if (!side) return wrong("", "");
  const misplaced = entryProblem({ orderType, side, price: entry.value, limitPrice: limit.value }, info, tick);
  if (misplaced) return wrong(misplaced.field, misplaced.problem);
  // a position closes at the other side's price: that is what its stop loss and take profit are compared with
  const from = pending ? limit.value ?? entry.value : side === "buy" ? tick?.bid : tick?.ask;
  for (const [field, { value }] of /** @type {["sl" | "tp", {value: number | null}][]} */ ([["sl", stopLoss], ["tp", takeProfit]])) {
    const problem = value !== null && from != null ? levelProblem(side, field, value, from, info) : "";
    if (problem) return wrong(field, problem);
  }
  if (!typed.terminals.length) return wrong("", "Choose at least one terminal.");
  return checked;
}

/**
 * The distances of stop loss and take profit from the entry of a pending order, else from where the position would close
 * now, in points.
 * @param {Checked} checked
 * @param {Side | null} side
 * @param {SymbolInfo} info
 * @param {Tick | undefined} tick
 */
export function distances({ stopLoss, takeProfit, price, limitPrice }, side, info, tick) {
  if (!tick || (stopLoss === null && takeProfit === null)) return "";
  const from = limitPrice ?? price ?? (side === "sell" ? tick.ask : tick.bid);
  /** @param {string} name @param {number | null} value */
  const part = (name, value) => (value === null || Number.isNaN(value) ? [] : [`${name} ${points(value, from, info.point)} points`]);
  return [...part("SL", stopLoss), ...part("TP", takeProfit)].join(" · ");
}

/**
 * The send button's words.
 * @param {Side | null} side @param {number} lots @param {string} symbol @param {number} terminals @param {OrderType} [orderType]
 */
export function sendLabel(side, lots, symbol, terminals, orderType = "market") {
  if (!side) return "Choose sell or buy";
  const amount = Number.isFinite(lots) && lots > 0 ? ` ${lotsText(lots)}` : "";
  const kind = orderType === "market" ? "" : ` ${words(orderType)}`;
  return `${side === "buy" ? "Buy" : "Sell"}${kind}${amount} ${symbol} on ${count(terminals, "terminal")}`;
}

/** One step up or down, on the step's own grid; never below `least`. @param {number | null} value @param {number} step @param {number} direction @param {number} least */
export function stepped(value, step, direction, least) {
  const from = value === null || Number.isNaN(value) ? least : value;
  const next = Math.round((from + direction * step) / step) * step;
  return Math.max(least, Number(next.toFixed(digitsOf(step))));
}
