// @ts-check
// One WebSocket that comes back by itself: numbered messages checked for gaps, pings, and a bounded wait before each
// new try. Precedes: store and sender read `messages`. It knows nothing of what the messages mean, and no DOM.
import { Delegate } from "./delegate.js";
import { MessageError, ping, readMessage } from "./messages.js";
import { ClockOffset } from "./trace.js";

export const NOT_SIGNED_IN = 4401;
const TURNED_AWAY = new Set(["NOT_SIGNED_IN", "RATE_LIMITED"]); // errors after which the server closes
const PING_MS = 2_000;
const SILENCE_MS = 6_000; // a ping unanswered for so long: the connection is dead, though nothing said so
const LONGEST_WAIT_MS = 5_000;

/**
 * The wait before a try: 50–250 ms at first, doubled with each failure, at most 5 s.
 * @param {number} failures
 * @param {number} random from 0 to 1
 */
export function backoffMs(failures, random) {
  return Math.min(LONGEST_WAIT_MS, (50 + 200 * random) * 2 ** Math.min(failures, 10));
}

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "stopped"} SocketState
 * @typedef {{type: string, n: number} & Record<string, any>} Numbered
 */

export class ReliableSocket {
  /** @type {Delegate<Numbered>} */
  messages = new Delegate();
  /** @type {Delegate<SocketState>} */
  states = new Delegate();
  /** Close codes, before the next try: 4401 says that the session has ended. @type {Delegate<number>} */
  closes = new Delegate();
  /** @type {Delegate<number>} round trips in milliseconds */
  latencies = new Delegate();
  /** How the server's clock differs from the page's. */
  clock = new ClockOffset();
  /** @type {SocketState} */
  state = "connecting";

  /** @type {WebSocket | null} */
  #socket = null;
  #kind;
  #address;
  #make;
  #random;
  #failures = 0;
  #expected = 1;
  #pingAt = 0;
  #heardAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pinger;

  /**
   * @param {object} wish
   * @param {"orders" | "chart"} wish.kind
   * @param {() => string} wish.address asked anew for each connection: it carries the cursor
   * @param {(address: string) => WebSocket} [wish.make]
   * @param {() => number} [wish.random]
   */
  constructor({ kind, address, make = (url) => new WebSocket(url), random = Math.random }) {
    this.#kind = kind;
    this.#address = address;
    this.#make = make;
    this.#random = random;
  }

  start() {
    this.#connect();
    this.#pinger = setInterval(() => this.#beat(), PING_MS);
  }

  stop() {
    clearInterval(this.#pinger);
    clearTimeout(this.#retry);
    this.#leave();
    this.#become("stopped");
  }

  /** Try now instead of at the end of the wait: the network is back, or the page is looked at again. */
  hurry() {
    if (this.state === "stopped" || this.#socket) return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  /** False when it was not sent. @param {object} message */
  send(message) {
    if (this.state !== "live" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #connect() {
    const socket = this.#make(this.#address());
    this.#socket = socket;
    this.#expected = 1;
    this.#pingAt = 0;
    this.#heardAt = performance.now();
    socket.onmessage = (event) => this.#received(socket, String(event.data));
    socket.onclose = (event) => this.#closed(socket, event.code);
  }

  /** @param {WebSocket} socket @param {string} text */
  #received(socket, text) {
    if (socket !== this.#socket) return;
    this.#heardAt = performance.now();
    let message;
    try {
      message = readMessage(text, this.#kind);
      if (message.n !== this.#expected) throw new MessageError(`message ${message.n} came instead of ${this.#expected}`);
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      console.warn(`${this.#kind} socket: ${error.message}; connecting again`);
      this.#again();
      return;
    }
    this.#expected += 1;
    if (message.type === "pong") {
      this.#failures = 0;
      this.#pingAt = 0;
      const now = performance.now();
      this.clock.measure(message["at"], now, message["time_ms"]);
      this.latencies.fire(now - message["at"]);
      return;
    }
    if (this.state !== "live" && !TURNED_AWAY.has(message["code"])) {
      this.#become("live"); // the first message proves that the server took the connection
      this.#beat();
    }
    this.messages.fire(message);
  }

  /** @param {WebSocket} socket @param {number} code */
  #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.closes.fire(code);
    if (this.state !== "stopped") this.#later();
  }

  #beat() {
    const now = performance.now();
    if (this.#pingAt && this.#heardAt < this.#pingAt && now - this.#pingAt > SILENCE_MS) {
      this.#again();
    } else if (this.#socket && this.state !== "live" && now - this.#heardAt > SILENCE_MS) {
      this.#again(); // a handshake that hangs
    } else if (this.state === "live" && (!this.#pingAt || this.#heardAt >= this.#pingAt)) {
      this.#pingAt = now;
      this.send(ping(now));
    }
  }

  #again() {
    this.#leave();
    this.#later();
  }

  #leave() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #later() {
    this.#become("reconnecting");
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), backoffMs(this.#failures, this.#random()));
    this.#failures += 1;
  }

  /** @param {SocketState} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.states.fire(state);
  }
}
