// The connection that comes back by itself, against a socket that the test moves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ReliableSocket, backoffMs } from "../../static/js/socket.js";

class FakeSocket {
  sent = [];
  closed = false;
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }
  receive(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  end(code = 1006) {
    this.closed = true;
    this.onclose?.({ code });
  }
}

function started(context) {
  context.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const made = [];
  let cursor = "";
  const socket = new ReliableSocket({
    kind: "orders",
    address: () => `ws://x/?cursor=${cursor}`,
    make: (address) => (made.push(Object.assign(new FakeSocket(), { address })), made.at(-1)),
    random: () => 0,
  });
  const seen = { states: [], messages: [], closes: [] };
  socket.states.subscribe((state) => seen.states.push(state));
  socket.messages.subscribe((message) => seen.messages.push(message.n));
  socket.closes.subscribe((code) => seen.closes.push(code));
  socket.start();
  return { socket, made, ...seen, tick: (ms) => context.mock.timers.tick(ms), setCursor: (text) => (cursor = text) };
}

const modes = (n) => ({ type: "modes", n, modes: { global: "ACTIVE", terminals: {} } });

test("the wait begins at 50–250 ms, doubles and ends at 5 s", () => {
  assert.equal(backoffMs(0, 0), 50);
  assert.equal(backoffMs(0, 1), 250);
  assert.equal(backoffMs(3, 0.5), 1_200);
  assert.equal(backoffMs(7, 0), 5_000);
  assert.equal(backoffMs(10_000, 1), 5_000);
});

test("it lives with the first message, not with the handshake", (context) => {
  const { socket, made, states } = started(context);
  assert.equal(socket.send({ type: "x" }), false);
  made[0].receive(modes(1));
  assert.deepEqual(states, ["live"]);
  assert.equal(made[0].sent[0].type, "ping");
  assert.ok(socket.send({ type: "x" }));
});

test("after a close it connects again with what the address says then", (context) => {
  const { made, states, closes, tick, setCursor } = started(context);
  made[0].receive(modes(1));
  setCursor("e:5-0");
  made[0].end(1012);
  assert.deepEqual(closes, [1012]);
  tick(49);
  assert.equal(made.length, 1);
  tick(1);
  assert.equal(made[1].address, "ws://x/?cursor=e:5-0");
  made[1].receive(modes(1));
  assert.deepEqual(states, ["live", "reconnecting", "live"]);
});

test("failures in a row wait longer, an answered ping ends the row", (context) => {
  const { made, tick } = started(context);
  made[0].end();
  tick(50);
  made[1].end();
  tick(99);
  assert.equal(made.length, 2);
  tick(1);
  assert.equal(made.length, 3);
  made[2].receive(modes(1));
  made[2].receive({ type: "pong", n: 2, at: 0 });
  made[2].end();
  tick(50);
  assert.equal(made.length, 4);
});

test("a gap in the numbers, or what is no message, brings a new connection and is not told on", (context) => {
  const { made, messages, tick } = started(context);
  const warned = console.warn;
  console.warn = () => {};
  try {
    made[0].receive(modes(1));
    made[0].receive(modes(3));
    assert.ok(made[0].closed);
    tick(50);
    made[1].receive(modes(1));
    made[1].onmessage({ data: "{" });
    assert.ok(made[1].closed);
    tick(100);
    assert.equal(made.length, 3);
  } finally {
    console.warn = warned;
  }
  assert.deepEqual(messages, [1, 1]);
});

test("a server that turns the connection away does not make it live", (context) => {
  const { made, states, closes } = started(context);
  made[0].receive({ type: "error", n: 1, code: "NOT_SIGNED_IN", message: "Sign in." });
  made[0].end(4401);
  assert.deepEqual(states, ["reconnecting"]);
  assert.deepEqual(closes, [4401]);
});

test("hurry connects at once instead of at the end of the wait, once", (context) => {
  const { socket, made, tick } = started(context);
  made[0].end();
  socket.hurry();
  socket.hurry();
  assert.equal(made.length, 2);
  tick(10_000);
  assert.equal(made.filter((one) => !one.closed).length, 1);
});

test("stop is the end", (context) => {
  const { socket, made, tick } = started(context);
  made[0].end();
  socket.stop();
  tick(20_000);
  assert.equal(made.length, 1);
  assert.equal(socket.state, "stopped");
});
