import assert from "node:assert/strict";
import test from "node:test";
import * as format from "../../static/js/format.js";

test("a price splits into the parts that a ticket shows", () => {
  assert.deepEqual(format.splitPrice(1.08512, 5), { head: "1.08", pips: "51", point: "2" });
  assert.deepEqual(format.splitPrice(151.483, 3), { head: "151.", pips: "48", point: "3" });
  assert.deepEqual(format.splitPrice(67210.5, 2), { head: "67210.", pips: "50", point: "" });
  assert.deepEqual(format.splitPrice(39021, 0), { head: "", pips: "39021", point: "" });
  assert.deepEqual(format.splitPrice(undefined, 5), { head: "", pips: "–", point: "" });
});

test("steps tell how many digits are shown", () => {
  assert.equal(format.digitsOf(0.01), 2);
  assert.equal(format.digitsOf(1), 0);
  assert.equal(format.digitsOf(1e-7), 7);
  assert.equal(format.digitsOf(2.5e-7), 8);
  assert.equal(format.digitsOf(0), 0);
  assert.equal(format.lots(0.1), "0.10");
  assert.equal(format.lots(0.125), "0.125");
  assert.equal(format.lots(0.1 + 0.2), "0.30", "binary remainders are not shown");
});

test("gains have a sign and losses a true minus; nothing is never negative", () => {
  assert.equal(format.signed(1234.5), "+1,234.50");
  assert.equal(format.signed(-4), "−4.00");
  assert.equal(format.signed(-0.001), "0.00");
  assert.equal(format.signed(0.001), "0.00");
  assert.equal(format.signed(null), "–");
  assert.equal(format.tone(0.004), "");
  assert.equal(format.tone(-1), "down");
});

test("durations choose their unit", () => {
  assert.equal(format.micros(649), "649 µs");
  assert.equal(format.micros(2_400), "2.4 ms");
  assert.equal(format.micros(59_000), "59 ms");
  assert.equal(format.micros(12_345_678), "12.3 s");
  assert.equal(format.micros(null), "–");
});

test("times are UTC, with the day when it is another", () => {
  const noon = Date.UTC(2024, 4, 17, 12, 0, 5);
  assert.equal(format.clock(noon), "12:00:05");
  assert.equal(format.moment(noon, noon + 3_600_000), "12:00:05");
  assert.equal(format.moment(noon, noon + 86_400_000), "05-17 12:00");
});

test("typed numbers: both decimal signs, nothing else", () => {
  assert.equal(format.typedNumber("0,5"), 0.5);
  assert.equal(format.typedNumber(" .5 "), 0.5);
  assert.equal(format.typedNumber("2."), 2);
  assert.equal(format.typedNumber(""), null);
  for (const text of ["1e3", "-1", "1.2.3", "0x10", "ten", "1 000"]) assert.ok(Number.isNaN(format.typedNumber(text)), text);
});

test("words", () => {
  assert.equal(format.count(1, "terminal"), "1 terminal");
  assert.equal(format.count(0, "terminal"), "0 terminals");
  assert.equal(format.stateName("NOT_EXECUTED"), "Not executed");
  assert.equal(format.timeframe(14_400), "4h");
  assert.equal(format.timeframe(1), "1s");
  assert.equal(format.percent(0), "–");
  assert.equal(format.percent(2716.9), "2716.9 %");
});
