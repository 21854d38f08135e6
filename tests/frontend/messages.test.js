import assert from "node:assert/strict";
import test from "node:test";
import * as messages from "../../static/js/messages.js";

const V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("a message of the contract is read", () => {
  const message = messages.readMessage('{"type":"report","n":4,"cursor":"a:1-0","report":{"state":"FILLED"}}', "orders");
  assert.equal(message.n, 4);
});

test("a type that the page does not know is left alone, so that a server may say more", () => {
  assert.equal(messages.readMessage('{"type":"weather","n":1}', "chart").type, "weather");
});

test("what breaks the contract is no message", () => {
  for (const text of [
    "", "{", "[]", "null", "3", '{"type":"pong","at":1}', '{"n":1}', '{"type":"pong","n":1.5,"at":1}',
    '{"type":"report","n":1,"cursor":"a"}', '{"type":"snapshot","n":1,"cursor":"a","user":{},"modes":{},"terminals":{}}',
    '{"type":"terminal","n":1,"update":null}',
  ]) {
    assert.throws(() => messages.readMessage(text, "orders"), messages.MessageError, text);
  }
});

test("the two sockets have snapshots of their own", () => {
  const chart = '{"type":"snapshot","n":1,"symbol":"EURUSD","seconds":60,"candles":[]}';
  assert.equal(messages.readMessage(chart, "chart").seconds, 60);
  assert.throws(() => messages.readMessage(chart, "orders"), messages.MessageError);
});

test("an order without stop loss or take profit does not name them", () => {
  const wish = { symbol: "EURUSD", side: "buy", lots: 0.1, stopLoss: null, takeProfit: 1.2, terminals: ["a", "b"] };
  const signal = messages.openSignal(wish);
  assert.match(signal.signal_id, V4);
  assert.deepEqual({ ...signal, signal_id: "" }, {
    signal_id: "", action: "open", symbol: "EURUSD", side: "buy", order_type: "market", lots: 0.1, take_profit: 1.2,
    targets: { terminals: ["a", "b"] },
  });
});

test("a close names exactly one way", () => {
  assert.deepEqual(Object.keys(messages.closeSignal({ all: true }, ["a"])), ["signal_id", "action", "targets", "all"]);
  assert.equal(messages.closeSignal({ position_ticket: 7 }, ["a"]).position_ticket, 7);
});

test("only the age differs between two sends of a signal", () => {
  const signal = messages.closeSignal({ symbol: "EURUSD" }, ["a"]);
  const first = messages.sendSignal(signal, "r1", 0);
  const second = messages.sendSignal(signal, "r2", 1234.6);
  assert.deepEqual({ ...first.signal, age_ms: 0 }, { ...second.signal, age_ms: 0 });
  assert.equal(second.signal.age_ms, 1235);
  assert.equal(messages.aged(signal, -5).age_ms, 0, "a clock that went back makes nothing younger than new");
});

test("identifiers are UUIDs without a secure context, and differ", () => {
  assert.match(messages.uuid(), V4);
  assert.equal(messages.uuid((bytes) => bytes.fill(255)), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  assert.equal(new Set(Array.from({ length: 1_000 }, () => messages.uuid())).size, 1_000);
});
