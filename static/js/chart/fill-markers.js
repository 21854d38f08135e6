// @ts-check
// Fills on the chart at their exact prices: an arrow for each, a square for a close; words where there is room for them.
import { createSeriesMarkers } from "../../vendor/lightweight-charts.mjs";
import { count, lots } from "../format.js";
import { onceAFrame } from "../panels/dom.js";
import { fills } from "../selectors.js";

/**
 * @import {Store, Order} from "../store.js"
 * @import {PriceChart} from "./price-chart.js"
 * @import {SeriesMarker, Time, UTCTimestamp} from "../../vendor/lightweight-charts.mjs"
 */

const MAX_MARKERS = 300;
const LABEL_CANDLES = 14; // between two labels, so that they do not cover each other

/** @param {PriceChart} chart @param {Store} store */
export function attachFillMarkers(chart, store) {
  const markers = createSeriesMarkers(chart.series, [], { autoScale: false });
  let drawn = "";

  function draw() {
    const orders = fills(store).filter((order) => order.report.symbol === store.symbol).slice(0, MAX_MARKERS);
    const placed = markersOf(orders, chart);
    const now = JSON.stringify(placed);
    if (now === drawn) return;
    drawn = now;
    markers.setMarkers(placed);
  }

  const frame = onceAFrame(draw);
  const ends = [store.ordersChanged.subscribe(frame.ask), chart.replaced.subscribe(frame.ask)];
  return () => {
    for (const end of ends) end();
    frame.end();
    markers.detach();
  };
}

/** @param {Order[]} orders newest first @param {PriceChart} chart @returns {SeriesMarker<Time>[]} */
function markersOf(orders, chart) {
  const { accent, warn, text } = chart.colors;
  /** @type {Map<number, Order[]>} */
  const byCandle = new Map();
  for (const order of orders) {
    const candle = chart.rows.at(order.report.time_ms);
    if (!candle || order.report.price == null) continue;
    byCandle.set(candle[0], [...(byCandle.get(candle[0]) ?? []), order]);
  }
  /** @type {SeriesMarker<Time>[]} */
  const placed = [];
  let labelled = Infinity;
  for (const [openMs, legs] of [...byCandle].sort(([one], [other]) => other - one)) {
    const place = chart.rows.indexOf(openMs);
    const room = labelled - place >= LABEL_CANDLES;
    if (room) labelled = place;
    legs.forEach(({ order_id: id, report }, index) => {
      const closes = report.action === "close";
      placed.push({
        id,
        time: /** @type {UTCTimestamp} */ (openMs / 1_000),
        position: "atPriceMiddle",
        price: /** @type {number} */ (report.price),
        shape: closes ? "square" : report.side === "sell" ? "arrowDown" : "arrowUp",
        color: closes ? text : report.side === "sell" ? warn : accent,
        size: closes ? 0.5 : 0.8,
        ...(room && index === 0 ? { text: labelOf(legs) } : {}),
      });
    });
  }
  return placed.sort((one, other) => Number(one.time) - Number(other.time));
}

/** One signal in its words, more of them as a number. @param {Order[]} legs of one candle */
function labelOf(legs) {
  const [first] = legs;
  if (!first || new Set(legs.map(({ report }) => report.signal_id)).size > 1) return count(legs.length, "fill");
  const sum = legs.reduce((total, { report }) => total + report.filled_lots, 0);
  const word = first.report.action === "close" ? "Close" : first.report.side === "sell" ? "Sell" : "Buy";
  return `${word} ${lots(sum)}${legs.length > 1 ? ` on ${legs.length}` : ""}`;
}
