// @ts-check
// The candles of the chart in order of time, each time once, bounded. Pure: precedes price-chart, which draws them.

/** @import {CandleRow} from "../messages.js" */

export const MAX_CANDLES = 20_000;

export class CandleRows {
  /** @type {CandleRow[]} */
  all = [];

  /** @param {CandleRow[]} rows */
  replace(rows) {
    this.all = ordered(rows);
  }

  /** The newest candles again, after a reconnect: older ones that are loaded stay when the two overlap. @param {CandleRow[]} rows */
  renew(rows) {
    const fresh = ordered(rows);
    const first = fresh[0];
    const last = this.last;
    const overlaps = first !== undefined && last !== null && first[0] <= last[0];
    this.all = overlaps ? [...this.all.filter((row) => row[0] < first[0]), ...fresh] : fresh;
    return overlaps;
  }

  get last() {
    return this.all.at(-1) ?? null;
  }

  get oldestMs() {
    return this.all[0]?.[0] ?? null;
  }

  get full() {
    return this.all.length >= MAX_CANDLES;
  }

  /**
   * `newest`: the last one, or one after it. `amended`: an older one, in its place. `inserted`: one that was missing
   * between others. `unknown`: before all that are known.
   * @param {CandleRow} row
   * @returns {"newest" | "amended" | "inserted" | "unknown"}
   */
  put(row) {
    const last = this.last;
    if (!last || row[0] > last[0]) {
      this.all.push(row);
      return "newest";
    }
    const place = this.#placeOf(row[0]);
    if (place < 0) return "unknown";
    if (this.all[place]?.[0] !== row[0]) {
      this.all.splice(place + 1, 0, row);
      return "inserted";
    }
    this.all[place] = row;
    return place === this.all.length - 1 ? "newest" : "amended";
  }

  /** How many were added: those before the oldest known one. @param {CandleRow[]} rows */
  prepend(rows) {
    const oldest = this.oldestMs;
    const room = MAX_CANDLES - this.all.length;
    if (room <= 0) return 0;
    const older = ordered(rows).filter((row) => oldest === null || row[0] < oldest).slice(-room);
    this.all = [...older, ...this.all];
    return older.length;
  }

  /** The candle that a time falls in or after: the last that opens at or before it. @param {number} ms */
  at(ms) {
    return this.all[this.#placeOf(ms)] ?? null;
  }

  /** The place of the candle that a time falls in. @param {number} ms */
  indexOf(ms) {
    return this.#placeOf(ms);
  }

  /** @param {number} ms */
  #placeOf(ms) {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (/** @type {CandleRow} */ (this.all[middle])[0] <= ms) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** @param {CandleRow[]} rows */
function ordered(rows) {
  /** @type {Map<number, CandleRow>} */
  const byTime = new Map(rows.map((row) => [row[0], row]));
  return [...byTime.values()].sort((one, other) => one[0] - other[0]);
}
