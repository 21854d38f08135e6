// @ts-check
// Tells the server what this page saw of its orders' way, once each, when nothing else is to be sent. Figures only:
// what cannot be sent is forgotten. Follows: the store. Precedes: the order socket.
import { traceMessage } from "./trace.js";

/**
 * @import {ClockOffset} from "./trace.js"
 * @import {Store} from "./store.js"
 */

const MOST_A_SECOND = 20;
const EVERY_MS = 1_000;
const MOST_WAITING = 500;

/**
 * @param {object} parts
 * @param {Store} parts.store
 * @param {ClockOffset} parts.clock
 * @param {(message: object) => boolean} parts.send
 */
export function attachTracing({ store, clock, send }) {
  /** @type {string[]} */
  let waiting = [];
  const stop = store.arrived.subscribe((order) => {
    // clicked before a reload: the page's clock began anew since
    if (order.page && order.page.clicked_ms >= 0 && waiting.length < MOST_WAITING) waiting.push(order.order_id);
  });
  const timer = setInterval(() => {
    const offset = clock.best;
    if (!offset) return;
    for (const id of waiting.splice(0, MOST_A_SECOND)) {
      const page = store.orders.get(id)?.page;
      if (page) send(traceMessage(id, page, offset));
    }
  }, EVERY_MS);
  return () => {
    stop();
    clearInterval(timer);
    waiting = [];
  };
}
