// @ts-check
// Which orders and answers become a toast: every one that was refused, denied or rejected or is unknown, with its
// reason; and the outcome of this page's own signals. Orders of one signal with the same end share a toast.
import { count, lots, price, stateName } from "../format.js";
import { FAILED, SETTLED } from "../messages.js";
import { terminalLabel } from "../selectors.js";

/**
 * @import {Order, Sent, Store} from "../store.js"
 * @import {Toast} from "./toasts.js"
 */

/** Ends of pending orders that somebody has asked for. */
const AS_WISHED = new Set(["PENDING_CANCELLED", "PENDING_EXPIRED"]);

const DONE = /** @type {Record<string, string>} */ ({
  close: "Nothing to close", modify: "Changed", cancel: "Cancelled", protect: "Protected", close_by: "Closed by each other",
});

/** @param {Store} store @param {(toast: Toast) => void} say */
export function attachNotices(store, say) {
  /** @param {Order} order */
  function onReport({ state, report }) {
    const { signal_id: id, code } = report;
    const orders = [...store.orders.values()].filter((order) => order.report.signal_id === id);
    if (FAILED.has(state)) {
      const same = orders.filter((order) => order.state === state && order.report.code === code);
      const where = same.length === 1 ? terminalLabel(store, report.terminal_id) : count(same.length, "terminal");
      say({
        key: `${id} ${state} ${code}`,
        tone: state === "UNKNOWN" ? "warn" : AS_WISHED.has(code) ? undefined : "bad",
        title: `${stateName(state)}: ${wordsOf(order(orders, report.order_id))} on ${where}`,
        code,
        text: report.message,
      });
    }
    if (state === "MANUAL") {
      const where = terminalLabel(store, report.terminal_id);
      say({ key: `${id} ${report.order_id} settled`, tone: "warn", title: `Settled by hand: ${wordsOf(order(orders, report.order_id))} on ${where}`, code, text: report.message });
    }
    if (!store.sent.has(id)) return;
    if (orders.every((order) => order.state === "PLACED" && order.report.action === "open")) {
      say({ key: `${id} placed`, tone: "good", title: `Placed: ${wordsOf(order(orders, report.order_id))} on ${count(orders.length, "terminal")}`, text: "It waits at the broker." });
    }
    if (orders.every((order) => SETTLED.has(order.state))) sayOutcome(id, orders);
  }

  /** @param {string} id @param {Order[]} orders */
  function sayOutcome(id, orders) {
    const filled = orders.filter((order) => order.report.filled_lots > 0);
    const done = orders.filter((order) => order.state === "DONE");
    if (!filled.length && !done.length) return;
    const sum = filled.reduce((total, order) => total + order.report.filled_lots, 0);
    const volume = filled.reduce((total, order) => total + order.report.filled_lots * (order.report.price ?? 0), 0);
    const [first] = filled;
    const symbols = new Set(filled.map((order) => order.report.symbol || "several symbols"));
    const digits = store.symbols.get(first?.report.symbol ?? "")?.digits ?? 5;
    say({
      key: `${id} outcome`,
      tone: filled.length ? "good" : undefined,
      title: first
        ? `${first.report.action === "close" ? "Closed" : first.report.side === "sell" ? "Sold" : "Bought"} ${lots(sum)}${
          symbols.size === 1 ? ` ${[...symbols][0]}` : ""} on ${count(filled.length, "terminal")}`
        : DONE[done[0]?.report.action ?? "close"] ?? "Done",
      text: symbols.size === 1 && first?.report.symbol ? `Mean price ${price(volume / sum, digits)}` : first ? "" : withoutDone(done[0]?.report.message ?? ""),
    });
  }

  /** @param {Sent} sent */
  function onRefused({ signal, code, message }) {
    const what = signal.action === "open" ? `${signal.side} ${lots(signal.lots)} ${signal.symbol}` : signal.action.replace("_", " ");
    say({ key: `${signal.signal_id} refused`, tone: "bad", title: `Refused: ${what}`, code, text: message });
  }

  /** @param {{terminal_id: string, event: import("../messages.js").DriftEvent}} drifted */
  function onDrift({ terminal_id: id, event: { code, message, ticket, time_ms: time } }) {
    say({ key: `drift ${id} ${code} ${ticket} ${time}`, tone: "warn", title: `Not by an order of ours, on ${terminalLabel(store, id)}`, code, text: message });
  }

  const ends = [
    store.drifted.subscribe(onDrift),
    store.reported.subscribe(onReport),
    store.refused.subscribe(onRefused),
    store.problems.subscribe(({ code, message }) => say({ key: `problem ${code}`, tone: "warn", title: "The server says", code, text: message })),
  ];
  return () => {
    for (const end of ends) end();
  };
}

/** @param {Order[]} orders @param {string} id */
const order = (orders, id) => /** @type {Order} */ (orders.find((candidate) => candidate.order_id === id));

/** @param {Order} order */
function wordsOf({ report }) {
  if (report.action !== "open") return `${report.action.replace("_", " ")} ${report.symbol}`.trim();
  return `${report.side ?? "open"} ${lots(report.lots)} ${report.symbol}`;
}

/** The title says it already. @param {string} text */
const withoutDone = (text) => (text === "Done." ? "" : text);
