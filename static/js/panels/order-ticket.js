// @ts-check
// The order ticket: side with live prices, lots, stop loss, take profit, terminals, send. A viewer finds a sentence
// in its place. Nothing is sent but by the send button, Ctrl+Enter, or a side button when "one click" is on.
import { digitsOf, lots, price, points, splitPrice, typedNumber } from "../format.js";
import { whyNoTrading } from "../selectors.js";
import { checkTicket, distances, sendLabel, stepped } from "../ticket-rules.js";
import { el, find, listening, onceAFrame, setAttribute, setText } from "./dom.js";
import { attachTargets } from "./targets.js";

/**
 * @import {Actions} from "../actions.js"
 * @import {Side, SymbolInfo, Tick} from "../messages.js"
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

  /** @param {SymbolInfo} symbol */
  const check = (symbol) => checkTicket({
    side, lots: lotsInput.value, stopLoss: slInput.value, takeProfit: tpInput.value, terminals: targets.chosen(),
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
    setAttribute(lotsInput, "aria-invalid", String(checked.field === "lots"));
    setAttribute(slInput, "aria-invalid", String(checked.field === "sl"));
    setAttribute(tpInput, "aria-invalid", String(checked.field === "tp"));
    setText(distanceText, distances(checked, side, symbol, now));
    setText(hint, checked.problem || hintOf());
    setText(send, sendLabel(side, checked.lots, store.symbol, targets.chosen().length));
    setAttribute(send, "data-side", side);
    send.disabled = side === null || checked.problem !== "";
  }

  function hintOf() {
    if (store.connection === "live") return "";
    return side ? "Not connected: the order goes out when the connection is back, within its 5 seconds." : "";
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
      terminals: targets.chosen(),
    });
  }

  /** A field's step and the value its first step starts from. @param {HTMLInputElement} input @param {SymbolInfo} symbol */
  function stepOf(input, symbol) {
    if (input === lotsInput) return { step: symbol.volume_step, least: symbol.volume_min };
    return { step: symbol.point * 10, least: symbol.point };
  }

  /** @param {HTMLInputElement} input @param {number} direction */
  function step(input, direction) {
    const symbol = info();
    const now = tick();
    if (!symbol) return;
    const { step: size, least } = stepOf(input, symbol);
    let from = typedNumber(input.value);
    if (input !== lotsInput && (from === null || Number.isNaN(from))) {
      if (!now) return;
      from = startOf(input, now, symbol);
    }
    const next = stepped(from, size, direction, least);
    input.value = input === lotsInput ? lots(next, size) : price(next, symbol.digits);
    draw();
  }

  /** An empty stop loss or take profit starts 200 points from the market, on its side. @param {HTMLInputElement} input @param {Tick} now @param {SymbolInfo} symbol */
  function startOf(input, now, symbol) {
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
      slInput.value = tpInput.value = "";
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
