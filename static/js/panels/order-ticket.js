// @ts-check
// The order ticket: side with live prices, lots, stop loss, take profit, terminals, send. A viewer finds a sentence
// in its place. Nothing is sent but by the send button, Ctrl+Enter, or a side button when "one click" is on.
import { digitsOf, lots, price, points, splitPrice, typedNumber } from "../format.js";
import { EXPIRIES, expiresMs } from "../order-rules.js";
import { whyNoTrading } from "../selectors.js";
import { checkTicket, distances, sendLabel, stepped } from "../ticket-rules.js";
import { el, find, listening, onceAFrame, setAttribute, setText } from "./dom.js";
import { attachTargets } from "./targets.js";

/**
 * @import {Actions} from "../actions.js"
 * @import {OrderType, Side, SymbolInfo, Tick} from "../messages.js"
 * @import {Store} from "../store.js"
 */

const ONE_CLICK = "tradedist.one-click";
const GUARD_MS = 400; // between two sends: a double click is one order

/** @param {{store: Store, actions: Actions, storage: Pick<Storage, "getItem" | "setItem">}} parts */
export function attachOrderTicket({ store, actions, storage }) {
  const form = find("#ticket-form", HTMLFormElement);
  const note = find("#ticket-note", HTMLElement);
  const lotsInput = find("#ticket-lots", HTMLInputElement);
  const slInput = find("#ticket-sl", HTMLInputElement);
  const tpInput = find("#ticket-tp", HTMLInputElement);
  const typeSelect = find("#ticket-type", HTMLSelectElement);
  const pending = find("#ticket-pending", HTMLElement);
  const priceInput = find("#ticket-price", HTMLInputElement);
  const limitInput = find("#ticket-limit", HTMLInputElement);
  const limitRow = find("#ticket-limit-row", HTMLElement);
  const expirySelect = find("#ticket-expiry", HTMLSelectElement);
  const protection = {
    trailing: find("#ticket-trailing", HTMLInputElement), step: find("#ticket-trailing-step", HTMLInputElement),
    trigger: find("#ticket-even", HTMLInputElement), offset: find("#ticket-even-offset", HTMLInputElement),
  };
  const pointInputs = new Set(Object.values(protection));
  const fields = { lots: lotsInput, price: priceInput, limit: limitInput, sl: slInput, tp: tpInput, ...protection };
  expirySelect.replaceChildren(...EXPIRIES.map(([name, label]) => el("option", { value: name }, label)));
  const hint = find("#ticket-hint", HTMLElement);
  const distanceText = find("#ticket-distances", HTMLElement);
  const send = find("#ticket-send", HTMLButtonElement);
  const oneClick = find("#one-click", HTMLInputElement);
  const spread = find("[data-testid=ticket-spread]", HTMLElement);
  const sides = { sell: find(".side-sell", HTMLButtonElement), buy: find(".side-buy", HTMLButtonElement) };
  const prices = { sell: priceParts(sides.sell), buy: priceParts(sides.buy) };
  const events = listening();
  const targets = attachTargets(store);
  /** @type {Side | null} */
  let side = null;
  let sentAt = -Infinity;

  const info = () => store.symbols.get(store.symbol);
  const tick = () => store.ticks.get(store.symbol);

  const orderType = () => /** @type {OrderType} */ (typeSelect.value);

  /** @param {SymbolInfo} symbol */
  const check = (symbol) => checkTicket({
    side, lots: lotsInput.value, stopLoss: slInput.value, takeProfit: tpInput.value, terminals: targets.chosen(),
    orderType: orderType(), price: priceInput.value, limitPrice: limitInput.value,
    protection: {
      trailing: protection.trailing.value, step: protection.step.value, trigger: protection.trigger.value, offset: protection.offset.value,
    },
  }, symbol, tick());

  function draw() {
    const why = whyNoTrading(store);
    form.hidden = why !== "" || store.user === null;
    note.hidden = why === "";
    setText(note, why);
    const symbol = info();
    if (form.hidden || !symbol) return;
    const now = tick();
    showPrice(prices.sell, now?.bid, symbol);
    showPrice(prices.buy, now?.ask, symbol);
    setText(spread, now ? String(points(now.ask, now.bid, symbol.point)) : "–");
    for (const [name, button] of Object.entries(sides)) setAttribute(button, "aria-checked", String(side === name));
    const checked = check(symbol);
    pending.hidden = orderType() === "market";
    limitRow.hidden = orderType() !== "stop_limit";
    for (const [name, input] of Object.entries(fields)) setAttribute(input, "aria-invalid", String(checked.field === name));
    setText(distanceText, distances(checked, side, symbol, now));
    setText(hint, checked.problem || hintOf());
    setText(send, sendLabel(side, checked.lots, store.symbol, targets.chosen().length, orderType()));
    setAttribute(send, "data-side", side);
    send.disabled = side === null || checked.problem !== "";
  }

  function hintOf() {
    if (store.connection === "live") return "";
    return side ? "Not connected: the order goes out when the connection is back, within its time to live." : "";
  }

  /** @param {Side | null} chosen */
  function choose(chosen) {
    side = chosen;
    draw();
  }

  function place() {
    const symbol = info();
    if (!symbol || !side || form.hidden) return;
    const checked = check(symbol);
    const now = performance.now();
    if (checked.problem || now - sentAt < GUARD_MS) return draw();
    sentAt = now;
    actions.open({
      symbol: store.symbol, side, lots: checked.lots, stopLoss: checked.stopLoss, takeProfit: checked.takeProfit,
      terminals: targets.chosen(), orderType: orderType(), price: checked.price, limitPrice: checked.limitPrice,
      expiresMs: orderType() === "market" ? null : expiresMs(expirySelect.value, Date.now()),
      trailing: checked.trailing, breakEven: checked.breakEven,
    });
  }

  /** A field's step and the value its first step starts from. @param {HTMLInputElement} input @param {SymbolInfo} symbol */
  function stepOf(input, symbol) {
    if (input === lotsInput) return { step: symbol.volume_step, least: symbol.volume_min };
    if (pointInputs.has(input)) return { step: 10, least: 10 };
    return { step: symbol.point * 10, least: symbol.point };
  }

  /** @param {HTMLInputElement} input @param {number} direction */
  function step(input, direction) {
    const symbol = info();
    const now = tick();
    if (!symbol) return;
    const { step: size, least } = stepOf(input, symbol);
    let from = typedNumber(input.value);
    if (pointInputs.has(input)) {
      input.value = String(stepped(from === null || Number.isNaN(from) ? 0 : from, size, direction, least));
      return draw();
    }
    if (input !== lotsInput && (from === null || Number.isNaN(from))) {
      if (!now) return;
      from = startOf(input, now, symbol);
    }
    const next = stepped(from, size, direction, least);
    input.value = input === lotsInput ? lots(next, size) : price(next, symbol.digits);
    draw();
  }

  /**
   * An empty stop loss or take profit starts 200 points from the market (or a pending order's price), on its side; an
   * empty price 100 points.
   * @param {HTMLInputElement} input @param {Tick} now @param {SymbolInfo} symbol
   */
  function startOf(input, now, symbol) {
    const market = side === "sell" ? now.bid : now.ask;
    if (input === priceInput) return market + ((orderType() === "limit") === (side !== "sell") ? -100 : 100) * symbol.point;
    const entry = typedNumber(priceInput.value);
    const from = orderType() === "market" || !entry ? market : entry;
    if (input === limitInput) return from + (side === "sell" ? 50 : -50) * symbol.point;
    if (orderType() !== "market") return from + ((input === slInput) === (side !== "sell") ? -200 : 200) * symbol.point;
    const below = (input === slInput) === (side !== "sell");
    return (side === "sell" ? now.ask : now.bid) + (below ? -200 : 200) * symbol.point;
  }

  for (const name of /** @type {Side[]} */ (["sell", "buy"])) {
    events.on(sides[name], "click", () => {
      choose(name);
      if (oneClick.checked) place();
    });
    events.on(sides[name], "keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      const other = event.key === "ArrowLeft" ? "sell" : "buy";
      choose(other);
      sides[other].focus();
    });
  }
  events.on(form, "submit", (event) => {
    event.preventDefault();
    place();
  });
  events.on(form, "keydown", (event) => {
    if (!(event.target instanceof HTMLInputElement)) return;
    const input = event.target;
    const direction = { ArrowUp: 1, ArrowDown: -1 }[/** @type {string} */ (event.key)];
    if (event.key === "Enter") {
      event.preventDefault(); // a number typed and confirmed is no order yet
      if (event.ctrlKey || event.metaKey) place();
    } else if (direction && input.type !== "checkbox") {
      event.preventDefault();
      step(input, direction);
    }
  });
  events.on(form, "click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-step]") : null;
    if (button instanceof HTMLElement) {
      step(find(`#${button.dataset["for"]}`, HTMLInputElement), Number(button.dataset["step"]));
    }
  });
  events.on(form, "input", draw);
  events.on(lotsInput, "blur", () => {
    const typed = typedNumber(lotsInput.value);
    if (typed && info()) lotsInput.value = lots(typed, Math.min(info()?.volume_step ?? 0.01, 10 ** -digitsOf(typed)));
  });
  oneClick.checked = storage.getItem(ONE_CLICK) === "on";
  events.on(oneClick, "change", () => storage.setItem(ONE_CLICK, oneClick.checked ? "on" : "off"));

  const frame = onceAFrame(draw);
  events.keep(
    store.ticked.subscribe((symbol) => symbol === store.symbol && frame.ask()),
    store.selectionChanged.subscribe(() => {
      side = null;
      for (const input of [slInput, tpInput, priceInput, limitInput]) input.value = "";
      frame.ask();
    }),
    store.symbolsChanged.subscribe(frame.ask),
    store.connectionChanged.subscribe(frame.ask),
    store.userChanged.subscribe(frame.ask),
    targets.changed.subscribe(frame.ask),
    targets.detach,
    frame.end,
  );
  frame.ask();
  return {
    detach: events.end,
    /** @param {Side} wanted */
    focusSide(wanted) {
      if (form.hidden) return;
      choose(wanted);
      sides[wanted].focus();
    },
    focusLots() {
      if (!form.hidden) lotsInput.select();
    },
    leave() {
      choose(null);
    },
    place,
  };
}

/** @param {HTMLElement} button */
function priceParts(button) {
  const root = find(".side-price", HTMLElement, button);
  const parts = { head: el("span"), pips: el("b"), point: el("sup") };
  root.replaceChildren(parts.head, parts.pips, parts.point);
  return parts;
}

/** @param {{head: HTMLElement, pips: HTMLElement, point: HTMLElement}} parts @param {number | undefined} value @param {SymbolInfo} info */
function showPrice(parts, value, info) {
  const split = splitPrice(value, info.digits);
  setText(parts.head, split.head);
  setText(parts.pips, split.pips);
  setText(parts.point, split.point);
}
