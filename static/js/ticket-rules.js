// @ts-check
// What the order ticket can tell without asking: whether the typed numbers make an order, and what is wrong with them.
// A courtesy to the trader; the server decides. Pure.
import { count, digitsOf, lots as lotsText, points, price, typedNumber } from "./format.js";

/**
 * @import {Side, SymbolInfo, Tick} from "./messages.js"
 * @typedef {{side: Side | null, lots: string, stopLoss: string, takeProfit: string, terminals: string[]}} Typed
 * @typedef {{problem: string, field: "" | "lots" | "sl" | "tp", lots: number, stopLoss: number | null, takeProfit: number | null}} Checked
 */

/**
 * @param {Typed} typed
 * @param {SymbolInfo} info
 * @param {Tick | undefined} tick
 * @returns {Checked}
 */
export function checkTicket(typed, info, tick) {
  const lots = typedNumber(typed.lots);
  const stopLoss = typedNumber(typed.stopLoss);
  const takeProfit = typedNumber(typed.takeProfit);
  /** @type {Checked} */
  const checked = { problem: "", field: "", lots: lots ?? 0, stopLoss, takeProfit };
  /** @param {Checked["field"]} field @param {string} problem @returns {Checked} */
  const wrong = (field, problem) => ({ ...checked, field, problem });

  if (lots === null || Number.isNaN(lots) || lots <= 0) return wrong("lots", "Type a number of lots above 0.");
  if (digitsOf(lots) > 8) return wrong("lots", "Lots have at most 8 digits after the point.");
  for (const [field, value, name] of /** @type {[Checked["field"], number | null, string][]} */ ([
    ["sl", stopLoss, "stop loss"], ["tp", takeProfit, "take profit"],
  ])) {
    if (value === null) continue;
    if (Number.isNaN(value) || value <= 0) return wrong(field, `The ${name} must be a price, or empty.`);
    if (digitsOf(value) > info.digits) return wrong(field, `Prices of ${info.symbol} have ${info.digits} digits after the point.`);
    const problem = typed.side && tick ? wrongSide(typed.side, field, value, tick, info) : "";
    if (problem) return wrong(field, problem);
  }
  if (!typed.side) return wrong("", "");
  if (!typed.terminals.length) return wrong("", "Choose at least one terminal.");
  return checked;
}

/** @param {Side} side @param {Checked["field"]} field @param {number} value @param {Tick} tick @param {SymbolInfo} info */
function wrongSide(side, field, value, tick, info) {
  // a position closes at the other side's price: that is what its stop loss and take profit are compared with
  const closes = side === "buy" ? tick.bid : tick.ask;
  const mustBeBelow = (field === "sl") === (side === "buy");
  if (mustBeBelow ? value < closes : value > closes) return "";
  const name = field === "sl" ? "stop loss" : "take profit";
  return `The ${name} of a ${side} lies ${mustBeBelow ? "below" : "above"} ${price(closes, info.digits)}.`;
}

/**
 * The distances of stop loss and take profit from where the position would close now, in points.
 * @param {Checked} checked
 * @param {Side | null} side
 * @param {SymbolInfo} info
 * @param {Tick | undefined} tick
 */
export function distances({ stopLoss, takeProfit }, side, info, tick) {
  if (!tick || (stopLoss === null && takeProfit === null)) return "";
  const from = side === "sell" ? tick.ask : tick.bid;
  /** @param {string} name @param {number | null} value */
  const part = (name, value) => (value === null || Number.isNaN(value) ? [] : [`${name} ${points(value, from, info.point)} points`]);
  return [...part("SL", stopLoss), ...part("TP", takeProfit)].join(" · ");
}

/** The send button's words. @param {Side | null} side @param {number} lots @param {string} symbol @param {number} terminals */
export function sendLabel(side, lots, symbol, terminals) {
  if (!side) return "Choose sell or buy";
  const amount = Number.isFinite(lots) && lots > 0 ? ` ${lotsText(lots)}` : "";
  return `${side === "buy" ? "Buy" : "Sell"}${amount} ${symbol} on ${count(terminals, "terminal")}`;
}

/** One step up or down, on the step's own grid; never below `least`. @param {number | null} value @param {number} step @param {number} direction @param {number} least */
export function stepped(value, step, direction, least) {
  const from = value === null || Number.isNaN(value) ? least : value;
  const next = Math.round((from + direction * step) / step) * step;
  return Math.max(least, Number(next.toFixed(digitsOf(step))));
}
