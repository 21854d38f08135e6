// @ts-check
// The ticket's list of terminals: which of them the order goes to, with shortcuts for all, none and each group.
import { Delegate } from "../delegate.js";
import { money } from "../format.js";
import { groups, sortedTerminals, takesOpens } from "../selectors.js";
import { KeyedNodes, el, find, listening, onceAFrame, setAttribute, setClass, setText } from "./dom.js";
import { dotOf } from "./terminals.js";

/**
 * @import {Terminal} from "../messages.js"
 * @import {Store} from "../store.js"
 * @typedef {{node: HTMLElement, box: HTMLInputElement, label: HTMLElement, dot: HTMLElement, name: HTMLElement, more: HTMLElement}} Target
 */

const MAX_GROUPS = 12;

/** @param {Store} store */
export function attachTargets(store) {
  const list = find("#target-list", HTMLElement);
  const chips = find("#target-chips", HTMLElement);
  const counted = find("#targets-count", HTMLElement);
  const changed = /** @type {Delegate<void>} */ (new Delegate());
  const events = listening();
  /** Terminals that the trader left out; a new terminal is in until he says otherwise. @type {Set<string>} */
  const left = new Set();

  const offered = () => sortedTerminals(store).filter((terminal) => terminal.can_trade);
  const chosen = () => offered().filter((terminal) => !left.has(terminal.terminal_id)).map((terminal) => terminal.terminal_id);

  /** @param {string} id @returns {Target} */
  function makeTarget(id) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.dataset["terminal"] = id;
    box.dataset["testid"] = `target-${id}`;
    const dot = el("span", { "aria-hidden": "true" });
    const name = el("span", { class: "target-name" });
    const more = el("span", { class: "target-more num" });
    const label = el("label", { class: "target" }, box, dot, name, more);
    return { node: el("li", {}, label), box, label, dot, name, more };
  }

  /** @type {KeyedNodes<Terminal, Target>} */
  const nodes = new KeyedNodes(list, makeTarget, ({ label, box, dot, name, more }, terminal) => {
    box.checked = !left.has(terminal.terminal_id);
    setClass(dot, dotOf(terminal));
    setText(name, terminal.label || terminal.terminal_id);
    const open = takesOpens(terminal);
    const { account } = terminal;
    setText(more, open ? (account ? `${money(account.equity)} ${account.currency}` : "") : terminal.enabled ? terminal.effective_mode.toLowerCase() : "disabled");
    setAttribute(label, "title", open ? null : "This terminal opens nothing now; it will answer why.");
  });

  function drawChips() {
    const offeredIds = offered().map((terminal) => terminal.terminal_id);
    /** @type {[string, string, string[]][]} */
    const wanted = [["all", "All", offeredIds], ["none", "None", []]];
    for (const [group, ids] of groups(store).slice(0, MAX_GROUPS)) {
      if (ids.length < offeredIds.length) wanted.push([`group-${group}`, group, ids]); // else it says the same as "All"
    }
    const now = chosen();
    const shown = JSON.stringify([wanted, now]);
    if (chips.dataset["shown"] === shown) return;
    chips.dataset["shown"] = shown;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset["chip"] : undefined;
    chips.replaceChildren(...wanted.map(([key, name, ids]) => el("button", {
      type: "button", class: "chip", "data-chip": key, "data-testid": `targets-${key}`, "data-ids": JSON.stringify(ids),
      "aria-pressed": String(ids.length === now.length && ids.every((id) => now.includes(id))),
    }, name)));
    if (focused) chips.querySelectorAll("button").forEach((chip) => chip.dataset["chip"] === focused && chip.focus());
  }

  function draw() {
    const shown = offered();
    nodes.show(shown, (terminal) => terminal.terminal_id);
    drawChips();
    setText(counted, `${chosen().length} of ${shown.length}`);
    changed.fire();
  }

  events.on(list, "change", (event) => {
    const id = event.target instanceof HTMLInputElement ? event.target.dataset["terminal"] : undefined;
    if (!id) return;
    if (event.target.checked) left.delete(id);
    else left.add(id);
    draw();
  });
  events.on(chips, "click", (event) => {
    const chip = event.target instanceof Element ? event.target.closest("button") : null;
    if (!chip) return;
    /** @type {string[]} */
    const ids = JSON.parse(chip.dataset["ids"] ?? "[]");
    left.clear();
    for (const terminal of offered()) if (!ids.includes(terminal.terminal_id)) left.add(terminal.terminal_id);
    draw();
  });

  const frame = onceAFrame(draw);
  events.keep(store.terminalsChanged.subscribe(frame.ask), frame.end);
  return { chosen, changed, detach: events.end };
}
