// @ts-check
// One fill's way as a small waterfall in a dialog: each hop with its time, ours apart from the broker's and the page's.
import { micros } from "../format.js";
import { terminalLabel } from "../selectors.js";
import { waterfall } from "../trace.js";
import { el, find, setText } from "./dom.js";

/**
 * @import {ClockOffset, Hop} from "../trace.js"
 * @import {Order, Store} from "../store.js"
 */

/** @param {{store: Store, clock: ClockOffset}} parts */
export function attachTraceView({ store, clock }) {
  const dialog = find("#trace", HTMLDialogElement);
  const about = find("#trace-about", HTMLElement);
  const rows = find("#trace-hops", HTMLElement);
  const sums = find("#trace-sums", HTMLElement);

  /** @param {Hop} hop @param {number} whole */
  function row(hop, whole) {
    const bar = el("span", { class: `hop-bar hop-${hop.part}` });
    bar.style.marginLeft = `${(100 * hop.start_us) / whole}%`;
    bar.style.width = `${Math.max(0.5, (100 * hop.us) / whole)}%`;
    return el("tr", { "data-hop": hop.name, "data-part": hop.part },
      el("th", { scope: "row" }, hop.label), el("td", { class: "hop-track" }, bar), el("td", { class: "r num" }, micros(hop.us)));
  }

  /** @param {Order} order */
  function show(order) {
    const found = waterfall(order.report, order.page, clock.best);
    const { report } = order;
    setText(about, `${terminalLabel(store, report.terminal_id)}, ${report.action} ${report.symbol}${found?.by ? `, woken by ${found.by}` : ""}`);
    const last = found?.hops.at(-1);
    const whole = Math.max(1, last ? last.start_us + last.us : 1);
    rows.replaceChildren(...(found?.hops ?? []).map((hop) => row(hop, whole)));
    sums.replaceChildren(...(found
      ? [
          sum("own", "Our own part", found.own_us), sum("broker", "Terminal and broker", found.broker_us),
          ...(order.page ? [sum("page", "Page and network", found.page_us), sum("total", "Click to fill", found.total_us)] : []),
        ]
      : [el("span", {}, "Nothing was measured of it.")]));
    if (!dialog.open) dialog.showModal();
  }

  return { show };
}

/** @param {string} name @param {string} label @param {number} us */
function sum(name, label, us) {
  return el("span", { "data-sum": name }, label, el("b", {}, micros(us)));
}
