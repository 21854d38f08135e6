import assert from "node:assert/strict";
import test from "node:test";
import { cancelSignal, modifySignal, openSignal } from "../../static/js/messages.js";
import { attachNotices } from "../../static/js/panels/notices.js";
import { Store } from "../../static/js/store.js";
import { accepted, report, snapshot, terminal } from "./fixtures.js";

function watched(more = {}) {
  const store = new Store(() => 0);
  store.takeOrderMessage(snapshot(more));
  /** @type {{tone: string | undefined, title: string, code?: string, text: string}[]} */
  const said = [];
  attachNotices(store, (toast) => said.push(/** @type {any} */ (toast)));
  let n = 2;
  /** @param {object} made */
  const tell = (made) => store.takeOrderMessage({ type: "report", n: (n += 1), cursor: `c:${n}-0`, report: /** @type {any} */ (made) });
  return { store, said, tell };
}

const open = () => openSignal({ symbol: "EURUSD", side: "buy", lots: 0.1, stopLoss: null, takeProfit: null, terminals: ["a"], orderType: "limit", price: 1 });

test("a pending order of this page is told when it waits, and neutrally when it was cancelled", () => {
  const { store, said, tell } = watched();
  const signal = open();
  store.signalSent(signal, 0, 0);
  store.takeOrderMessage(accepted(signal, [report(signal.signal_id, "a", 0, "QUEUED")]));
  tell(report(signal.signal_id, "a", 1, "PLACED"));
  tell(report(signal.signal_id, "a", 2, "CANCELLED", { code: "PENDING_CANCELLED", message: "It was cancelled." }));
  assert.deepEqual(said.map(({ tone, title }) => [tone, title]), [
    ["good", "Placed: buy 0.10 EURUSD on 1 terminal"], [undefined, "Cancelled: buy 0.10 EURUSD on A"],
  ]);
});

test("changes say what was done, and refusals why", () => {
  const { store, said, tell } = watched();
  for (const [signal, action] of /** @type {const} */ ([[modifySignal({ position_ticket: 1, stop_loss: 1 }, "a"), "modify"], [cancelSignal({ all: true }, ["a"]), "cancel"]])) {
    store.signalSent(signal, 0, 0);
    tell(report(signal.signal_id, "a", 1, "DONE", { action, symbol: "", side: null, message: "Done." }));
  }
  tell(report("elsewhere", "a", 1, "REJECTED", { action: "modify", symbol: "EURUSD", side: null, code: "BROKER_REFUSED", message: "Invalid stops." }));
  assert.deepEqual(said.map(({ title, text }) => [title, text]), [["Changed", ""], ["Cancelled", ""], ["Rejected: modify EURUSD on A", "Invalid stops."]]);
});

test("an order that was settled by hand is told with the words of who did", () => {
  const { said, tell } = watched();
  tell(report("s", "a", 3, "MANUAL", { code: "SETTLED_BY_HAND", message: "Settled by hand by ann: it was not executed." }));
  assert.deepEqual(said.map(({ tone, title, code }) => [tone, title, code]), [["warn", "Settled by hand: buy 0.10 EURUSD on A", "SETTLED_BY_HAND"]]);
});

test("drift is told when it is new, not when the page opens", () => {
  const event = (/** @type {number} */ at) => ({ code: "STOPS_CHANGED", message: `at ${at}`, symbol: "EURUSD", ticket: 1, time_ms: at });
  const { store, said } = watched({ terminals: [terminal("a", { drift: { counts: { STOPS_CHANGED: 1 }, events: [event(5)] } }), terminal("b", { drift: null })] });
  /** @param {string} id @param {number[]} times */
  const update = (id, times) => store.takeOrderMessage({
    type: "terminal", n: 9, update: { terminal_id: id, status: "READY", time_ms: 1, drift: { counts: {}, events: times.map(event) } },
  });
  update("a", [5]);
  update("a", [7, 6, 5]);
  update("a", [7, 6, 5]);
  update("b", [3]); // its log was not known: what is in it may be old
  update("b", [4, 3]);
  assert.deepEqual(said.map(({ text }) => text), ["at 6", "at 7", "at 4"]);
});
