// @ts-check
// The candle chart: one chart, one candle series and one tick-count histogram for the page's whole life. Candles are
// set once for a symbol, then updated; another symbol replaces their content, never the series.
import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineStyle, createChart,
} from "../../vendor/lightweight-charts.mjs";
import { Delegate } from "../delegate.js";
import { CandleRows } from "./candle-rows.js";
import { themeColors } from "./theme-colors.js";

/**
 * @import {CandleRow, SymbolInfo, Tick} from "../messages.js"
 * @import {UTCTimestamp} from "../../vendor/lightweight-charts.mjs"
 */

const NEAR_START = 40; // candles left of the view at which older ones are asked for

/** @param {number} openMs */
const timeOf = (openMs) => /** @type {UTCTimestamp} */ (Math.floor(openMs / 1_000));

/** @param {CandleRow} row */
const candleOf = ([openMs, open, high, low, close]) => ({ time: timeOf(openMs), open, high, low, close });

export class PriceChart {
  /** The view came near the oldest candle. @type {Delegate<void>} */
  needsOlder = new Delegate();
  /** The candle under the crosshair, else the newest. @type {Delegate<CandleRow | null>} */
  looked = new Delegate();
  /** The candles changed as a whole: what is drawn by time must be placed anew. @type {Delegate<void>} */
  replaced = new Delegate();

  #container;
  #candles = new CandleRows();
  #colors = themeColors();
  #askLine;
  /** @type {number | null} */
  #hoveredMs = null;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#container = container;
    this.chart = createChart(container, {
      autoSize: true,
      layout: { attributionLogo: true, fontSize: 11, background: { type: ColorType.Solid, color: "transparent" } },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { scaleMargins: { top: 0.12, bottom: 0.2 }, minimumWidth: 72 },
      timeScale: { timeVisible: true, rightOffset: 8, barSpacing: 7, minBarSpacing: 0.8 },
      localization: { locale: "en-GB" },
    });
    this.series = this.chart.addSeries(CandlestickSeries, { borderVisible: false, priceLineStyle: LineStyle.Dotted });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
    this.#askLine = this.series.createPriceLine({
      price: 0, lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: false, lineVisible: false, title: "", color: "",
    });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(this.#onRange);
    this.chart.subscribeCrosshairMove(this.#onCrosshair);
    this.recolor();
  }

  detach() {
    this.chart.timeScale().unsubscribeVisibleLogicalRangeChange(this.#onRange);
    this.chart.unsubscribeCrosshairMove(this.#onCrosshair);
    this.chart.remove();
  }

  get rows() {
    return this.#candles;
  }

  get colors() {
    return this.#colors;
  }

  /** Takes the theme's colours from the page's styles. */
  recolor() {
    const colors = (this.#colors = themeColors());
    this.chart.applyOptions({
      layout: { textColor: colors.muted, panes: { separatorColor: colors.line } },
      grid: { vertLines: { color: colors.grid }, horzLines: { color: colors.grid } },
      crosshair: {
        vertLine: { color: colors.lineStrong, labelBackgroundColor: colors.lineStrong },
        horzLine: { color: colors.lineStrong, labelBackgroundColor: colors.lineStrong },
      },
      rightPriceScale: { borderColor: colors.line },
      timeScale: { borderColor: colors.line },
    });
    this.series.applyOptions({
      upColor: colors.up, downColor: colors.down, wickUpColor: colors.up, wickDownColor: colors.down,
    });
    this.#askLine.applyOptions({ color: colors.accent });
    this.volume.setData(this.#candles.all.map(this.#volumeOf));
    this.replaced.fire();
  }

  /** @param {SymbolInfo} info @param {number} seconds */
  show(info, seconds) {
    this.series.applyOptions({ priceFormat: { type: "price", precision: info.digits, minMove: info.point } });
    this.chart.timeScale().applyOptions({ secondsVisible: seconds < 60 });
    this.clear();
    this.#askLine.applyOptions({ lineVisible: false });
    this.series.priceScale().applyOptions({ autoScale: true });
  }

  /** The newest candles, of a new chart or after a reconnect: a view scrolled back stays. @param {CandleRow[]} rows */
  setCandles(rows) {
    const same = this.#candles.renew(rows);
    this.#draw();
    if (rows.length && !same) this.chart.timeScale().scrollToRealTime();
    this.#tell();
  }

  clear() {
    this.#candles.replace([]);
    this.#hoveredMs = null;
    this.#draw();
    this.#tell();
  }

  /** @param {CandleRow[]} rows the newest, or late changes of older ones */
  update(rows) {
    for (const row of rows) {
      const placed = this.#candles.put(row);
      if (placed === "unknown") continue; // before everything that is loaded
      if (placed === "inserted") {
        this.#draw();
        continue;
      }
      this.series.update(candleOf(row), placed === "amended");
      this.volume.update(this.#volumeOf(row), placed === "amended");
    }
    this.#tell();
  }

  /** Older candles before those shown; the view stays where it is. @param {CandleRow[]} rows */
  prepend(rows) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const added = this.#candles.prepend(rows);
    if (!added) return 0;
    this.#draw();
    if (range) this.chart.timeScale().setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
    this.replaced.fire();
    return added;
  }

  /** @param {Tick} tick */
  showTick(tick) {
    this.#askLine.applyOptions({ price: tick.ask, lineVisible: true });
  }

  #draw() {
    this.series.setData(this.#candles.all.map(candleOf));
    this.volume.setData(this.#candles.all.map(this.#volumeOf));
    this.replaced.fire();
  }

  /** @param {CandleRow} row */
  #volumeOf = ([openMs, open, , , close, ticks]) => ({
    time: timeOf(openMs), value: ticks, color: close < open ? this.#colors.downSoft : this.#colors.upSoft,
  });

  #onRange = () => {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (range && this.#candles.all.length && range.from < NEAR_START) this.needsOlder.fire();
  };

  /** @param {import("../../vendor/lightweight-charts.mjs").MouseEventParams} move */
  #onCrosshair = (move) => {
    this.#hoveredMs = move.time === undefined ? null : Number(move.time) * 1_000;
    this.#look();
  };

  #look() {
    this.looked.fire((this.#hoveredMs === null ? null : this.#candles.at(this.#hoveredMs)) ?? this.#candles.last);
  }

  #tell() {
    const last = this.#candles.last;
    this.#look();
    Object.assign(this.#container.dataset, {
      candles: String(this.#candles.all.length),
      lastOpenMs: last ? String(last[0]) : "",
      lastClose: last ? String(last[4]) : "",
      series: String(this.chart.panes().reduce((sum, pane) => sum + pane.getSeries().length, 0)),
    });
  }
}
