import assert from "node:assert/strict";
import test from "node:test";
import { closeSignal, openSignal } from "../../static/js/messages.js";
import * as selectors from "../../static/js/selectors.js";
import { Store } from "../../static/js/store.js";
import { accepted, account, position, report, snapshot, terminal, view } from "./fixtures.js";

const open = (terminals = ["a"]) => openSignal({ symbol: "EURUSD", side: "buy", lots: 0.1, stopLoss: null, takeProfit: null, terminals });

function filledStore(more = {}) {
  const store = new Store(() => 0);
  store.setSockets("live");
  store.takeOrderMessage(snapshot(more));
  return store;
}

test("a snapshot replaces what was known before", () => {
  const store = filledStore({ positions: [position("a", 1), position("b", 2), position("b", 3)] });
  store.takeOrderMessage(snapshot({ terminals: [terminal("b")], positions: [position("b", 3)], orders: [] }));
  assert.deepEqual([...store.terminals.keys()], ["b"]);
  assert.deepEqual(selectors.openPositions(store).map((item) => item.position_ticket), [3]);
  assert.equal(store.connection, "live");
});

test("an order moves only forward by report_seq, whatever order the messages come in", () => {
  const store = filledStore();
  const signal = open();
  const id = signal.signal_id;
  store.signalSent(signal, 0, 0);
  store.takeOrderMessage({ type: "report", n: 2, cursor: "c:2-0", report: report(id, "a", 1, "INTENT") });
  store.takeOrderMessage({ type: "report", n: 3, cursor: "c:3-0", report: report(id, "a", 2, "FILLED", { filled_lots: 0.1 }) });
  store.takeOrderMessage(accepted(signal, [report(id, "a", 0, "QUEUED")]));
  store.takeOrderMessage({ type: "report", n: 5, cursor: "c:4-0", report: report(id, "a", 1, "INTENT") });
  assert.equal(store.orders.get(`${id}:a`).state, "FILLED");
  assert.equal(store.sent.get(id).state, "ACCEPTED");
  assert.equal(store.cursor, "c:4-0");
});

test("reports that came live are told once each; those of a snapshot are not", () => {
  const store = filledStore();
  const told = [];
  store.reported.subscribe((order) => told.push(order.state));
  store.takeOrderMessage(snapshot({ orders: [view(report("s", "a", 1, "REJECTED"))] }));
  store.takeOrderMessage({ type: "report", n: 2, cursor: "c:2-0", report: report("t", "a", 1, "DENIED") });
  store.takeOrderMessage({ type: "report", n: 3, cursor: "c:3-0", report: report("t", "a", 1, "DENIED") });
  assert.deepEqual(told, ["DENIED"]);
});

test("the click is measured for signals of this page only", () => {
  let now = 100;
  const store = new Store(() => now);
  store.takeOrderMessage(snapshot());
  const signal = open();
  store.signalSent(signal, 0, 100);
  now = 106.5;
  store.takeOrderMessage({ type: "report", n: 2, cursor: "c:2-0", report: report(signal.signal_id, "a", 1, "FILLED") });
  store.takeOrderMessage({ type: "report", n: 3, cursor: "c:3-0", report: report("elsewhere", "a", 1, "FILLED") });
  assert.equal(store.orders.get(`${signal.signal_id}:a`).click_us, 6_500);
  assert.equal(store.orders.get("elsewhere:a").click_us, null);
});

test("a terminal's update keeps what it leaves out, and of an unseen terminal nothing is kept", () => {
  const store = filledStore({ positions: [position("a", 1)] });
  store.takeOrderMessage({ type: "terminal", n: 2, update: { terminal_id: "a", status: "DISCONNECTED", last_error: "lost", time_ms: 5 } });
  assert.equal(store.terminals.get("a").account.currency, "USD");
  assert.equal(store.terminals.get("a").status, "DISCONNECTED");
  assert.equal(selectors.openPositions(store).length, 1);
  store.takeOrderMessage({ type: "terminal", n: 3, update: { terminal_id: "a", status: "READY", positions: [], time_ms: 6 } });
  assert.equal(selectors.openPositions(store).length, 0);
  store.takeOrderMessage({ type: "terminal", n: 4, update: { terminal_id: "hidden", status: "READY", positions: [position("hidden", 9)], time_ms: 7 } });
  assert.equal(store.terminals.has("hidden"), false);
  assert.equal(store.positions.has("hidden"), false);
});

test("the stricter of a terminal's own mode and the global one holds", () => {
  const store = filledStore();
  store.takeOrderMessage({ type: "modes", n: 2, modes: { global: "REDUCING", terminals: { a: "HALTED", b: "ACTIVE" } } });
  assert.equal(store.terminals.get("a").effective_mode, "HALTED");
  assert.equal(store.terminals.get("b").effective_mode, "REDUCING");
  assert.equal(selectors.takesOpens(store.terminals.get("b")), false);
});

test("a lost store shows only while the sockets live, and heals", () => {
  const store = filledStore();
  const seen = [];
  store.connectionChanged.subscribe((state) => seen.push(state));
  store.takeOrderMessage({ type: "status", n: 2, redis: "down" });
  store.takeChartMessage({ type: "status", n: 2, redis: "down" });
  store.takeOrderMessage({ type: "status", n: 3, redis: "up" });
  store.takeChartMessage({ type: "status", n: 3, redis: "up" });
  store.takeOrderMessage({ type: "status", n: 4, redis: "down" });
  store.setSockets("reconnecting");
  store.setSockets("live");
  assert.deepEqual(seen, ["redis-down", "live", "redis-down", "reconnecting", "live"]);
});

test("candles of the chart before are not drawn into this one", () => {
  const store = filledStore();
  const drawn = [];
  store.candlesChanged.subscribe((change) => drawn.push(change));
  store.select("USDJPY", 60);
  const row = [60_000, 1, 2, 0.5, 1.5, 9];
  store.takeChartMessage({ type: "update", n: 1, symbol: "EURUSD", seconds: 60, tick: { time_ms: 1, bid: 1, ask: 1 }, candles: [row] });
  store.takeChartMessage({ type: "update", n: 2, symbol: "USDJPY", seconds: 1, tick: { time_ms: 1, bid: 1, ask: 1 }, candles: [row] });
  store.takeChartMessage({ type: "snapshot", n: 3, symbol: "USDJPY", seconds: 60, candles: [row], forming: [120_000, 1, 1, 1, 1, 1], tick: null });
  assert.equal(drawn.length, 1);
  assert.equal(drawn[0].rows.length, 2);
});

test("an older tick does not replace a newer one", () => {
  const store = filledStore();
  store.takeChartMessage({ type: "ticks", n: 1, ticks: { EURUSD: { time_ms: 20, bid: 2, ask: 2 } } });
  store.takeChartMessage({ type: "ticks", n: 2, ticks: { EURUSD: { time_ms: 10, bid: 1, ask: 1 } } });
  assert.equal(store.ticks.get("EURUSD").bid, 2);
});

test("memory is bounded, and open orders stay", () => {
  const store = filledStore();
  store.takeOrderMessage({ type: "report", n: 2, cursor: "c", report: report("open", "a", 1, "UNKNOWN") });
  for (let n = 0; n < 1_500; n += 1) {
    store.takeOrderMessage({ type: "report", n: n + 3, cursor: "c", report: report(`s${n}`, "a", 1, "FILLED", { time_ms: 2_000 + n }) });
    store.signalSent(open(), 0, 0);
  }
  assert.equal(store.orders.size, 1_000);
  assert.ok(store.orders.has("open:a"));
  assert.ok(store.orders.has("s1499:a"));
});

test("profits of different currencies are not added", () => {
  const store = filledStore({
    terminals: [terminal("a"), terminal("b", { account: account("JPY") })],
    positions: [position("a", 1, { profit: 5, swap: -1 }), position("a", 2, { profit: 1 }), position("b", 3, { profit: -300 })],
  });
  assert.deepEqual(selectors.profitByCurrency(store, selectors.openPositions(store)), [["JPY", -300], ["USD", 5]]);
});

test("a close covers its ticket, its symbol or all, until it is settled", () => {
  const positions = [position("a", 1), position("a", 2, { symbol: "USDJPY" }), position("b", 3)];
  const covered = (what, terminals, after = () => {}) => {
    const store = filledStore({ positions });
    const signal = closeSignal(what, terminals);
    store.signalSent(signal, 0, 0);
    after(store, signal);
    return [...selectors.closingPositions(store)].sort();
  };
  assert.deepEqual(covered({ position_ticket: 2 }, ["a"]), ["a:2"]);
  assert.deepEqual(covered({ symbol: "EURUSD" }, ["a", "b"]), ["a:1", "b:3"]);
  assert.deepEqual(covered({ all: true }, ["a"]), ["a:1", "a:2"]);
  assert.deepEqual(covered({ all: true }, ["a", "b"], (store, signal) => {
    const closes = (id, state) => report(signal.signal_id, id, 1, state, { action: "close" });
    store.takeOrderMessage(accepted(signal, [closes("a", "REJECTED"), closes("b", "INTENT")]));
  }), ["b:3"]);
  assert.deepEqual(covered({ all: true }, ["a"], (store, signal) => store.signalRefused(signal.signal_id, "FORBIDDEN", "no")), []);
});

test("closes of another page cover what their reports name", () => {
  const store = filledStore({ positions: [position("a", 1), position("a", 2)] });
  store.takeOrderMessage({ type: "report", n: 2, cursor: "c", report: report("x", "a", 1, "INTENT", { action: "close", position_tickets: [2] }) });
  assert.deepEqual([...selectors.closingPositions(store)], ["a:2"]);
});

test("who may not trade is told why", () => {
  assert.match(selectors.whyNoTrading(filledStore({ user: { name: "v", role: "viewer", may_trade: false } })), /viewer/);
  assert.match(selectors.whyNoTrading(filledStore({ terminals: [terminal("a", { can_trade: false })] })), /grant/);
  assert.equal(selectors.whyNoTrading(filledStore()), "");
});

test("groups hold the terminals that may be traded on", () => {
  const store = filledStore({ terminals: [terminal("a", { groups: ["x", "y"] }), terminal("b", { groups: ["x"] }), terminal("c", { groups: ["x"], can_trade: false })] });
  assert.deepEqual(selectors.groups(store), [["x", ["a", "b"]], ["y", ["a"]]]);
});

test("listeners are counted, so that a leak shows", () => {
  const store = new Store();
  const before = store.listeners;
  const end = store.ticked.subscribe(() => {});
  assert.equal(store.listeners, before + 1);
  end();
  assert.equal(store.listeners, before);
});

test("a close of all tells the symbol when its positions were of one", () => {
  const store = filledStore({ positions: [position("a", 1), position("a", 2), position("b", 3), position("b", 4, { symbol: "USDJPY" })] });
  const close = (id, tickets) => report("x", id, 1, "FILLED", { action: "close", symbol: "", side: null, filled_lots: 0.2, position_tickets: tickets });
  store.takeOrderMessage({ type: "terminal", n: 2, update: { terminal_id: "a", status: "READY", positions: [], time_ms: 6 } });
  store.takeOrderMessage({ type: "report", n: 3, cursor: "c", report: close("a", [1, 2]) });
  store.takeOrderMessage({ type: "report", n: 4, cursor: "c", report: close("b", [3, 4]) });
  assert.deepEqual([store.orders.get("x:a").report.symbol, store.orders.get("x:a").report.side], ["EURUSD", "sell"]);
  assert.equal(store.orders.get("x:b").report.symbol, "");
});

test("a terminal that says nothing for five seconds is silent until it speaks", () => {
  let now = 0;
  const store = new Store(() => now);
  store.setSockets("live");
  store.takeOrderMessage(snapshot());
  const update = { terminal_id: "a", status: "READY", time_ms: 1 };
  now = 4_000;
  store.takeOrderMessage({ type: "terminal", n: 2, update });
  now = 6_000;
  store.lookForSilence();
  assert.deepEqual([...store.terminals.values()].map(({ stale }) => stale), [false, true]);
  store.takeOrderMessage({ type: "terminal", n: 3, update: { ...update, terminal_id: "b" } });
  assert.equal(store.terminals.get("b").stale, false);
  store.setSockets("reconnecting");
  now = 60_000;
  store.lookForSilence();
  assert.equal(store.terminals.get("a").stale, false, "the page itself hears nothing");
});

test("a close tells the symbol of what an order known to the page had opened", () => {
  const store = filledStore({
    orders: [
      view(report("x", "a", 1, "FILLED", { action: "close", symbol: "", side: null, position_tickets: [7], trace: { accepted: 2_000 } })),
      view(report("o", "a", 1, "FILLED", { symbol: "USDJPY", side: "sell", position_tickets: [7] })),
    ],
  });
  assert.deepEqual([store.orders.get("x:a").report.symbol, store.orders.get("x:a").report.side], ["USDJPY", "buy"]);
});

test("a terminal's alerts come with its update and end with it", () => {
  const store = filledStore();
  const alert = { code: "BREAKER", terminal_id: "a", text: "Opens are held.", time_ms: 5 };
  store.takeOrderMessage({ type: "terminal", n: 2, update: { terminal_id: "a", status: "READY", alerts: [alert], time_ms: 5 } });
  assert.deepEqual(store.terminals.get("a").alerts, [alert]);
  store.takeOrderMessage({ type: "terminal", n: 3, update: { terminal_id: "a", status: "READY", time_ms: 6 } });
  assert.deepEqual(store.terminals.get("a").alerts, [alert], "an update without them changes nothing");
  store.takeOrderMessage({ type: "terminal", n: 4, update: { terminal_id: "a", status: "READY", alerts: [], time_ms: 7 } });
  assert.deepEqual(store.terminals.get("a").alerts, []);
});
