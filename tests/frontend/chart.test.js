// The pure parts of the chart: candles in order, lines that do not overlap.
import assert from "node:assert/strict";
import test from "node:test";
import { CandleRows, MAX_CANDLES } from "../../static/js/chart/candle-rows.js";
import { lineGroups, spreadLabels } from "../../static/js/chart/line-groups.js";

const row = (minute, close = 1) => [minute * 60_000, 1, 2, 0.5, close, 3];
const minutes = (rows) => rows.all.map(([openMs]) => openMs / 60_000);

test("candles come out in order and once, the last word counting", () => {
  const rows = new CandleRows();
  rows.replace([row(3), row(1), row(2, 7), row(2, 8)]);
  assert.deepEqual(minutes(rows), [1, 2, 3]);
  assert.equal(rows.all[1][4], 8);
});

test("an update is the newest, an amendment, a missing one, or too old", () => {
  const rows = new CandleRows();
  rows.replace([row(10), row(11), row(13)]);
  assert.equal(rows.put(row(13, 5)), "newest");
  assert.equal(rows.put(row(14)), "newest");
  assert.equal(rows.put(row(11, 9)), "amended");
  assert.equal(rows.put(row(12)), "inserted");
  assert.equal(rows.put(row(2)), "unknown");
  assert.deepEqual(minutes(rows), [10, 11, 12, 13, 14]);
  assert.equal(rows.at(11 * 60_000)[4], 9);
});

test("a time falls into the candle that opened before it", () => {
  const rows = new CandleRows();
  rows.replace([row(10), row(20)]);
  assert.equal(rows.at(15 * 60_000)[0], 10 * 60_000);
  assert.equal(rows.at(99 * 60_000)[0], 20 * 60_000);
  assert.equal(rows.at(9 * 60_000), null);
});

test("older candles go before, those known are not taken twice", () => {
  const rows = new CandleRows();
  rows.replace([row(10), row(11)]);
  assert.equal(rows.prepend([row(8), row(9), row(10)]), 2);
  assert.deepEqual(minutes(rows), [8, 9, 10, 11]);
  assert.equal(rows.prepend([row(10)]), 0);
});

test("memory is bounded", () => {
  const rows = new CandleRows();
  rows.replace([row(50_000)]);
  const many = Array.from({ length: MAX_CANDLES + 500 }, (_, place) => row(place));
  assert.equal(rows.prepend(many), MAX_CANDLES - 1);
  assert.ok(rows.full);
  assert.equal(rows.prepend([row(-1)]), 0);
});

test("a snapshot after a reconnect keeps older candles when it overlaps, else replaces all", () => {
  const rows = new CandleRows();
  rows.replace([row(1), row(2), row(3)]);
  assert.equal(rows.renew([row(3, 8), row(4)]), true);
  assert.deepEqual(minutes(rows), [1, 2, 3, 4]);
  assert.equal(rows.at(3 * 60_000)[4], 8);
  assert.equal(rows.renew([row(90), row(91)]), false);
  assert.deepEqual(minutes(rows), [90, 91]);
});

const held = (side, price, profit = 1, lots = 0.1, currency = "USD") => ({ side, price, lots, profit, currency });
const toY = (price) => 100 - price;

test("positions near each other become one line at their weighted mean", () => {
  const groups = lineGroups([held("buy", 50, 2, 0.1), held("buy", 52, -1, 0.3, "EUR"), held("buy", 90)], toY, 18);
  assert.deepEqual(groups.map(({ count }) => count), [1, 2]);
  assert.equal(groups[1].price, 51.5);
  assert.ok(Math.abs(groups[1].lots - 0.4) < 1e-9);
  assert.deepEqual(groups[1].profits, [["EUR", -1], ["USD", 2]]);
});

test("buys and sells at one price stay two lines, and what is off the scale is none", () => {
  assert.equal(lineGroups([held("buy", 50), held("sell", 50)], toY, 18).length, 2);
  assert.equal(lineGroups([held("buy", 50)], () => null, 18).length, 0);
});

test("a long chain of near prices does not become one line", () => {
  const chain = Array.from({ length: 10 }, (_, place) => held("buy", 10 + place * 5));
  assert.ok(lineGroups(chain, toY, 18).length >= 3);
});

test("labels do not cover each other", () => {
  assert.deepEqual(spreadLabels([10, 12, 60], 20), [10, 30, 60]);
});
