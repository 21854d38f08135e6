// @ts-check
// Small pieces of DOM that every panel is made of: elements, text that is only touched when it changes, keyed rows
// that keep their nodes (a button replaced between press and release would lose the click), work once a frame.

/**
 * @param {string} tag
 * @param {Record<string, string | boolean | undefined>} [attributes]
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (typeof value === "string") node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/**
 * The page's own element: a missing one is a mistake in the template.
 * @template {HTMLElement} T
 * @param {string} selector
 * @param {new (...parameters: any) => T} kind
 * @param {ParentNode} [within]
 * @returns {T}
 */
export function find(selector, kind, within = document) {
  const node = within.querySelector(selector);
  if (!(node instanceof kind)) throw new Error(`the page has no ${selector}`);
  return node;
}

/** @param {Element} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} name @param {string | null} value null removes it */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) === value) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

/** @param {Element} node @param {string} name */
export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/**
 * Events of one attach, all ended together.
 * @returns {{on: (target: EventTarget, name: string, listener: (event: any) => void) => void, keep: (...ends: (() => void)[]) => void, end: () => void}}
 */
export function listening() {
  const controller = new AbortController();
  /** @type {(() => void)[]} */
  const ends = [];
  return {
    on: (target, name, listener) => target.addEventListener(name, listener, { signal: controller.signal }),
    keep: (...more) => void ends.push(...more),
    end: () => {
      controller.abort();
      for (const end of ends.splice(0)) end();
    },
  };
}

/**
 * Calls `work` at most once a frame however often it is asked for.
 * @param {() => void} work
 */
export function onceAFrame(work) {
  let frame = 0;
  const ask = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      work();
    });
  };
  return { ask, end: () => cancelAnimationFrame(frame) };
}

/**
 * Children of `parent` by key, in the order of `items`. A key keeps its node.
 * @template Item
 * @template {{node: HTMLElement}} View
 */
export class KeyedNodes {
  /** @type {Map<string, View>} */
  #views = new Map();
  #parent;
  #make;
  #fill;

  /**
   * @param {HTMLElement} parent
   * @param {(key: string) => View} make
   * @param {(view: View, item: Item) => void} fill
   */
  constructor(parent, make, fill) {
    this.#parent = parent;
    this.#make = make;
    this.#fill = fill;
  }

  /** @param {Item[]} items @param {(item: Item) => string} keyOf */
  show(items, keyOf) {
    /** @type {Set<string>} */
    const kept = new Set();
    let next = this.#parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      kept.add(key);
      let view = this.#views.get(key);
      if (!view) this.#views.set(key, (view = this.#make(key)));
      if (view.node === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(view.node, next);
      this.#fill(view, item);
    }
    for (const [key, view] of this.#views) {
      if (kept.has(key)) continue;
      view.node.remove();
      this.#views.delete(key);
    }
  }
}

/**
 * A table row with one cell a name; `cells.profit` is the cell of "profit". A class follows a dot: "profit.r".
 * @param {string} testId
 * @param {string[]} columns
 */
export function tableRow(testId, columns) {
  const node = document.createElement("tr");
  node.dataset["testid"] = testId;
  /** @type {Record<string, HTMLTableCellElement>} */
  const cells = {};
  for (const column of columns) {
    const [name = "", ...classes] = column.split(".");
    const cell = node.insertCell();
    cell.className = classes.join(" ");
    cell.dataset["cell"] = name;
    cells[name] = cell;
  }
  return { node, cells };
}

/** Text and tone of a cell, keeping its alignment. @param {HTMLElement | undefined} cell @param {string} text @param {string} [tone] */
export function fillCell(cell, text, tone = "") {
  if (!cell) return;
  setText(cell, text);
  cell.classList.toggle("up", tone === "up");
  cell.classList.toggle("down", tone === "down");
}
