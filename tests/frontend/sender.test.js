// A signal is never forgotten before it is answered, and never sent under another id.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openSignal } from "../../static/js/messages.js";
import { Sender, silenceMs } from "../../static/js/sender.js";
import { Store } from "../../static/js/store.js";
import { accepted, report, snapshot } from "./fixtures.js";

const open = () => openSignal({ symbol: "EURUSD", side: "buy", lots: 0.1, stopLoss: null, takeProfit: null, terminals: ["a"] });
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A tab: its storage outlives pages, its clock goes on. */
function tab() {
  const kept = new Map();
  return { storage: { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) }, ms: 1_000_000, kept };
}

function pageIn(where, user = "tina") {
  const page = { live: true, sent: [], posted: [], answer: null };
  const store = new Store();
  store.takeOrderMessage(snapshot({ user: { name: user, role: "trader", may_trade: true } }));
  const sender = new Sender({
    store,
    send: (message) => page.live && page.sent.push(message) > 0,
    post: async (signal, as) => (page.posted.push({ ...signal, as }), page.answer),
    storage: where.storage,
    now: () => where.ms,
    random: () => 0.5,
  });
  sender.restore();
  sender.sendAgain();
  return Object.assign(page, { store, sender });
}

test("a signal goes once over the socket and is forgotten when it is accepted", () => {
  const where = tab();
  const page = pageIn(where);
  const signal = open();
  assert.ok(page.sender.place(signal));
  assert.equal(page.store.sent.get(signal.signal_id).state, "SENDING");
  assert.equal(page.sent.length, 1);
  assert.equal(page.sent[0].signal.age_ms, 0);
  page.sender.accepted(signal.signal_id);
  page.sender.sendAgain();
  assert.equal(page.sent.length, 1);
  assert.equal(where.kept.get("tradedist.unanswered"), "[]");
});

test("after a reconnect it goes again: same id, grown age", () => {
  const where = tab();
  const page = pageIn(where);
  const signal = open();
  page.sender.place(signal);
  where.ms += 2_500;
  page.sender.sendAgain();
  const [first, second] = page.sent.map((message) => message.signal);
  assert.deepEqual({ ...second, age_ms: 0 }, first);
  assert.equal(second.age_ms, 2_500);
  assert.notEqual(page.sent[0].request_id, page.sent[1].request_id);
});

test("a reload does not lose it", () => {
  const where = tab();
  const signal = open();
  pageIn(where).sender.place(signal);
  where.ms += 4_000;
  const reloaded = pageIn(where);
  assert.equal(reloaded.store.sent.get(signal.signal_id).state, "SENDING");
  assert.equal(reloaded.sent[0].signal.signal_id, signal.signal_id);
  assert.equal(reloaded.sent[0].signal.age_ms, 4_000);
});

test("another user in the same tab neither sends it nor throws it away", () => {
  const where = tab();
  const signal = open();
  pageIn(where).sender.place(signal);
  const other = pageIn(where, "otto");
  other.sender.sendAgain();
  other.sender.place(open());
  assert.equal(other.sent.filter((message) => message.signal.signal_id === signal.signal_id).length, 0);
  assert.equal(pageIn(where).sender.waiting, 1);
});

test("who signs in over the same page does not send it", async () => {
  const page = pageIn(tab());
  page.live = false;
  const signal = open();
  page.sender.place(signal);
  await settle();
  assert.equal(page.posted[0].as, "tina");
  page.live = true;
  page.store.takeOrderMessage(snapshot({ user: { name: "otto", role: "trader", may_trade: true } }));
  page.sender.sendAgain();
  assert.equal(page.sent.length, 0);
});

test("nothing goes over a connection of which the user is not known yet", async () => {
  const page = pageIn(tab());
  page.sender.distrust();
  page.sender.place(open());
  await settle();
  assert.equal(page.sent.length, 0);
  assert.equal(page.posted.length, 1, "REST asks whose session it is");
  page.sender.sendAgain();
  assert.equal(page.sent.length, 1);
});

test("a refusal ends it with its reason; an unknown acceptance does not", () => {
  const page = pageIn(tab());
  const signal = open();
  page.sender.place(signal);
  page.sender.refused(signal.signal_id, "ACCEPT_UNKNOWN", "send again");
  assert.equal(page.store.sent.get(signal.signal_id).state, "SENDING");
  assert.equal(page.sender.waiting, 1);
  page.sender.refused(signal.signal_id, "TOO_OLD", "older than its ttl");
  assert.deepEqual(
    (({ state, code, message }) => [state, code, message])(page.store.sent.get(signal.signal_id)),
    ["REFUSED", "TOO_OLD", "older than its ttl"],
  );
  assert.equal(page.sender.waiting, 0);
});

test("while the socket is away it goes by REST, and the answer counts", async () => {
  const page = pageIn(tab());
  page.live = false;
  const signal = open();
  page.answer = { status: 202, body: accepted(signal, [report(signal.signal_id, "a", 0, "QUEUED")]).signal };
  page.sender.place(signal);
  await settle();
  assert.equal(page.posted[0].signal_id, signal.signal_id);
  assert.equal(page.store.orders.get(`${signal.signal_id}:a`).state, "QUEUED");
  assert.equal(page.sender.waiting, 0);
});

test("REST's refusals count like the socket's", async () => {
  const cases = [
    [{ status: 403, body: { code: "FORBIDDEN", message: "no" } }, "REFUSED", 0],
    [{ status: 503, body: { code: "UNAVAILABLE", message: "later" } }, "SENDING", 1],
    [{ status: 503, body: { code: "STORE_FULL", message: "later" } }, "SENDING", 1],
    [{ status: 401, body: { code: "NOT_SIGNED_IN", message: "sign in" } }, "SENDING", 1],
    [{ status: 403, body: { code: "NOT_SIGNED_IN", message: "reload" } }, "SENDING", 1],
    [{ status: 502, body: null }, "SENDING", 1],
    [null, "SENDING", 1],
  ];
  for (const [answer, state, waiting] of cases) {
    const page = pageIn(tab());
    page.live = false;
    page.answer = answer;
    const signal = open();
    page.sender.place(signal);
    await settle();
    assert.equal(page.store.sent.get(signal.signal_id).state, state, JSON.stringify(answer));
    assert.equal(page.sender.waiting, waiting, JSON.stringify(answer));
  }
});

/** Lets seconds pass in a page that is started. */
function wait(context, where, seconds) {
  for (let look = 0; look < seconds * 2; look += 1) {
    where.ms += 500;
    context.mock.timers.tick(500);
  }
}

test("silence brings it out again, but not sooner than after three seconds, and ever more rarely", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const where = tab();
  const page = pageIn(where);
  page.sender.start();
  page.sender.place(open());
  wait(context, where, 2.5);
  assert.equal(page.sent.length, 1);
  wait(context, where, 600);
  page.sender.stop();
  const ages = page.sent.map((message) => message.signal.age_ms);
  const gaps = ages.slice(1).map((age, place) => age - ages[place]);
  assert.deepEqual(gaps.slice(0, 4), [4_000, 7_500, 15_000, 25_000]);
  assert.deepEqual(new Set(gaps.slice(3)), new Set([25_000]), "bounded: it never stops asking");
});

test("a new connection does not wait for the silence to end, and begins anew", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const where = tab();
  const page = pageIn(where);
  page.sender.start();
  page.sender.place(open());
  wait(context, where, 60);
  const before = page.sent.length;
  page.sender.sendAgain();
  assert.equal(page.sent.length, before + 1);
  wait(context, where, 8);
  page.sender.stop();
  assert.equal(page.sent.length, before + 2);
});

test("pages that lost their server together do not come back together", () => {
  for (let tries = 1; tries < 40; tries += 1) {
    const [least, most] = [silenceMs(tries, 0), silenceMs(tries, 1)];
    assert.ok(least >= 3_000 && most >= 1.4 * least && most <= 30_000, `${tries}: ${least} to ${most}`);
  }
});

test("too many signals ends a first send, but not one of which an earlier send may be recorded", () => {
  const page = pageIn(tab());
  const [first, again] = [open(), open()];
  page.sender.place(first);
  page.sender.refused(first.signal_id, "RATE_LIMITED", "wait");
  assert.equal(page.store.sent.get(first.signal_id).state, "REFUSED");
  page.sender.place(again);
  page.sender.sendAgain();
  page.sender.refused(again.signal_id, "RATE_LIMITED", "wait");
  assert.equal(page.store.sent.get(again.signal_id).state, "SENDING");
  assert.equal(page.sender.waiting, 1);
});

test("after a day without an answer it ends here, since no server takes it any more", () => {
  const where = tab();
  const page = pageIn(where);
  const signal = open();
  page.sender.place(signal);
  where.ms += 86_400_001;
  page.sender.sendAgain();
  assert.equal(page.store.sent.get(signal.signal_id).code, "TOO_OLD");
  assert.equal(page.sent.length, 1);
});

test("what waits is bounded", () => {
  const page = pageIn(tab());
  const placed = Array.from({ length: 101 }, () => page.sender.place(open()));
  assert.equal(placed.filter(Boolean).length, 100);
});

test("a storage that is full or spoilt does not stop an order", () => {
  const where = tab();
  where.kept.set("tradedist.unanswered", "{not json");
  where.storage.setItem = () => {
    throw new Error("quota");
  };
  const warned = console.warn;
  console.warn = () => {};
  try {
    const page = pageIn(where);
    assert.ok(page.sender.place(open()));
    assert.equal(page.sent.length, 1);
  } finally {
    console.warn = warned;
  }
});
