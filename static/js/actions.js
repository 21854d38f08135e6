// @ts-check
// What a trader does: open, close one, close a symbol, close all. Makes the signal and hands it to the sender; what
// closes several asks first. Follows: the panels. Precedes: sender.
import { count, lots, signed } from "./format.js";
import { closeSignal, openSignal } from "./messages.js";
import { openPositions, profitByCurrency, terminalLabel } from "./selectors.js";

/**
 * @import {Position, Side} from "./messages.js"
 * @import {Sender} from "./sender.js"
 * @import {Store} from "./store.js"
 *
 * @typedef {{title: string, lines: string[], yes: string}} Question
 * @typedef {{symbol: string, side: Side, lots: number, stopLoss: number | null, takeProfit: number | null,
 *   terminals: string[]}} OpenWish
 */

export class Actions {
  #store;
  #sender;
  #confirm;
  #say;

  /**
   * @param {object} parts
   * @param {Store} parts.store
   * @param {Sender} parts.sender
   * @param {(question: Question) => Promise<boolean>} parts.confirm
   * @param {(title: string, text: string) => void} parts.say when something cannot be done
   */
  constructor({ store, sender, confirm, say }) {
    this.#store = store;
    this.#sender = sender;
    this.#confirm = confirm;
    this.#say = say;
  }

  /** @param {OpenWish} wish */
  open(wish) {
    this.#place(openSignal(wish));
  }

  /** @param {Position} position */
  closePosition(position) {
    this.#place(closeSignal({ position_ticket: position.position_ticket }, [position.terminal_id]));
  }

  /**
   * Those of one symbol or of all, on one terminal or on all where the user may trade.
   * @param {{symbol?: string, terminal?: string}} only
   */
  async closeMany(only) {
    const shown = closable(this.#store, only);
    if (!shown.length) return;
    const name = only.symbol ?? "all symbols";
    const agreed = await this.#confirm({
      title: `Close ${count(shown.length, "position")} of ${name}?`,
      lines: this.#lines(shown),
      yes: `Close ${count(shown.length, "position")}`,
    });
    if (!agreed) return;
    // asked of the terminals, not of a list: what was opened meanwhile closes too, what was closed does no harm
    const terminals = [...new Set([...shown, ...closable(this.#store, only)].map((position) => position.terminal_id))];
    this.#place(closeSignal(only.symbol ? { symbol: only.symbol } : { all: true }, terminals));
  }

  /** @param {Position[]} positions */
  #lines(positions) {
    const most = 12;
    const lines = positions.slice(0, most).map((position) =>
      `${terminalLabel(this.#store, position.terminal_id)}: ${position.side} ${lots(position.lots)} ${position.symbol}`);
    if (positions.length > most) lines.push(`and ${positions.length - most} more`);
    const sums = profitByCurrency(this.#store, positions).map(([currency, sum]) => `${signed(sum)} ${currency}`);
    return [...lines, `Profit now: ${sums.join(", ")}`];
  }

  /** @param {import("./messages.js").Signal} signal */
  #place(signal) {
    if (!this.#sender.place(signal)) {
      this.#say("Not sent", "Too many orders wait for an answer. Wait until the connection is back, then try again.");
    }
  }
}

/** @param {Store} store @param {{symbol?: string, terminal?: string}} only */
export function closable(store, only) {
  return openPositions(store, only).filter((position) => store.terminals.get(position.terminal_id)?.can_trade);
}
