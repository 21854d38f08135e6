// @ts-check
// What a trader does: open, change, close or protect positions and pending orders, one or several. Makes the signal and hands it to the sender; what
// closes several asks first. Follows: the panels. Precedes: sender.
import { count, lots, signed } from "./format.js";
import { cancelSignal, closeBySignal, closeSignal, modifySignal, openSignal, protectSignal } from "./messages.js";
import { openPositions, pendingOrders, profitByCurrency, terminalLabel } from "./selectors.js";

/**
 * @import {Levels, OpenWish, PendingOrder, Position, Protection, Stops} from "./messages.js"
 * @import {Sender} from "./sender.js"
 * @import {Store} from "./store.js"
 *
 * @typedef {{title: string, lines: string[], yes: string}} Question
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

  /** Some of it. @param {Position} position @param {{lots: number} | {fraction: number}} part */
  closePart(position, part) {
    this.#place(closeSignal({ position_ticket: position.position_ticket, ...part }, [position.terminal_id]));
  }

  /** @param {Position} position @param {Position} other */
  closeBy(position, other) {
    this.#place(closeBySignal(position.position_ticket, other.position_ticket, position.terminal_id));
  }

  /** @param {Position} position @param {Stops} stops */
  setStops(position, stops) {
    this.#place(modifySignal({ position_ticket: position.position_ticket, ...stops }, position.terminal_id));
  }

  /** @param {Position} position @param {Protection} protection */
  protect(position, protection) {
    this.#place(protectSignal(position.position_ticket, protection, position.terminal_id));
  }

  /** @param {PendingOrder} order @param {Levels} levels */
  modifyOrder(order, levels) {
    this.#place(modifySignal({ order_ticket: order.order_ticket, ...levels }, order.terminal_id));
  }

  /** @param {PendingOrder} order */
  cancelOrder(order) {
    this.#place(cancelSignal({ order_ticket: order.order_ticket }, [order.terminal_id]));
  }

  /** On one terminal or on all where the user may trade. @param {{terminal?: string}} only */
  async cancelMany(only) {
    const shown = cancellable(this.#store, only);
    if (!shown.length) return;
    const agreed = await this.#confirm({
      title: `Cancel ${count(shown.length, "pending order")}?`,
      lines: shown.slice(0, 12).map((order) =>
        `${terminalLabel(this.#store, order.terminal_id)}: ${order.order_type.replaceAll("_", " ")} ${lots(order.lots)} ${order.symbol}`),
      yes: `Cancel ${count(shown.length, "order")}`,
    });
    if (agreed) this.#place(cancelSignal({ all: true }, [...new Set(shown.map((order) => order.terminal_id))]));
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

/** @param {Store} store @param {{terminal?: string}} only */
export function cancellable(store, only) {
  return pendingOrders(store, only).filter((order) => store.terminals.get(order.terminal_id)?.can_trade);
}
