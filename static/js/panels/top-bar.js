// @ts-check
// The top bar: timeframes, last price, connection and latency, who is signed in.
import { micros, points, price } from "../format.js";
import { el, find, listening, onceAFrame, setAttribute, setClass, setText } from "./dom.js";

/**
 * @import {Store, Connection} from "../store.js"
 * @import {ReliableSocket} from "../socket.js"
 */

const OLD_S = 30;

/** @type {Record<Connection, string>} */
const WORDS = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  "redis-down": "Redis down",
  "signed-out": "Signed out",
};

/** @type {Record<Connection, string>} */
const MEANING = {
  connecting: "The page connects to the server.",
  live: "Prices and orders arrive as they happen.",
  reconnecting: "The connection was lost. It is tried again by itself; orders without an answer are kept and sent again.",
  "redis-down": "The server's store does not answer: nothing new is accepted. It heals by itself.",
  "signed-out": "The session has ended. Sign in again.",
};

/** @param {{store: Store, latencies: ReliableSocket["latencies"]}} parts */
export function attachTopBar({ store, latencies }) {
  const last = find("#last-price", HTMLElement);
  const spread = find("#last-spread", HTMLElement);
  const pill = find("#connection", HTMLElement);
  const pillText = find("#connection-text", HTMLElement);
  const latency = find("#latency", HTMLElement);
  const name = find("#user-name", HTMLElement);
  const role = find("#user-role", HTMLElement);
  const buttons = [...find("#timeframes", HTMLElement).querySelectorAll("button")];
  const events = listening();
  let before = 0;
  let lastMs = /** @type {number | null} */ (null);
  let tickedAt = performance.now();

  /** Says so when no tick has come for a while: an old price is not today's. */
  function drawAge() {
    const seconds = Math.floor((performance.now() - tickedAt) / 1_000);
    const old = store.connection === "live" && seconds >= OLD_S;
    last.classList.toggle("old", old);
    if (old) setText(spread, `no tick for ${seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`}`);
  }

  function drawPrice() {
    const info = store.symbols.get(store.symbol);
    const tick = store.ticks.get(store.symbol);
    if (!info || !tick) {
      setText(last, "–");
      setText(spread, "");
      return;
    }
    setText(last, price(tick.bid, info.digits));
    if (tick.bid !== before) setClass(last, `last-price num ${before && tick.bid < before ? "down" : "up"}`);
    before = tick.bid;
    setText(spread, `spread ${points(tick.ask, tick.bid, info.point)}`);
    document.title = `${price(tick.bid, info.digits)} ${store.symbol} · Tradedist`;
  }

  function drawConnection() {
    const state = store.connection;
    setAttribute(pill, "data-state", state);
    setAttribute(pill, "title", MEANING[state]);
    if (state === "signed-out") {
      pillText.replaceChildren(el("a", { href: "/login/?next=/", "data-testid": "sign-in-again" }, "Signed out · sign in"));
    } else {
      setText(pillText, WORDS[state]);
    }
    setText(latency, state === "live" && lastMs !== null ? micros(lastMs * 1_000) : "");
  }

  function drawSelection() {
    for (const button of buttons) setAttribute(button, "aria-pressed", String(Number(button.dataset["seconds"]) === store.seconds));
    before = 0;
    tickedAt = performance.now();
    drawPrice();
  }

  for (const button of buttons) events.on(button, "click", () => store.select(store.symbol, Number(button.dataset["seconds"])));
  const frame = onceAFrame(drawPrice);
  const aging = setInterval(drawAge, 1_000);
  events.keep(
    () => clearInterval(aging),
    store.ticked.subscribe((symbol) => {
      if (symbol !== store.symbol) return;
      tickedAt = performance.now();
      frame.ask();
    }),
    store.selectionChanged.subscribe(drawSelection),
    store.connectionChanged.subscribe(drawConnection),
    store.userChanged.subscribe((user) => {
      setText(name, user.name);
      setText(role, user.role);
      role.hidden = false;
    }),
    latencies.subscribe((ms) => {
      lastMs = ms;
      drawConnection();
    }),
    frame.end,
  );
  drawSelection();
  drawConnection();
  return events.end;
}
