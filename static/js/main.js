// @ts-check
// The composition root: makes the store, the two sockets, the sender and the panels, and ties them together. Nothing
// is decided here.
import { Actions } from "./actions.js";
import * as api from "./api.js";
import { attachFillMarkers } from "./chart/fill-markers.js";
import { attachPositionLines } from "./chart/position-lines.js";
import { PriceChart } from "./chart/price-chart.js";
import { subscribe, watch } from "./messages.js";
import { attachChartView } from "./panels/chart-view.js";
import { attachDialogs } from "./panels/dialogs.js";
import { attachDock } from "./panels/dock.js";
import { find } from "./panels/dom.js";
import { attachKeyboard } from "./panels/keyboard.js";
import { attachNotices } from "./panels/notices.js";
import { attachFills, attachOrders } from "./panels/orders.js";
import { attachOrderTicket } from "./panels/order-ticket.js";
import { attachPendingDialog, attachPositionDialog } from "./panels/edit-dialogs.js";
import { attachPending } from "./panels/pending.js";
import { attachPositions } from "./panels/positions.js";
import { attachSymbolPicker } from "./panels/symbol-picker.js";
import { attachTerminals } from "./panels/terminals.js";
import { attachTheme } from "./panels/theme.js";
import { attachToasts } from "./panels/toasts.js";
import { attachTopBar } from "./panels/top-bar.js";
import { attachTraceView } from "./panels/trace-view.js";
import { Sender } from "./sender.js";
import { attachSession } from "./session.js";
import { ReliableSocket } from "./socket.js";
import { Store } from "./store.js";
import { attachTracing } from "./tracing.js";

/**
 * @import {ChartMessage, OrderMessage} from "./messages.js"
 */

const CANDLES = 600;
const CHOICE = "tradedist.chart";

const store = new Store();
const origin = location.origin.replace(/^http/, "ws");

const orders = new ReliableSocket({
  kind: "orders",
  address: () => `${origin}/ws/orders/${store.cursor ? `?cursor=${encodeURIComponent(store.cursor)}` : ""}`,
});
const market = new ReliableSocket({
  kind: "chart",
  address: () => `${origin}/ws/chart/?${new URLSearchParams({ symbol: store.symbol, seconds: String(store.seconds), count: String(CANDLES) })}`,
});
const sender = new Sender({
  store,
  send: (message) => orders.send(message),
  post: api.postSignal,
  storage: sessionStorage,
  now: () => performance.timeOrigin + performance.now(),
});

const toasts = attachToasts(find("#toasts", HTMLElement));
const dialogs = attachDialogs();
const actions = new Actions({
  store, sender, confirm: dialogs.confirm, say: (title, text) => toasts.say({ key: title, tone: "bad", title, text }),
});
const dock = attachDock({ store, storage: localStorage });
const container = find("#chart", HTMLElement);
const chart = new PriceChart(container);
const ticket = attachOrderTicket({ store, actions, storage: localStorage });
const picker = attachSymbolPicker(store);

attachNotices(store, toasts.say);
attachTopBar({ store, latencies: orders.latencies });
attachChartView({ store, chart, container });
attachFillMarkers(chart, store);
attachPositionLines(chart, store);
attachPositions({ store, actions, edit: attachPositionDialog({ store, actions }).show, ...dock });
attachPending({ store, actions, edit: attachPendingDialog({ store, actions }).show, ...dock });
attachOrders({ store, ...dock });
attachFills({ store, showTrace: attachTraceView({ store, clock: orders.clock }).show, ...dock });
attachTracing({ store, clock: orders.clock, send: (message) => orders.send(message) });
attachTerminals({ store });
attachTheme(() => chart.recolor());
attachKeyboard({
  keys: {
    b: () => ticket.focusSide("buy"),
    s: () => ticket.focusSide("sell"),
    l: ticket.focusLots,
    "ctrl+enter": ticket.place,
    "/": picker.open,
    1: () => dock.show(0, true),
    2: () => dock.show(1, true),
    3: () => dock.show(2, true),
    4: () => dock.show(3, true),
    5: () => dock.show(4, true),
  },
  leave: () => {
    picker.leave();
    dialogs.leave();
    ticket.leave();
    toasts.clear();
  },
});
attachSession({ store, sender, orders, market, whoAmI: api.whoAmI, reload: () => location.reload() });

orders.messages.subscribe((message) => {
  const orderMessage = /** @type {OrderMessage} */ (/** @type {unknown} */ (message));
  if (orderMessage.type === "accepted") sender.accepted(orderMessage.signal.signal_id);
  else if (orderMessage.type === "refused") sender.refused(orderMessage.signal_id, orderMessage.code, orderMessage.message);
  store.takeOrderMessage(orderMessage);
  if (orderMessage.type === "snapshot") {
    sender.restore();
    sender.sendAgain();
  }
});
market.messages.subscribe((message) => store.takeChartMessage(/** @type {ChartMessage} */ (/** @type {unknown} */ (message))));
market.states.subscribe((state) => state === "live" && market.send(watch([...store.symbols.keys()])));
store.selectionChanged.subscribe(() => {
  localStorage.setItem(CHOICE, JSON.stringify([store.symbol, store.seconds]));
  market.send(subscribe(store.symbol, store.seconds, CANDLES));
});

orders.start();
sender.start();
await loadSymbols();
market.start();

/** Until they are known there is no chart: tried again until they are. */
async function loadSymbols() {
  for (;;) {
    try {
      const items = await api.symbols();
      if (items.length) {
        store.setSymbols(items);
        const [symbol, seconds] = lastChoice();
        store.select(store.symbols.has(symbol) ? symbol : items[0]?.symbol ?? "", seconds);
        return;
      }
      find("#chart-note", HTMLElement).textContent = "No symbols yet. They appear when a terminal is connected.";
    } catch (error) {
      console.warn("The symbols could not be read; asked again in a second.", error);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

/** @returns {[string, number]} */
function lastChoice() {
  const offered = new Set([...document.querySelectorAll("#timeframes [data-seconds]")].map((button) => Number(button.getAttribute("data-seconds"))));
  try {
    const [symbol, seconds] = JSON.parse(localStorage.getItem(CHOICE) ?? "[]");
    return [typeof symbol === "string" ? symbol : "EURUSD", offered.has(seconds) ? seconds : 60];
  } catch {
    return ["EURUSD", 60]; // what was stored is not ours
  }
}
