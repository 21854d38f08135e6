// @ts-check
// Where an order's time went, hop after hop, and how the server's clock differs from the page's. Pure.
// Follows: reports carry the server's part in `trace`, the store knows the page's. Precedes: tracing and the panel.

/**
 * @import {Report} from "./messages.js"
 * @typedef {"own" | "broker" | "page"} Part
 * @typedef {{name: string, label: string, part: Part, start_us: number, us: number}} Hop
 * @typedef {{hops: Hop[], total_us: number, own_us: number, broker_us: number, page_us: number, by: string}} Waterfall
 * @typedef {{clicked_ms: number, accepted_ms: number | null, reported_ms: number}} PageTimes  on the page's monotonic clock
 * @typedef {{offset_ms: number, rtt_ms: number}} Offset
 */

const KEPT = 8; // pings: the quickest of the newest ones is the best measure
const WAYS = /** @type {Record<string, string>} */ ({
  udp: "datagram", tcp: "frame", celery: "Celery task", outbox: "outbox", restart: "after a restart",
});
/** @type {[name: string, label: string, part: Part][]} */
const SPANS = [
  ["accept", "Accepted, on disk", "own"],
  ["wake", "To the executor", "own"],
  ["queue", "Its turn", "own"],
  ["rules", "Rules and price", "own"],
  ["journal", "Journal, on disk", "own"],
  ["broker", "Terminal and broker", "broker"],
];

/** Server time minus the page's monotonic clock, measured by pings. */
export class ClockOffset {
  /** @type {Offset[]} */
  #measured = [];

  /** @param {number} sentAt @param {number} heardAt both on the page's clock @param {unknown} serverMs */
  measure(sentAt, heardAt, serverMs) {
    if (typeof serverMs !== "number" || !Number.isFinite(serverMs) || heardAt < sentAt) return;
    this.#measured.push({ offset_ms: serverMs - (sentAt + heardAt) / 2, rtt_ms: heardAt - sentAt });
    if (this.#measured.length > KEPT) this.#measured.shift();
  }

  /** @returns {Offset | null} */
  get best() {
    return this.#measured.reduce((/** @type {Offset | null} */ best, one) => (best && best.rtt_ms <= one.rtt_ms ? best : one), null);
  }
}

/** Whether a report tells what the broker said: the first of these is where a page's order arrives. @param {Report} report */
export function tellsOutcome(report) {
  return report.trace["answered"] !== undefined && report.state !== "QUEUED" && report.state !== "INTENT";
}

/**
 * @param {Report} report
 * @param {PageTimes | null} page of an order that was placed on this page
 * @param {Offset | null} clock
 * @returns {Waterfall | null} null when nothing was measured
 */
export function waterfall(report, page, clock) {
  const { trace } = report;
  /** @type {[string, string, Part, number][]} */
  const found = [];
  const known = page && clock ? { page, clock } : null;
  if (known && trace["received"] !== undefined) {
    found.push(["up", "Click, to the server", "page", (trace["received"] - known.page.clicked_ms - known.clock.offset_ms) * 1_000]);
  }
  for (const [name, label, part] of SPANS) {
    const us = trace[`${name}_us`];
    if (us !== undefined && (name !== "broker" || trace["sent"] !== undefined)) found.push([name, label, part, us]);
  }
  if (known && trace["answered"] !== undefined) {
    found.push(["back", "Saved, published, to the page", "page", (known.page.reported_ms + known.clock.offset_ms - trace["answered"]) * 1_000]);
  }
  if (!found.length) return null;
  const sums = { own: 0, broker: 0, page: 0 };
  let start = 0;
  const hops = found.map(([name, label, part, us]) => {
    const span = Math.max(0, Math.round(us));
    const hop = { name, label, part, start_us: start, us: span };
    start += span;
    sums[part] += span;
    return hop;
  });
  const total = page ? Math.round((page.reported_ms - page.clicked_ms) * 1_000) : start;
  const by = WAYS[report.woken_by ?? ""] ?? "";
  return { hops, total_us: total, own_us: sums.own, broker_us: sums.broker, page_us: sums.page, by };
}

/**
 * What the page tells the server of its order; it becomes a figure there.
 * @param {string} orderId @param {PageTimes} page @param {Offset} clock
 */
export function traceMessage(orderId, page, clock) {
  return {
    type: "trace",
    order_id: orderId,
    clicked_ms: page.clicked_ms,
    ...(page.accepted_ms === null ? {} : { accepted_ms: page.accepted_ms }),
    reported_ms: page.reported_ms,
    offset_ms: clock.offset_ms,
    rtt_ms: clock.rtt_ms,
  };
}
