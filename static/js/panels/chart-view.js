// @ts-check
// Brings the store's candles to the chart: the chosen symbol, live candles, older ones when the view nears the start,
// the legend with the candle under the crosshair, and a word when there is nothing to draw.
import * as api from "../api.js";
import { price, timeframe } from "../format.js";
import { el, find, onceAFrame, setText } from "./dom.js";

/**
 * @import {CandleRow} from "../messages.js"
 * @import {PriceChart} from "../chart/price-chart.js"
 * @import {Store} from "../store.js"
 */

const PAGE = 1_000;

/** @param {{store: Store, chart: PriceChart, container: HTMLElement}} parts */
export function attachChartView({ store, chart, container }) {
  const legend = find("#legend", HTMLElement);
  const note = find("#chart-note", HTMLElement);
  let loading = false;
  let exhausted = false;
  /** @type {CandleRow | null} */
  let looked = null;

  function select() {
    const info = store.symbols.get(store.symbol);
    if (!info) return;
    exhausted = false;
    setText(note, "Loading candles…");
    chart.show(info, store.seconds);
    Object.assign(container.dataset, { symbol: store.symbol, seconds: String(store.seconds), listeners: String(store.listeners) });
  }

  async function loadOlder() {
    const { symbol, seconds } = store;
    const oldest = chart.rows.oldestMs;
    if (loading || exhausted || oldest === null || chart.rows.full) return;
    loading = true;
    try {
      const rows = await api.olderCandles(symbol, seconds, oldest, PAGE);
      if (symbol !== store.symbol || seconds !== store.seconds) return;
      exhausted = chart.prepend(rows) === 0;
    } catch (error) {
      if (error instanceof api.ApiError && error.status < 500) exhausted = true;
      console.warn("Older candles could not be read; scrolling asks again.", error);
    } finally {
      loading = false;
    }
  }

  function drawLegend() {
    const info = store.symbols.get(store.symbol);
    if (!info) return legend.replaceChildren();
    const parts = [el("b", {}, `${store.symbol} · ${timeframe(store.seconds)}`)];
    if (looked) {
      const [, open, high, low, close, ticks] = looked;
      const tone = close < open ? "down" : "up";
      for (const [name, value] of /** @type {[string, number][]} */ ([["O", open], ["H", high], ["L", low], ["C", close]])) {
        parts.push(el("span", {}, `${name} `, el("i", { class: tone }, price(value, info.digits))));
      }
      parts.push(el("span", {}, "Ticks ", el("i", {}, String(ticks))));
    }
    parts.push(el("span", {}, "UTC"));
    legend.replaceChildren(...parts);
  }

  const frame = onceAFrame(drawLegend);
  const ends = [
    store.selectionChanged.subscribe(select),
    store.candlesChanged.subscribe(({ kind, rows }) => {
      if (kind === "replace") {
        setText(note, rows.length ? "" : "No candles yet. They appear with the first ticks.");
        chart.setCandles(rows);
      } else {
        if (rows.length) setText(note, "");
        chart.update(rows);
      }
    }),
    store.ticked.subscribe((symbol) => {
      const tick = symbol === store.symbol ? store.ticks.get(symbol) : undefined;
      if (tick) chart.showTick(tick);
    }),
    chart.needsOlder.subscribe(() => void loadOlder()),
    chart.looked.subscribe((row) => {
      looked = row;
      frame.ask();
    }),
    frame.end,
  ];
  select();
  return () => {
    for (const end of ends) end();
  };
}
