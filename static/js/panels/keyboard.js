// @ts-check
// Keys for the whole page. Not while a text is typed or a dialog is open; Esc always leaves.
import { listening } from "./dom.js";

/**
 * @param {object} parts
 * @param {Record<string, () => void>} parts.keys by the key's name
 * @param {() => void} parts.leave
 */
export function attachKeyboard({ keys, leave }) {
  const events = listening();
  events.on(document, "keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
      leave();
      return;
    }
    const typing = event.target instanceof Element && event.target.closest("input:not([type=checkbox]), select, textarea");
    if (typing || event.altKey || event.repeat) return;
    const name = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + event.key.toLowerCase();
    const act = keys[name];
    if (!act) return;
    event.preventDefault();
    act();
  });
  return events.end;
}
