// @ts-check
// Choosing the symbol: a button with its name, a list with search, description and live bid.
import { price } from "../format.js";
import { KeyedNodes, el, find, listening, onceAFrame, setAttribute, setText } from "./dom.js";

/**
 * @import {SymbolInfo} from "../messages.js"
 * @import {Store} from "../store.js"
 * @typedef {{node: HTMLElement, name: HTMLElement, about: HTMLElement, bid: HTMLElement}} Option
 */

/** @param {Store} store */
export function attachSymbolPicker(store) {
  const root = find("#symbol-picker", HTMLElement);
  const button = find(".picker-button", HTMLButtonElement, root);
  const name = find(".picker-name", HTMLElement, root);
  const popover = find(".popover", HTMLElement, root);
  const search = find("input", HTMLInputElement, root);
  const list = find("#symbol-list", HTMLElement);
  const events = listening();
  let active = "";

  /** @type {KeyedNodes<SymbolInfo, Option>} */
  const options = new KeyedNodes(list, (symbol) => {
    const parts = { name: el("b"), about: el("span", { class: "muted" }), bid: el("span", { class: "num" }) };
    const node = el("li", {
      class: "picker-option", role: "option", id: `symbol-${symbol}`, "data-symbol": symbol, "data-testid": `symbol-option-${symbol}`,
    }, parts.name, parts.about, parts.bid);
    return { ...parts, node };
  }, (option, info) => {
    setText(option.name, info.symbol);
    setText(option.about, info.description);
    setText(option.bid, price(store.ticks.get(info.symbol)?.bid, info.digits));
    setAttribute(option.node, "aria-selected", String(info.symbol === active));
    option.node.classList.toggle("current", info.symbol === store.symbol);
  });

  function matching() {
    const wanted = search.value.trim().toLowerCase();
    return [...store.symbols.values()]
      .filter((info) => `${info.symbol} ${info.description}`.toLowerCase().includes(wanted))
      .sort((one, other) => one.symbol.localeCompare(other.symbol, "en"));
  }

  function draw() {
    setText(name, store.symbol || "…");
    if (popover.hidden) return;
    const shown = matching();
    if (!shown.some((info) => info.symbol === active)) active = shown[0]?.symbol ?? "";
    options.show(shown, (info) => info.symbol);
    setAttribute(search, "aria-activedescendant", active ? `symbol-${active}` : null);
  }

  /** @param {boolean} open */
  function show(open) {
    if (popover.hidden === !open) return;
    popover.hidden = !open;
    setAttribute(button, "aria-expanded", String(open));
    if (open) {
      search.value = "";
      active = store.symbol;
      draw();
      search.focus();
    } else if (popover.contains(document.activeElement)) {
      button.focus();
    }
  }

  /** @param {string} symbol */
  function choose(symbol) {
    show(false);
    if (symbol) store.select(symbol, store.seconds);
  }

  events.on(button, "click", () => show(popover.hidden));
  events.on(search, "input", draw);
  events.on(search, "keydown", (event) => {
    const shown = matching().map((info) => info.symbol);
    if (event.key === "Enter") choose(active);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const place = shown.indexOf(active) + (event.key === "ArrowDown" ? 1 : -1);
      active = shown[Math.max(0, Math.min(shown.length - 1, place))] ?? "";
      draw();
      list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    } else return;
    event.preventDefault();
  });
  events.on(list, "click", (event) => {
    const option = event.target instanceof Element ? event.target.closest("[data-symbol]") : null;
    if (option instanceof HTMLElement) choose(option.dataset["symbol"] ?? "");
  });
  events.on(document, "pointerdown", (event) => {
    if (event.target instanceof Node && !root.contains(event.target)) show(false);
  });

  const frame = onceAFrame(draw);
  events.keep(
    store.symbolsChanged.subscribe(frame.ask),
    store.selectionChanged.subscribe(frame.ask),
    store.ticked.subscribe(() => popover.hidden || frame.ask()),
    frame.end,
  );
  return { detach: events.end, open: () => show(true), leave: () => show(false) };
}
