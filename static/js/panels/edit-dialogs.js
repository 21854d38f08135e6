// @ts-check
// The dialogs that change a position (stops, a part of it, what protects it, closing it against another) and a pending
// order. What cannot be is said at its field; the rest is decided by the server, whose answer comes as for any order.
import { lots, points, price, stateName, typedNumber } from "../format.js";
import { EXPIRIES, checkProtection, entryProblem, expiresMs, levelProblem, typedPrice } from "../order-rules.js";
import { opposites, positionKey, terminalLabel } from "../selectors.js";
import { el, find, listening, setAttribute, setText } from "./dom.js";
import { armedText } from "./positions.js";

/**
 * @import {Actions} from "../actions.js"
 * @import {Levels, OrderType, PendingOrder, Position, Side, SymbolInfo} from "../messages.js"
 * @import {Store} from "../store.js"
 */

/** A field with its sentence. @param {string} id */
function field(id) {
  const input = find(`#${id}`, HTMLInputElement);
  const problem = find(`#${id}-problem`, HTMLElement);
  return {
    input,
    /** @param {string} sentence "" takes it back */
    say(sentence) {
      setText(problem, sentence);
      setAttribute(input, "aria-invalid", String(sentence !== ""));
      if (sentence) input.focus();
      return sentence === "";
    },
  };
}

/**
 * A sentence goes when its field is corrected.
 * @param {ReturnType<typeof field>[]} fields
 * @param {(target: EventTarget, name: string, listener: (event: any) => void) => void} on
 */
function forgetProblems(fields, on) {
  for (const one of fields) on(one.input, "input", () => one.say(""));
}

/** @param {number | null | undefined} value @param {SymbolInfo} info */
const shown = (value, info) => (value ? price(value, info.digits) : "");

/** @param {number | undefined} value @param {SymbolInfo} info */
const inPoints = (value, info) => (value ? String(points(value, 0, info.point)) : "");

/** @param {{store: Store, actions: Actions}} parts */
export function attachPositionDialog({ store, actions }) {
  const dialog = find("#position-dialog", HTMLDialogElement);
  const title = find("#position-title", HTMLElement);
  const about = find("#position-about", HTMLElement);
  const armed = find("#edit-armed", HTMLElement);
  const byForm = find("#edit-by-form", HTMLFormElement);
  const bySelect = find("#edit-by", HTMLSelectElement);
  const sl = field("edit-sl");
  const tp = field("edit-tp");
  const part = field("edit-part");
  const protection = { trailing: field("edit-trailing"), step: field("edit-trailing-step"), trigger: field("edit-even"), offset: field("edit-even-offset") };
  const all = [sl, tp, part, ...Object.values(protection)];
  const events = listening();
  forgetProblems(all, events.on);
  let key = "";

  /** As it is now: it may have changed, or gone, since the dialog opened. */
  function current() {
    const position = [...store.positions.values()].flat().find((one) => positionKey(one) === key);
    const info = position && store.symbols.get(position.symbol);
    if (position && info) return { position, info };
    all[0]?.say("The position is gone.");
    return null;
  }

  /** @param {Position} position */
  function show(position) {
    const info = store.symbols.get(position.symbol);
    if (!info || dialog.open) return;
    key = positionKey(position);
    setText(title, `${position.side === "buy" ? "Buy" : "Sell"} ${lots(position.lots)} ${position.symbol} on ${terminalLabel(store, position.terminal_id)}`);
    setText(about, `Ticket ${position.position_ticket}, opened at ${price(position.price_open, info.digits)}`);
    for (const one of all) one.say("");
    sl.input.value = shown(position.stop_loss, info);
    tp.input.value = shown(position.take_profit, info);
    part.input.value = "";
    protection.trailing.input.value = inPoints(position.trailing?.distance, info);
    protection.step.input.value = inPoints(position.trailing?.step, info);
    protection.trigger.input.value = inPoints(position.break_even?.trigger, info);
    protection.offset.input.value = inPoints(position.break_even?.offset, info);
    setText(armed, armedText(position) || "Nothing moves its stop loss. Empty fields take protection away.");
    const others = opposites(store, position);
    byForm.hidden = others.length === 0;
    bySelect.replaceChildren(...others.map((other) =>
      el("option", { value: String(other.position_ticket) }, `${other.side} ${lots(other.lots)} at ${price(other.price_open, info.digits)}, ticket ${other.position_ticket}`)));
    dialog.showModal();
    sl.input.select();
  }

  /** @param {Position} position @param {SymbolInfo} info */
  function setStops(position, info) {
    const typed = { sl: typedPrice(sl.input.value, "stop loss", info), tp: typedPrice(tp.input.value, "take profit", info) };
    for (const [which, one] of /** @type {["sl" | "tp", typeof sl][]} */ ([["sl", sl], ["tp", tp]])) {
      const { value, problem } = typed[which];
      if (!one.say(problem || (value === null ? "" : levelProblem(position.side, which, value, position.price_current, info)))) return false;
    }
    if ((typed.sl.value ?? 0) === (position.stop_loss ?? 0) && (typed.tp.value ?? 0) === (position.take_profit ?? 0)) {
      return sl.say("They are so already: change one of them.");
    }
    actions.setStops(position, { stop_loss: typed.sl.value ?? 0, take_profit: typed.tp.value ?? 0 });
    return true;
  }

  /** @param {Position} position @param {SymbolInfo} info */
  function closePart(position, info) {
    const text = part.input.value.trim();
    const percent = text.endsWith("%");
    const value = typedNumber(percent ? text.slice(0, -1) : text);
    if (value === null || Number.isNaN(value) || value <= 0) return part.say("Type lots such as 0.05, or a part such as 50%.");
    if (percent ? value >= 100 : value >= position.lots) return part.say("That is all of it: use Close in the list.");
    const least = percent ? (position.lots * value) / 100 : value;
    if (least < info.volume_min - 1e-9) return part.say(`The least that can be closed is ${lots(info.volume_min)} lots.`);
    actions.closePart(position, percent ? { fraction: Number((value / 100).toFixed(8)) } : { lots: value });
    return part.say("");
  }

  /** @param {Position} position @param {SymbolInfo} info */
  function protect(position, info) {
    const { trailing, breakEven, field: wrong, problem } = checkProtection({
      trailing: protection.trailing.input.value, step: protection.step.input.value, trigger: protection.trigger.input.value, offset: protection.offset.input.value,
    }, info);
    for (const [name, one] of Object.entries(protection)) if (name !== wrong) one.say("");
    if (wrong) return protection[wrong].say(problem);
    if (!trailing && !breakEven && !position.trailing && !position.break_even) return protection.trailing.say("Give a distance, or a profit after which it is even.");
    actions.protect(position, { trailing, break_even: breakEven });
    return true;
  }

  /** @param {Position} position */
  function closeBy(position) {
    const other = opposites(store, position).find((one) => String(one.position_ticket) === bySelect.value);
    if (!other) return false;
    actions.closeBy(position, other);
    return true;
  }

  events.on(dialog, "submit", (event) => {
    const act = event.target instanceof HTMLElement ? event.target.dataset["act"] : undefined;
    if (!act) return; // it leaves
    event.preventDefault();
    const now = current();
    if (!now) return;
    /** @type {Record<string, (position: Position, info: SymbolInfo) => boolean>} */
    const acts = { stops: setStops, part: closePart, protect, by: closeBy };
    if (acts[act]?.(now.position, now.info)) dialog.close();
  });
  return { show, detach: events.end };
}

/** @param {{store: Store, actions: Actions}} parts */
export function attachPendingDialog({ store, actions }) {
  const dialog = find("#pending-dialog", HTMLDialogElement);
  const title = find("#pending-title", HTMLElement);
  const about = find("#pending-about", HTMLElement);
  const expiry = find("#change-expiry", HTMLSelectElement);
  const entry = field("change-price");
  const limit = field("change-limit");
  const sl = field("change-sl");
  const tp = field("change-tp");
  const events = listening();
  forgetProblems([entry, limit, sl, tp], events.on);
  /** @type {PendingOrder | null} */
  let shownOrder = null;

  /** @param {PendingOrder} order */
  function show(order) {
    const info = store.symbols.get(order.symbol);
    if (!info || dialog.open) return;
    shownOrder = order;
    setText(title, `${stateName(order.order_type)} ${lots(order.lots)} ${order.symbol} on ${terminalLabel(store, order.terminal_id)}`);
    setText(about, `Ticket ${order.order_ticket}`);
    for (const [one, value] of /** @type {[typeof entry, number | null | undefined][]} */ ([
      [entry, order.price], [limit, order.limit_price], [sl, order.stop_loss], [tp, order.take_profit],
    ])) {
      one.say("");
      one.input.value = shown(value, info);
    }
    const limitLabel = limit.input.closest("label");
    if (limitLabel) limitLabel.hidden = !order.order_type.endsWith("stop_limit");
    expiry.replaceChildren(el("option", { value: "as" }, "As it is"), ...EXPIRIES.map(([name, label]) => el("option", { value: name }, label)));
    dialog.showModal();
    entry.input.select();
  }

  /** @param {PendingOrder} order @param {SymbolInfo} info */
  function modify(order, info) {
    const [side, orderType] = /** @type {[Side, OrderType]} */ (splitType(order.order_type));
    const typed = {
      price: typedPrice(entry.input.value, "price", info), limit: typedPrice(limit.input.value, "limit price", info),
      sl: typedPrice(sl.input.value, "stop loss", info), tp: typedPrice(tp.input.value, "take profit", info),
    };
    const fields = { price: entry, limit, sl, tp };
    for (const [name, one] of Object.entries(fields)) {
      if (!one.say(typed[/** @type {keyof typeof typed} */ (name)].problem)) return false;
    }
    const misplaced = entryProblem({ orderType, side, price: typed.price.value, limitPrice: typed.limit.value }, info, store.ticks.get(order.symbol));
    if (misplaced) return fields[misplaced.field].say(misplaced.problem);
    const from = orderType === "stop_limit" ? typed.limit.value : typed.price.value;
    for (const which of /** @type {("sl" | "tp")[]} */ (["sl", "tp"])) {
      const { value } = typed[which];
      if (value !== null && from !== null && !fields[which].say(levelProblem(side, which, value, from, info))) return false;
    }
    /** @type {Levels} */
    const changed = {};
    if (typed.price.value !== null && typed.price.value !== order.price) changed.price = typed.price.value;
    if (orderType === "stop_limit" && typed.limit.value !== null && typed.limit.value !== order.limit_price) changed.limit_price = typed.limit.value;
    if ((typed.sl.value ?? 0) !== (order.stop_loss ?? 0)) changed.stop_loss = typed.sl.value ?? 0;
    if ((typed.tp.value ?? 0) !== (order.take_profit ?? 0)) changed.take_profit = typed.tp.value ?? 0;
    if (expiry.value !== "as") changed.expires_ms = expiresMs(expiry.value, Date.now()) ?? 0;
    if (!Object.keys(changed).length) return entry.say("It is so already: change something.");
    actions.modifyOrder(order, changed);
    return true;
  }

  events.on(dialog, "submit", (event) => {
    if (!(event.target instanceof HTMLElement) || event.target.dataset["act"] !== "modify") return;
    event.preventDefault();
    const order = (store.pending.get(shownOrder?.terminal_id ?? "") ?? []).find((one) => one.order_ticket === shownOrder?.order_ticket);
    const info = order && store.symbols.get(order.symbol);
    if (!order || !info) entry.say("The order is not waiting any more.");
    else if (modify(order, info)) dialog.close();
  });
  return { show, detach: events.end };
}

/** buy_stop_limit → buy, stop_limit. @param {string} type */
function splitType(type) {
  const [side = "buy", ...kind] = type.split("_");
  return [side, kind.join("_")];
}
