// @ts-check
// One connection state out of the two sockets, and the end of the session: a refused connection may mean that, so the
// server is asked. Both sockets hurry when the network or the page's tab comes back.
import { NOT_SIGNED_IN } from "./socket.js";

/**
 * @import {ReliableSocket} from "./socket.js"
 * @import {Sender} from "./sender.js"
 * @import {Store} from "./store.js"
 */

const ASK_EVERY_MS = 2_000;

/**
 * @param {object} parts
 * @param {Store} parts.store
 * @param {Sender} parts.sender
 * @param {ReliableSocket} parts.orders
 * @param {ReliableSocket} parts.market
 * @param {() => Promise<string | null>} parts.whoAmI a name, "" when signed out, null when not known
 * @param {() => void} parts.reload
 */
export function attachSession({ store, sender, orders, market, whoAmI, reload }) {
  const controller = new AbortController();
  let signedOut = false;
  let everLive = false;
  let askedAt = -Infinity;

  function combine() {
    const live = orders.state === "live" && (market.state === "live" || !store.symbol);
    if (live) {
      signedOut = false;
      everLive = true;
    }
    store.setSockets(signedOut ? "signed-out" : live ? "live" : everLive ? "reconnecting" : "connecting");
  }

  /** @param {boolean} ended */
  function sessionIs(ended) {
    signedOut = ended;
    if (ended) store.cursor = null; // whoever signs in next starts from a snapshot of his own
    combine();
  }

  /** @param {number} code */
  async function onClose(code) {
    if (code === NOT_SIGNED_IN) return sessionIs(true);
    const now = performance.now();
    if (now - askedAt < ASK_EVERY_MS) return;
    askedAt = now;
    const name = await whoAmI();
    if (name !== null && orders.state !== "live") sessionIs(name === "");
  }

  /** A connection resumed by its cursor does not say whose it is: another tab may have signed in someone else. */
  async function confirm() {
    while (orders.state === "live") {
      const name = await whoAmI();
      if (name && name !== store.user?.name) return reload();
      if (name && orders.state === "live") return sender.sendAgain();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }

  /** @param {import("./socket.js").SocketState} state */
  function onOrders(state) {
    sender.distrust();
    if (state === "live" && store.cursor) void confirm(); // else a snapshot comes, which names the user
    combine();
  }

  const hurry = () => {
    orders.hurry();
    if (store.symbol) market.hurry();
  };
  const ends = [
    orders.states.subscribe(onOrders),
    market.states.subscribe(combine),
    orders.closes.subscribe((code) => void onClose(code)),
    market.closes.subscribe((code) => void (code === NOT_SIGNED_IN && sessionIs(true))),
  ];
  const silence = setInterval(() => store.lookForSilence(), 1_000);
  addEventListener("online", hurry, { signal: controller.signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && hurry(), { signal: controller.signal });
  return () => {
    controller.abort();
    clearInterval(silence);
    for (const end of ends) end();
  };
}
