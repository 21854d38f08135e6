// @ts-check
// Dark or light: kept in the browser, taken over by the canvas as well.
import { find, listening, setText } from "./dom.js";

/** @param {() => void} changed the page's colours are different from now on */
export function attachTheme(changed) {
  const button = find("#theme-toggle", HTMLButtonElement);
  const root = document.documentElement;
  const events = listening();
  const label = () => setText(button, root.dataset["theme"] === "light" ? "Dark theme" : "Light theme");
  events.on(button, "click", () => {
    root.dataset["theme"] = root.dataset["theme"] === "light" ? "dark" : "light";
    localStorage.setItem("tradedist.theme", root.dataset["theme"]);
    label();
    changed();
  });
  label();
  return events.end;
}
