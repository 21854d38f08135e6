// @ts-check
// Open positions on the chart: a line at the price of each (near ones joined), with lots and live profit; dashed lines
// for stop loss and take profit, and for pending orders. A series primitive: drawn with the chart, detached with it.
import { lots, price, signed, stateName } from "../format.js";
import { onceAFrame } from "../panels/dom.js";
import { openPositions, pendingOrders } from "../selectors.js";
import { lineGroups, spreadLabels } from "./line-groups.js";

/**
 * @import {PendingOrder} from "../messages.js"
 * @import {Store} from "../store.js"
 * @import {Held, LineGroup} from "./line-groups.js"
 * @import {PriceChart} from "./price-chart.js"
 * @import {CanvasRenderingTarget2D} from "fancy-canvas"
 * @import {ISeriesPrimitive, SeriesAttachedParameter, Time} from "../../vendor/lightweight-charts.mjs"
 *
 * @typedef {{price: number, name: string, tone: "up" | "down"}} Bracket
 */

const LABEL = 18;
const LEFT = 12;
const TOP = 34; // below the legend

/** @param {PriceChart} chart @param {Store} store */
export function attachPositionLines(chart, store) {
  const lines = new PositionLines(chart);
  chart.series.attachPrimitive(lines);
  const frame = onceAFrame(() => lines.show(heldOf(store), bracketsOf(store), store.symbols.get(store.symbol)?.digits ?? 5));
  const ends = [
    store.positionsChanged.subscribe(frame.ask),
    store.pendingChanged.subscribe(frame.ask),
    store.terminalsChanged.subscribe(frame.ask),
    chart.replaced.subscribe(frame.ask),
  ];
  return () => {
    for (const end of ends) end();
    frame.end();
    chart.series.detachPrimitive(lines);
  };
}

/** @param {Store} store @returns {Held[]} */
function heldOf(store) {
  return openPositions(store, { symbol: store.symbol }).map((position) => ({
    side: position.side,
    lots: position.lots,
    price: position.price_open,
    profit: position.profit + position.swap,
    currency: store.terminals.get(position.terminal_id)?.account?.currency ?? "",
  }));
}

/** @param {Store} store @returns {Bracket[]} */
function bracketsOf(store) {
  /** @type {Map<string, Bracket>} */
  const found = new Map();
  for (const position of openPositions(store, { symbol: store.symbol })) {
    addStops(found, position);
  }
  /** @type {Map<string, PendingOrder[]>} */
  const alike = new Map();
  for (const order of pendingOrders(store, { symbol: store.symbol })) {
    const key = `${order.order_type}${order.price}`;
    alike.set(key, [...(alike.get(key) ?? []), order]);
    addStops(found, order);
  }
  for (const [key, [first, ...others]] of alike) {
    if (!first) continue;
    const sum = others.reduce((total, order) => total + order.lots, first.lots);
    const name = `${stateName(first.order_type)} ${lots(sum)}${others.length ? ` on ${others.length + 1}` : ""}`;
    found.set(key, { price: first.price, name, tone: first.order_type.startsWith("buy") ? "up" : "down" });
  }
  return [...found.values()];
}

/** @param {Map<string, Bracket>} found @param {{stop_loss?: number | null, take_profit?: number | null}} levels */
function addStops(found, { stop_loss: sl, take_profit: tp }) {
  if (sl) found.set(`SL${sl}`, { price: sl, name: "SL", tone: "down" });
  if (tp) found.set(`TP${tp}`, { price: tp, name: "TP", tone: "up" });
}

/** @implements {ISeriesPrimitive<Time>} */
class PositionLines {
  /** @type {Held[]} */
  #held = [];
  /** @type {Bracket[]} */
  #brackets = [];
  #digits = 5;
  #chart;
  /** @type {(() => void) | null} */
  #redraw = null;
  #views;

  /** @param {PriceChart} chart */
  constructor(chart) {
    this.#chart = chart;
    /** @type {import("../../vendor/lightweight-charts.mjs").IPrimitivePaneView} */
    const view = {
      zOrder: () => "top",
      renderer: () => ({ draw: (target) => this.#draw(target) }),
    };
    this.#views = [view];
  }

  /** @param {SeriesAttachedParameter<Time>} parameters */
  attached({ requestUpdate }) {
    this.#redraw = requestUpdate;
  }

  detached() {
    this.#redraw = null;
  }

  paneViews() {
    return this.#views;
  }

  /** @param {Held[]} held @param {Bracket[]} brackets @param {number} digits */
  show(held, brackets, digits) {
    if (!held.length && !brackets.length && !this.#held.length && !this.#brackets.length) return;
    this.#held = held;
    this.#brackets = brackets;
    this.#digits = digits;
    this.#redraw?.();
  }

  /** @param {CanvasRenderingTarget2D} target */
  #draw(target) {
    if (!this.#held.length && !this.#brackets.length) return;
    const { series, colors } = this.#chart;
    target.useMediaCoordinateSpace(({ context, mediaSize }) => {
      context.font = `600 11px ${colors.font}`;
      context.textBaseline = "middle";
      for (const bracket of this.#brackets) {
        const y = series.priceToCoordinate(bracket.price);
        if (y !== null) this.#bracket(context, mediaSize.width, y, bracket);
      }
      const groups = lineGroups(this.#held, (at) => series.priceToCoordinate(at), LABEL).filter(
        ({ y }) => y > -LABEL && y < mediaSize.height + LABEL,
      );
      for (const group of groups) this.#line(context, mediaSize.width, group);
      const places = spreadLabels(groups.map(({ y }) => Math.max(y, TOP)), LABEL + 3);
      groups.forEach((group, place) => this.#label(context, /** @type {number} */ (places[place]), group));
    });
  }

  /** @param {CanvasRenderingContext2D} context @param {number} width @param {LineGroup} group */
  #line(context, width, { side, y }) {
    const at = Math.round(y) + 0.5;
    context.strokeStyle = side === "buy" ? this.#chart.colors.up : this.#chart.colors.down;
    context.lineWidth = 1;
    context.setLineDash([]);
    context.beginPath();
    context.moveTo(0, at);
    context.lineTo(width, at);
    context.stroke();
  }

  /** @param {CanvasRenderingContext2D} context @param {number} y @param {LineGroup} group */
  #label(context, y, { side, lots: sum, count, profits, price: at }) {
    const { colors } = this.#chart;
    const fill = side === "buy" ? colors.upFill : colors.downFill;
    const head = `${side === "buy" ? "Buy" : "Sell"} ${lots(sum)}${count > 1 ? ` on ${count}` : ""}`;
    const headWidth = context.measureText(head).width + 16;
    const tail = `  ${price(at, this.#digits)}`;
    /** @type {[string, string][]} */
    const parts = profits.map(([currency, profit]) => [
      `  ${signed(profit)} ${currency}`, profit > 0 ? colors.up : profit < 0 ? colors.down : colors.text,
    ]);
    const tailWidth = context.measureText(tail + parts.map(([text]) => text).join("")).width + 14;
    const top = Math.round(y - LABEL / 2);
    context.beginPath();
    context.roundRect(LEFT, top, headWidth + tailWidth, LABEL, 4);
    context.fillStyle = colors.raised;
    context.fill();
    context.strokeStyle = fill;
    context.setLineDash([]);
    context.stroke();
    context.beginPath();
    context.roundRect(LEFT, top, headWidth, LABEL, [4, 0, 0, 4]);
    context.fillStyle = fill;
    context.fill();
    context.fillStyle = "#fff";
    context.fillText(head, LEFT + 8, y + 1);
    let x = LEFT + headWidth;
    context.fillStyle = colors.muted;
    context.fillText(tail, x, y + 1);
    x += context.measureText(tail).width;
    for (const [text, color] of parts) {
      context.fillStyle = color;
      context.fillText(text, x, y + 1);
      x += context.measureText(text).width;
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} y @param {Bracket} bracket */
  #bracket(context, width, y, { name, price: at, tone }) {
    const { colors } = this.#chart;
    const text = `${name} ${price(at, this.#digits)}`;
    const left = width - context.measureText(text).width - 14;
    context.strokeStyle = tone === "down" ? colors.down : colors.up;
    context.lineWidth = 1;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(0, Math.round(y) + 0.5);
    context.lineTo(left - 6, Math.round(y) + 0.5);
    context.stroke();
    context.fillStyle = tone === "down" ? colors.down : colors.up;
    context.fillText(text, left, y);
  }
}
