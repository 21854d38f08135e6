// @ts-check
// The dock below the chart: tabs, the terminal that the lists are narrowed to, and its height.
import { Delegate } from "../delegate.js";
import { sortedTerminals } from "../selectors.js";
import { el, find, listening, onceAFrame, setAttribute } from "./dom.js";

/** @import {Store} from "../store.js" */

const HEIGHT = "tradedist.dock";
const TABS = ["positions", "pending", "orders", "fills", "terminals"];

/** @param {{store: Store, storage: Pick<Storage, "getItem" | "setItem">}} parts */
export function attachDock({ store, storage }) {
  const tabs = TABS.map((name) => find(`#tab-${name}`, HTMLButtonElement));
  const panels = TABS.map((name) => find(`#panel-${name}`, HTMLElement));
  const select = find("#terminal-filter", HTMLSelectElement);
  const grip = find("#dock-grip", HTMLElement);
  const dock = find("#dock", HTMLElement);
  const filterChanged = /** @type {Delegate<void>} */ (new Delegate());
  const events = listening();

  /** @param {number} place @param {boolean} [focus] */
  function show(place, focus = false) {
    tabs.forEach((tab, index) => {
      setAttribute(tab, "aria-selected", String(index === place));
      setAttribute(tab, "tabindex", index === place ? null : "-1");
      /** @type {HTMLElement} */ (panels[index]).hidden = index !== place;
    });
    if (focus) tabs[place]?.focus();
  }

  tabs.forEach((tab, place) => {
    events.on(tab, "click", () => show(place));
    events.on(tab, "keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[/** @type {string} */ (event.key)];
      if (step) show((place + step + tabs.length) % tabs.length, true);
    });
  });
  events.on(select, "change", () => filterChanged.fire());

  function drawFilter() {
    const wanted = sortedTerminals(store).map((terminal) => [terminal.terminal_id, terminal.label || terminal.terminal_id]);
    const shown = JSON.stringify(wanted);
    if (select.dataset["shown"] === shown) return;
    select.dataset["shown"] = shown;
    const before = select.value;
    select.replaceChildren(el("option", { value: "" }, "All terminals"), ...wanted.map(([id, label]) => el("option", { value: id }, label ?? "")));
    select.value = before;
    if (select.value !== before) {
      select.value = "";
      filterChanged.fire();
    }
  }

  /** @param {number} pixels */
  function setHeight(pixels) {
    const height = Math.round(Math.max(120, Math.min(pixels, innerHeight - 260)));
    document.body.style.setProperty("--dock", `${height}px`);
    storage.setItem(HEIGHT, String(height));
  }

  events.on(grip, "pointerdown", (event) => {
    grip.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  events.on(grip, "pointermove", (event) => {
    if (grip.hasPointerCapture(event.pointerId)) setHeight(dock.getBoundingClientRect().bottom - event.clientY);
  });
  events.on(grip, "keydown", (event) => {
    const step = { ArrowUp: 24, ArrowDown: -24 }[/** @type {string} */ (event.key)];
    if (step) setHeight(dock.getBoundingClientRect().height + step);
  });
  const kept = Number(storage.getItem(HEIGHT));
  if (kept) setHeight(kept);

  const frame = onceAFrame(drawFilter);
  events.keep(store.terminalsChanged.subscribe(frame.ask), frame.end);
  return {
    detach: events.end,
    show,
    filter: () => select.value,
    /** @param {() => void} listener */
    filterChanged: (listener) => filterChanged.subscribe(listener),
  };
}
