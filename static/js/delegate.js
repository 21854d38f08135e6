// @ts-check
// One event and its listeners. `subscribe` returns what ends the subscription: each attach has its detach.

/** @template T */
export class Delegate {
  /** @type {Set<(value: T) => void>} */
  #listeners = new Set();

  /**
   * @param {(value: T) => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** @param {T} value */
  fire(value) {
    for (const listener of [...this.#listeners]) listener(value);
  }

  get size() {
    return this.#listeners.size;
  }
}
