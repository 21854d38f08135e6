import assert from "node:assert/strict";
import test from "node:test";
import { checkTicket, distances, sendLabel, stepped } from "../../static/js/ticket-rules.js";

const info = { symbol: "EURUSD", description: "", digits: 5, point: 0.00001, volume_min: 0.01, volume_max: 100, volume_step: 0.01 };
const tick = { time_ms: 0, bid: 1.1, ask: 1.1001 };
const typed = (more = {}) => ({ side: "buy", lots: "0.10", stopLoss: "", takeProfit: "", terminals: ["a"], ...more });

test("a whole order has no problem", () => {
  assert.deepEqual(checkTicket(typed({ stopLoss: "1.09", takeProfit: "1.12" }), info, tick), {
    problem: "", field: "", lots: 0.1, price: null, limitPrice: null, stopLoss: 1.09, takeProfit: 1.12, trailing: null, breakEven: null,
  });
});

test("each mistake is named at its field", () => {
  const cases = [
    [{ lots: "" }, "lots"], [{ lots: "0" }, "lots"], [{ lots: "many" }, "lots"], [{ lots: "0.123456789" }, "lots"],
    [{ stopLoss: "x" }, "sl"], [{ stopLoss: "0" }, "sl"], [{ takeProfit: "1.123456" }, "tp"],
    [{ stopLoss: "1.2" }, "sl"], [{ takeProfit: "1.0" }, "tp"],
    [{ side: "sell", stopLoss: "1.0" }, "sl"], [{ side: "sell", takeProfit: "1.2" }, "tp"],
    [{ terminals: [] }, ""],
  ];
  for (const [more, field] of cases) {
    const checked = checkTicket(typed(more), info, tick);
    assert.equal(checked.field, field, JSON.stringify(more));
    assert.notEqual(checked.problem, "", JSON.stringify(more));
  }
});

test("a stop loss is compared with the price at which the position would close", () => {
  assert.equal(checkTicket(typed({ stopLoss: "1.09999" }), info, tick).problem, "");
  assert.match(checkTicket(typed({ stopLoss: "1.10005" }), info, tick).problem, /below 1\.10000/);
  assert.equal(checkTicket(typed({ side: "sell", stopLoss: "1.10011" }), info, tick).problem, "");
});

test("without a side or a price nothing is held against the numbers", () => {
  assert.equal(checkTicket(typed({ side: null, stopLoss: "9" }), info, tick).problem, "");
  assert.equal(checkTicket(typed({ stopLoss: "9" }), info, undefined).problem, "");
});

test("distances are points from where the position would close", () => {
  const checked = checkTicket(typed({ stopLoss: "1.09900", takeProfit: "1.10200" }), info, tick);
  assert.equal(distances(checked, "buy", info, tick), "SL 100 points · TP 200 points");
  assert.equal(distances(checkTicket(typed(), info, tick), "buy", info, tick), "");
});

test("the button says what it will do", () => {
  assert.equal(sendLabel("sell", 0.5, "EURUSD", 3), "Sell 0.50 EURUSD on 3 terminals");
  assert.equal(sendLabel("buy", NaN, "EURUSD", 1), "Buy EURUSD on 1 terminal");
  assert.equal(sendLabel(null, 1, "EURUSD", 1), "Choose sell or buy");
});

test("steps stay on their grid and above the least", () => {
  assert.equal(stepped(0.1, 0.01, 1, 0.01), 0.11);
  assert.equal(stepped(0.014, 0.01, 1, 0.01), 0.02);
  assert.equal(stepped(0.01, 0.01, -1, 0.01), 0.01);
  assert.equal(stepped(null, 0.01, 1, 0.01), 0.02);
  assert.equal(stepped(1.1, 0.0001, -1, 0.00001), 1.0999);
});
