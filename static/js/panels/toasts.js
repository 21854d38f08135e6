// @ts-check
// Messages that come and go over the chart. One of the same key replaces the one before it.
import { el } from "./dom.js";

/** @typedef {{key: string, tone?: "good" | "bad" | "warn", title: string, code?: string, text?: string}} Toast */

const MOST = 4;
const SHORT_MS = 4_000;
const LONG_MS = 12_000;

/** @param {HTMLElement} root */
export function attachToasts(root) {
  /** @type {Map<string, {node: HTMLElement, timer: ReturnType<typeof setTimeout>}>} */
  const shown = new Map();

  /** @param {string} key */
  function drop(key) {
    const toast = shown.get(key);
    if (!toast) return;
    clearTimeout(toast.timer);
    toast.node.remove();
    shown.delete(key);
  }

  /** @param {Toast} toast */
  function say({ key, tone, title, code = "", text = "" }) {
    const close = el("button", { type: "button", "aria-label": "Dismiss" }, "×");
    close.addEventListener("click", () => drop(key));
    const node = el("div", { class: `toast${tone ? ` toast-${tone}` : ""}`, "data-testid": "toast", "data-tone": tone ?? "" },
      el("b", {}, title), close);
    if (code || text) node.append(el("p", {}, ...(code ? [el("code", { "data-testid": "toast-code" }, code), " "] : []), text));
    const before = shown.get(key);
    if (before) {
      clearTimeout(before.timer);
      before.node.replaceWith(node);
    } else {
      root.append(node);
    }
    const wait = tone === "bad" || tone === "warn" ? LONG_MS : SHORT_MS;
    shown.set(key, { node, timer: setTimeout(() => drop(key), wait) });
    for (const oldest of [...shown.keys()].slice(0, -MOST)) drop(oldest);
  }

  const clear = () => [...shown.keys()].forEach(drop);
  return { say, clear, detach: clear };
}
