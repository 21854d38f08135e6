// @ts-check
// Fills on the chart at their exact prices: an arrow a fill, and the signal's sum once beside the newest of them.
import { createSeriesMarkers } from "../../vendor/lightweight-charts.mjs";
import { lots } from "../format.js";
import { onceAFrame } from "../panels/dom.js";
import { fills } from "../selectors.js";

/**
 * @import {Store, Order} from "../store.js"
 * @import {PriceChart} from "./price-chart.js"
 * @import {SeriesMarker, Time, UTCTimestamp} from "../../vendor/lightweight-charts.mjs"
 */

const MAX_MARKERS = 300;

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
  const { up, down } = chart.colors;
  /** @type {Map<string, Order[]>} */
  const bySignal = new Map();
  for (const order of orders) bySignal.set(order.report.signal_id, [...(bySignal.get(order.report.signal_id) ?? []), order]);
  /** @type {SeriesMarker<Time>[]} */
  const placed = [];
  for (const legs of bySignal.values()) {
    legs.forEach(({ order_id: id, report }, place) => {
      const candle = chart.rows.at(report.time_ms);
      if (!candle || report.price == null) return;
      const buys = (report.side === "buy") === (report.action === "open") || report.side == null;
      const sum = legs.reduce((total, leg) => total + leg.report.filled_lots, 0);
      const word = report.action === "close" ? "Close" : buys ? "Buy" : "Sell";
      placed.push({
        id,
        time: /** @type {UTCTimestamp} */ (candle[0] / 1_000),
        position: "atPriceMiddle",
        price: report.price,
        shape: report.action === "close" ? "square" : buys ? "arrowUp" : "arrowDown",
        color: report.action === "close" ? chart.colors.accent : buys ? up : down,
        size: 0.7,
        ...(place === 0 ? { text: `${word} ${lots(sum)}${legs.length > 1 ? ` on ${legs.length}` : ""}` } : {}),
      });
    });
  }
  return placed.sort((one, other) => Number(one.time) - Number(other.time));
}
