import assert from "node:assert/strict";
import test from "node:test";
import { openSignal } from "../../static/js/messages.js";
import { Store } from "../../static/js/store.js";
import { ClockOffset, tellsOutcome, traceMessage, waterfall } from "../../static/js/trace.js";
import { accepted, report, snapshot } from "./fixtures.js";

const TRACE = {
  received: 10_003, accepted: 10_004, woken: 10_004, intent: 10_005, sent: 10_006, answered: 10_016,
  accept_us: 900, wake_us: 300, queue_us: 20, rules_us: 150, journal_us: 700, broker_us: 10_000, own_us: 1_200,
};

test("the clock's offset is the one of the quickest of the newest pings", () => {
  const clock = new ClockOffset();
  assert.equal(clock.best, null);
  clock.measure(100, 110, 10_107); // 10 ms there and back: 10_107 is what the page calls 105
  clock.measure(200, 202, 10_201);
  clock.measure(300, 290, 10_000); // cannot be
  clock.measure(300, 301, "soon");
  assert.deepEqual(clock.best, { offset_ms: 10_000, rtt_ms: 2 });
  for (let at = 1_000; at < 1_008; at += 1) clock.measure(at, at + 4, at + 20_002);
  assert.deepEqual(clock.best, { offset_ms: 20_000, rtt_ms: 4 });
});

test("a waterfall's hops follow each other, ours apart from the broker's and the page's", () => {
  const page = { clicked_ms: 0, accepted_ms: 8, reported_ms: 20 };
  const found = waterfall(report("s", "a", 2, "FILLED", { trace: TRACE, woken_by: "udp" }), page, { offset_ms: 10_000, rtt_ms: 1 });
  assert.deepEqual(found.hops.map(({ name, us }) => [name, us]), [
    ["up", 3_000], ["accept", 900], ["wake", 300], ["queue", 20], ["rules", 150], ["journal", 700], ["broker", 10_000], ["back", 4_000],
  ]);
  assert.deepEqual(found.hops.map((hop) => hop.start_us), [0, 3_000, 3_900, 4_200, 4_220, 4_370, 5_070, 15_070]);
  assert.deepEqual([found.own_us, found.broker_us, found.page_us, found.total_us], [2_070, 10_000, 7_000, 20_000]);
  assert.equal(found.by, "datagram");
});

test("of an order of elsewhere the server's part is shown, of one that was not sent nothing of the broker", () => {
  const found = waterfall(report("s", "a", 2, "FILLED", { trace: TRACE }), null, { offset_ms: 0, rtt_ms: 1 });
  assert.deepEqual([found.hops[0].name, found.page_us, found.total_us], ["accept", 0, 12_070]);
  const denied = waterfall(report("s", "a", 1, "DENIED", { trace: { accepted: 1, accept_us: 5, broker_us: 0 } }), null, null);
  assert.deepEqual(denied.hops.map((hop) => hop.name), ["accept"]);
  assert.equal(waterfall(report("s", "a", 0, "QUEUED"), null, null), null);
});

test("only the broker's answer is an outcome", () => {
  assert.equal(tellsOutcome(report("s", "a", 1, "INTENT", { trace: TRACE })), false);
  assert.equal(tellsOutcome(report("s", "a", 1, "DENIED")), false);
  assert.equal(tellsOutcome(report("s", "a", 2, "UNKNOWN", { trace: TRACE })), true);
});

test("the store keeps when an order of this page was clicked, accepted and came, and tells it once", () => {
  let now = 5;
  const store = new Store(() => now);
  store.takeOrderMessage(snapshot());
  /** @type {string[]} */
  const arrived = [];
  store.arrived.subscribe((order) => arrived.push(order.order_id));
  const signal = openSignal({ symbol: "EURUSD", side: "buy", lots: 0.1, stopLoss: null, takeProfit: null, terminals: ["a"] });
  const id = signal.signal_id;
  store.signalSent(signal, 0, 5);
  now = 8;
  store.takeOrderMessage(accepted(signal, [report(id, "a", 0, "QUEUED")]));
  now = 9;
  store.takeOrderMessage({ type: "report", n: 3, cursor: "c:1-0", report: report(id, "a", 1, "INTENT", { trace: TRACE }) });
  now = 12;
  store.takeOrderMessage({ type: "report", n: 4, cursor: "c:2-0", report: report(id, "a", 2, "PARTIAL", { trace: TRACE }) });
  now = 90;
  store.takeOrderMessage({ type: "report", n: 5, cursor: "c:3-0", report: report(id, "a", 3, "FILLED", { trace: TRACE }) });
  store.takeOrderMessage({ type: "report", n: 6, cursor: "c:4-0", report: report("elsewhere", "a", 3, "FILLED", { trace: TRACE }) });
  const page = { clicked_ms: 5, accepted_ms: 8, reported_ms: 12 };
  assert.deepEqual(store.orders.get(`${id}:a`).page, page);
  assert.deepEqual(arrived, [`${id}:a`]);
  assert.deepEqual(traceMessage(`${id}:a`, page, { offset_ms: 1, rtt_ms: 2 }), {
    type: "trace", order_id: `${id}:a`, clicked_ms: 5, accepted_ms: 8, reported_ms: 12, offset_ms: 1, rtt_ms: 2,
  });
});
