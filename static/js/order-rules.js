// @ts-check
// What can be told of prices and protections without asking: whether a price lies where its kind of order must have it,
// points as price units. A courtesy to the trader; the server and the broker decide. Pure.
import { digitsOf, price as priceText, typedNumber } from "./format.js";

/**
 * @import {BreakEven, OrderType, Side, SymbolInfo, Tick, Trailing} from "./messages.js"
 * @typedef {{value: number | null, problem: string}} Typed  null: nothing typed
 */

/** How long a pending order waits. @type {[name: string, label: string, minutes: number | null][]} */
export const EXPIRIES = [
  ["none", "Until cancelled", null], ["60", "1 hour", 60], ["240", "4 hours", 240], ["1440", "1 day", 1_440], ["10080", "1 week", 10_080],
];

/** @param {string} name @param {number} now UTC ms @returns {number | null} */
export function expiresMs(name, now) {
  const minutes = EXPIRIES.find(([known]) => known === name)?.[2] ?? null;
  return minutes === null ? null : now + minutes * 60_000;
}

/** A price as typed. @param {string} text @param {string} name @param {SymbolInfo} info @returns {Typed} */
export function typedPrice(text, name, info) {
  const value = typedNumber(text);
  if (value === null) return { value, problem: "" };
  if (Number.isNaN(value) || value <= 0) return { value, problem: `The ${name} must be a price, or empty.` };
  if (digitsOf(value) > info.digits) return { value, problem: `Prices of ${info.symbol} have ${info.digits} digits after the point.` };
  return { value, problem: "" };
}

/** Points as typed, as units of the price. @param {string} text @param {string} name @param {SymbolInfo} info @returns {Typed} */
export function typedPoints(text, name, info) {
  const points = typedNumber(text);
  if (points === null) return { value: null, problem: "" };
  if (!Number.isInteger(points) || points < 0) return { value: null, problem: `The ${name} must be a whole number of points, or empty.` };
  return { value: Number((points * info.point).toFixed(info.digits)), problem: "" };
}

/**
 * Why a pending order cannot wait at that price now, as a sentence with its field; null when it can.
 * @param {{orderType: OrderType, side: Side, price: number | null, limitPrice: number | null}} wish
 * @param {SymbolInfo} info @param {Tick | undefined} tick
 * @returns {{field: "price" | "limit", problem: string} | null}
 */
export function entryProblem({ orderType, side, price, limitPrice }, info, tick) {
  if (orderType === "market") return null;
  if (price === null) return { field: "price", problem: `A ${words(orderType)} order needs a price.` };
  const market = side === "buy" ? tick?.ask : tick?.bid;
  if (market !== undefined) {
    const below = (orderType === "limit") === (side === "buy");
    if (below ? price >= market : price <= market) {
      return {
        field: "price",
        problem: `The price of a ${side} ${words(orderType)} lies ${below ? "below" : "above"} ${priceText(market, info.digits)}.`,
      };
    }
  }
  if (orderType !== "stop_limit") return null;
  if (limitPrice === null) return { field: "limit", problem: "A stop limit order needs a limit price too." };
  if (side === "buy" ? limitPrice >= price : limitPrice <= price) {
    return { field: "limit", problem: `The limit price of a ${side} lies ${side === "buy" ? "below" : "above"} its price.` };
  }
  return null;
}

/**
 * Why a stop loss or take profit cannot lie there, as a sentence; "" when it can.
 * @param {Side} side @param {"sl" | "tp"} which @param {number} value
 * @param {number} from where the position would close now, or the entry of a pending order
 * @param {SymbolInfo} info
 */
export function levelProblem(side, which, value, from, info) {
  const below = (which === "sl") === (side === "buy");
  if (below ? value < from : value > from) return "";
  return `The ${which === "sl" ? "stop loss" : "take profit"} of a ${side} lies ${below ? "below" : "above"} ${priceText(from, info.digits)}.`;
}

/**
 * Trailing stop and break-even as typed in points. null: none wished.
 * @param {{trailing: string, step: string, trigger: string, offset: string}} typed
 * @param {SymbolInfo} info
 * @returns {{trailing: Trailing | null, breakEven: BreakEven | null, field: "" | "trailing" | "step" | "trigger" | "offset", problem: string}}
 */
export function checkProtection(typed, info) {
  const parts = {
    trailing: typedPoints(typed.trailing, "distance", info), step: typedPoints(typed.step, "step", info),
    trigger: typedPoints(typed.trigger, "profit", info), offset: typedPoints(typed.offset, "offset", info),
  };
  /** @param {"trailing" | "step" | "trigger" | "offset"} field @param {string} problem */
  const wrong = (field, problem) => ({ trailing: null, breakEven: null, field, problem });
  for (const field of /** @type {const} */ (["trailing", "step", "trigger", "offset"])) {
    if (parts[field].problem) return wrong(field, parts[field].problem);
  }
  const { trailing: distance, step, trigger, offset } = { trailing: parts.trailing.value, step: parts.step.value, trigger: parts.trigger.value, offset: parts.offset.value };
  if (distance === 0) return wrong("trailing", "The distance must be above 0, or empty for none.");
  if (step && !distance) return wrong("trailing", "A step needs a trailing distance.");
  if (trigger === 0) return wrong("trigger", "The profit must be above 0, or empty for none.");
  if (offset && !trigger) return wrong("trigger", "An offset needs the profit at which it counts.");
  if (trigger && offset && offset >= trigger) return wrong("offset", "The offset must be less than the profit.");
  return {
    trailing: distance ? { distance, ...(step ? { step } : {}) } : null,
    breakEven: trigger ? { trigger, ...(offset ? { offset } : {}) } : null,
    field: "",
    problem: "",
  };
}

/** stop_limit → stop limit. @param {string} orderType */
export const words = (orderType) => orderType.replaceAll("_", " ");
