// @ts-check
// The dialogs: a question before several positions close, the keyboard's keys, about this program.
import { el, find, listening } from "./dom.js";

/** @import {Question} from "../actions.js" */

export function attachDialogs() {
  const dialog = find("#confirm", HTMLDialogElement);
  const title = find("#confirm-title", HTMLElement);
  const body = find("#confirm-body", HTMLElement);
  const yes = find("[data-testid=confirm-yes]", HTMLButtonElement);
  const menu = find("#user-menu", HTMLDetailsElement);
  const events = listening();

  /** @param {Question} question @returns {Promise<boolean>} */
  function confirm(question) {
    if (dialog.open) return Promise.resolve(false);
    title.textContent = question.title;
    yes.textContent = question.yes;
    body.replaceChildren(el("ul", {}, ...question.lines.map((line) => el("li", {}, line))));
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  for (const name of ["keys", "about"]) {
    events.on(find(`#${name}-open`, HTMLButtonElement), "click", () => {
      menu.open = false;
      find(`#${name}`, HTMLDialogElement).showModal();
    });
  }
  events.on(document, "pointerdown", (event) => {
    if (menu.open && event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
  });
  return {
    confirm,
    leave: () => {
      menu.open = false;
    },
    detach: events.end,
  };
}
