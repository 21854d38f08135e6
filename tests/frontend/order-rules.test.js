import assert from "node:assert/strict";
import test from "node:test";
import { checkProtection, entryProblem, expiresMs, levelProblem, typedPoints } from "../../static/js/order-rules.js";
import { cancelSignal, closeBySignal, closeSignal, modifySignal, openSignal, protectSignal } from "../../static/js/messages.js";
import { checkTicket, distances, sendLabel } from "../../static/js/ticket-rules.js";

const info = { symbol: "EURUSD", description: "", digits: 5, point: 0.00001, volume_min: 0.01, volume_max: 100, volume_step: 0.01 };
const tick = { time_ms: 0, bid: 1.1, ask: 1.1001 };
const NONE = { trailing: "", step: "", trigger: "", offset: "" };

test("a pending order's price lies on its side of the market", () => {
  /** @param {any} orderType @param {any} side @param {number | null} price @param {number | null} [limitPrice] */
  const at = (orderType, side, price, limitPrice = null) => entryProblem({ orderType, side, price, limitPrice }, info, tick)?.field ?? "";
  assert.equal(at("market", "buy", null), "");
  assert.deepEqual([at("limit", "buy", 1.1), at("limit", "buy", 1.1001), at("limit", "buy", null)], ["", "price", "price"]);
  assert.deepEqual([at("limit", "sell", 1.1001), at("limit", "sell", 1.1)], ["", "price"]);
  assert.deepEqual([at("stop", "buy", 1.1002), at("stop", "buy", 1.1)], ["", "price"]);
  assert.deepEqual([at("stop", "sell", 1.0999), at("stop", "sell", 1.1)], ["", "price"]);
  assert.deepEqual([at("stop_limit", "buy", 1.12), at("stop_limit", "buy", 1.12, 1.13), at("stop_limit", "buy", 1.12, 1.11)], ["limit", "limit", ""]);
  assert.deepEqual([at("stop_limit", "sell", 1.08, 1.07), at("stop_limit", "sell", 1.08, 1.09)], ["limit", ""]);
  assert.equal(entryProblem({ orderType: "limit", side: "buy", price: 2, limitPrice: null }, info, undefined), null);
});

test("levels are named with where they must lie", () => {
  assert.equal(levelProblem("buy", "sl", 1.09, 1.1, info), "");
  assert.match(levelProblem("buy", "tp", 1.09, 1.1, info), /take profit of a buy lies above 1\.10000/);
  assert.match(levelProblem("sell", "sl", 1.09, 1.1, info), /stop loss of a sell lies above/);
});

test("protections are typed in points and sent in units of the price", () => {
  assert.deepEqual(typedPoints("250", "distance", info), { value: 0.0025, problem: "" });
  assert.deepEqual(checkProtection({ trailing: "200", step: "10", trigger: "150", offset: "20" }, info), {
    trailing: { distance: 0.002, step: 0.0001 }, breakEven: { trigger: 0.0015, offset: 0.0002 }, field: "", problem: "",
  });
  assert.deepEqual(checkProtection(NONE, info), { trailing: null, breakEven: null, field: "", problem: "" });
  const cases = [
    [{ trailing: "0" }, "trailing"], [{ trailing: "1.5" }, "trailing"], [{ step: "5" }, "trailing"], [{ trailing: "9", step: "x" }, "step"],
    [{ trigger: "0" }, "trigger"], [{ offset: "5" }, "trigger"], [{ trigger: "5", offset: "5" }, "offset"],
  ];
  for (const [more, field] of cases) {
    const checked = checkProtection({ ...NONE, ...more }, info);
    assert.equal(checked.field, field, JSON.stringify(more));
    assert.notEqual(checked.problem, "");
  }
});

test("the ticket checks a pending order with its levels, at the field", () => {
  const typed = (more = {}) => ({
    side: "buy", lots: "0.10", stopLoss: "", takeProfit: "", terminals: ["a"], orderType: "limit", price: "1.09", limitPrice: "", protection: NONE, ...more,
  });
  const whole = checkTicket(typed({ stopLoss: "1.08", takeProfit: "1.095", protection: { ...NONE, trailing: "100" } }), info, tick);
  assert.deepEqual([whole.problem, whole.price, whole.trailing], ["", 1.09, { distance: 0.001 }]);
  assert.equal(distances(whole, "buy", info, tick), "SL 1000 points · TP 500 points");
  for (const [more, field] of [
    [{ price: "" }, "price"], [{ price: "x" }, "price"], [{ price: "1.2" }, "price"], [{ stopLoss: "1.095" }, "sl"], [{ takeProfit: "1.08" }, "tp"],
    [{ orderType: "stop_limit", price: "1.12", limitPrice: "" }, "limit"], [{ protection: { ...NONE, trigger: "0" } }, "trigger"],
  ]) {
    assert.equal(checkTicket(typed(more), info, tick).field, field, JSON.stringify(more));
  }
  assert.equal(checkTicket(typed({ orderType: "market", price: "9" }), info, tick).price, null);
  assert.equal(sendLabel("buy", 0.1, "EURUSD", 2, "stop_limit"), "Buy stop limit 0.10 EURUSD on 2 terminals");
});

test("an order expires so much after now, or not at all", () => {
  assert.equal(expiresMs("none", 5), null);
  assert.equal(expiresMs("60", 5), 3_600_005);
  assert.equal(expiresMs("strange", 5), null);
});

test("signals carry what was wished and nothing else", () => {
  /** @param {object} signal */
  const body = (signal) => Object.fromEntries(Object.entries(signal).filter(([name]) => name !== "signal_id"));
  const targets = { terminals: ["a"] };
  assert.deepEqual(
    body(openSignal({ symbol: "EURUSD", side: "buy", lots: 1, stopLoss: null, takeProfit: null, terminals: ["a"], orderType: "limit", price: 1.09, expiresMs: 7 })),
    { action: "open", symbol: "EURUSD", side: "buy", order_type: "limit", lots: 1, targets, price: 1.09, expires_ms: 7 },
  );
  assert.deepEqual(body(modifySignal({ position_ticket: 1, stop_loss: 0 }, "a")), { action: "modify", targets, position_ticket: 1, stop_loss: 0 });
  assert.deepEqual(body(closeSignal({ position_ticket: 1, fraction: 0.5 }, ["a"])), { action: "close", targets, position_ticket: 1, fraction: 0.5 });
  assert.deepEqual(body(cancelSignal({ all: true }, ["a"])), { action: "cancel", targets, all: true });
  assert.deepEqual(body(closeBySignal(1, 2, "a")), { action: "close_by", targets, position_ticket: 1, by_position_ticket: 2 });
  assert.deepEqual(body(protectSignal(1, { trailing: null, break_even: { trigger: 1 } }, "a")), {
    action: "protect", targets, position_ticket: 1, trailing: null, break_even: { trigger: 1 },
  });
});
