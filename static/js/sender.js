// @ts-check
// Sends signals and does not forget one before it is answered: kept in the tab's storage, sent again with the same
// signal_id and its grown age after a reconnect, a reload or silence. Over the socket; by REST while that is away.
import { SEND_AGAIN, aged, sendSignal, uuid } from "./messages.js";

/**
 * @import {Signal, SignalView} from "./messages.js"
 * @import {Store} from "./store.js"
 *
 * @typedef {{signal: Signal, user: string, created_ms: number}} Unanswered
 * @typedef {Unanswered & {tries: number, due_at: number, busy: boolean}} Waiting
 * @typedef {{status: number, body: any}} Answer
 * @typedef {(signal: Signal, user: string) => Promise<Answer | null>} Post  null: no answer came
 */

const KEY = "tradedist.unanswered";
const MAX_UNANSWERED = 100;
const MAX_AGE_MS = 86_400_000;
const NOT_SENT = "There is no connection. It is sent again until the server answers.";
const LOOK_MS = 500;
const ANSWER_MS = 3_000; // silence after which a signal is sent again
const LONGEST_MS = 20_000;

/**
 * The silence after which a signal goes again: doubled with each try, and no two pages at the same moment.
 * @param {number} tries so far, at least 1
 * @param {number} random from 0 to 1
 */
export function silenceMs(tries, random) {
  return Math.min(LONGEST_MS, ANSWER_MS * 2 ** Math.min(tries - 1, 10)) * (1 + random / 2);
}

export class Sender {
  #store;
  #send;
  #post;
  #storage;
  #now;
  #random;
  /** @type {Map<string, Waiting>} */
  #unanswered = new Map();
  #trusted = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * @param {object} parts
   * @param {Store} parts.store
   * @param {(message: object) => boolean} parts.send over the order socket; false while it is away
   * @param {Post} parts.post by REST
   * @param {Pick<Storage, "getItem" | "setItem">} parts.storage the tab's own
   * @param {() => number} parts.now milliseconds on a clock that goes on through reloads
   * @param {() => number} [parts.random]
   */
  constructor({ store, send, post, storage, now, random = Math.random }) {
    this.#store = store;
    this.#send = send;
    this.#post = post;
    this.#storage = storage;
    this.#now = now;
    this.#random = random;
  }

  start() {
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  stop() {
    clearInterval(this.#timer);
  }

  get waiting() {
    return this.#unanswered.size;
  }

  /** Shown as pending at once. False when too many wait for an answer. @param {Signal} signal */
  place(signal) {
    if (this.#unanswered.size >= MAX_UNANSWERED) return false;
    const user = this.#store.user?.name ?? "";
    const entry = { signal, user, created_ms: this.#now(), tries: 0, due_at: 0, busy: false };
    this.#unanswered.set(signal.signal_id, entry);
    this.#keep();
    this.#store.signalSent(signal, entry.created_ms, performance.now());
    this.#try(entry);
    return true;
  }

  /** What an earlier page of this tab left unanswered. The user is known by now. */
  restore() {
    for (const { signal, user, created_ms } of this.#kept()) {
      if (user !== this.#store.user?.name || this.#unanswered.has(signal.signal_id)) continue;
      const age = this.#now() - created_ms;
      const entry = { signal, user, created_ms, tries: 0, due_at: 0, busy: false };
      this.#unanswered.set(signal.signal_id, entry);
      this.#store.signalSent(signal, created_ms, performance.now() - age);
    }
    this.#keep();
  }

  /** The order socket is away, or whose session it has is not known: nothing goes over it. */
  distrust() {
    this.#trusted = false;
  }

  /** The connection is new and is this user's: whatever is unanswered goes again at once. */
  sendAgain() {
    this.#trusted = true;
    for (const entry of this.#unanswered.values()) {
      entry.tries = Math.min(entry.tries, 1);
      this.#try(entry);
    }
  }

  /** @param {string} signalId */
  accepted(signalId) {
    this.#done(signalId);
  }

  /** @param {string} signalId @param {string} code @param {string} message */
  refused(signalId, code, message) {
    // a send that was too many says nothing of an earlier one, which may be recorded
    if (SEND_AGAIN.has(code) || (code === "RATE_LIMITED" && (this.#unanswered.get(signalId)?.tries ?? 0) > 1)) {
      this.#store.signalWaits(signalId, code, message);
      return; // tried again after a while
    }
    this.#done(signalId);
    this.#store.signalRefused(signalId, code, message);
  }

  #look() {
    for (const entry of this.#unanswered.values()) {
      if (this.#now() >= entry.due_at) this.#try(entry);
    }
  }

  /** @param {Waiting} entry */
  #try(entry) {
    if (entry.user !== (this.#store.user?.name ?? "")) return; // signed in as someone else meanwhile
    const age = this.#now() - entry.created_ms;
    const id = entry.signal.signal_id;
    if (age > MAX_AGE_MS) {
      this.#done(id);
      this.#store.signalRefused(id, "TOO_OLD", "No answer came within a day. Look at the orders, then send a new one.");
      return;
    }
    entry.tries += 1;
    entry.due_at = this.#now() + silenceMs(entry.tries, this.#random());
    const sent = this.#trusted && this.#send(sendSignal(entry.signal, uuid(), age));
    if (!sent && !entry.busy) void this.#tryByRest(entry, age);
  }

  /** @param {Waiting} entry @param {number} age */
  async #tryByRest(entry, age) {
    const id = entry.signal.signal_id;
    entry.busy = true;
    const answer = await this.#post(aged(entry.signal, age), entry.user);
    entry.busy = false;
    if (!this.#unanswered.has(id)) return;
    if (!answer) {
      this.#store.signalWaits(id, "NOT_SENT", NOT_SENT);
    } else if (answer.status === 200 || answer.status === 202) {
      this.#done(id);
      this.#store.takeOrderMessage({ type: "accepted", n: 0, request_id: "", created: answer.status === 202, signal: answer.body });
    } else if (answer.body?.code === "NOT_SIGNED_IN" || !answer.body?.code) {
      this.#store.signalWaits(id, "NOT_SENT", NOT_SENT);
    } else {
      this.refused(id, answer.body.code, answer.body.message);
    }
  }

  /** @param {string} signalId */
  #done(signalId) {
    if (this.#unanswered.delete(signalId)) this.#keep();
  }

  /** Another user's, of the same tab, stay where they are. */
  #keep() {
    const user = this.#store.user?.name ?? "";
    const others = this.#kept().filter((entry) => entry.user !== user);
    const own = [...this.#unanswered.values()].map(({ signal, user, created_ms }) => ({ signal, user, created_ms }));
    try {
      this.#storage.setItem(KEY, JSON.stringify([...others, ...own].slice(-2 * MAX_UNANSWERED)));
    } catch (error) {
      console.warn("A signal without an answer will not outlive this page: the tab's storage is not writable.", error);
    }
  }

  /** @returns {Unanswered[]} */
  #kept() {
    try {
      const entries = JSON.parse(this.#storage.getItem(KEY) ?? "[]");
      if (!Array.isArray(entries)) return [];
      return entries.filter((entry) => entry?.signal?.signal_id && Number.isFinite(entry.created_ms));
    } catch (error) {
      console.warn("What the tab kept of unanswered signals cannot be read.", error);
      return [];
    }
  }
}
