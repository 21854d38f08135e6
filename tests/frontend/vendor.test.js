// What is copied from npm, and that the content policy still names the chart library's one inline style.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import test from "node:test";

const root = new URL("../../", import.meta.url);
const read = (path) => readFile(new URL(path, root), "utf8");

test("the lock pins lightweight-charts 5.2.1 and names no registry", async () => {
  const text = await read("package-lock.json");
  const lock = JSON.parse(text);
  assert.equal(lock.packages["node_modules/lightweight-charts"].version, "5.2.1");
  assert.ok(Object.entries(lock.packages).every(([name, entry]) => name === "" || entry.integrity), "each has its hash");
  assert.doesNotMatch(text, /https?:|"resolved"/);
});

test("the content policy allows exactly the style that the attribution logo brings", async () => {
  const library = await read("static/vendor/lightweight-charts.mjs");
  const [style] = library.match(/a#tv-attr-logo\{.*?\}a#tv-attr-logo\[data-dark\]\{.*?\}/) ?? [];
  assert.ok(style, "the library has changed how it styles its logo");
  const hash = createHash("sha256").update(style).digest("base64");
  assert.ok((await read("tradedist/security_headers.py")).includes(`sha256-${hash}`));
});

test("NOTICE carries the attribution that lightweight-charts asks for", async () => {
  const notice = await read("NOTICE");
  assert.match(notice, /TradingView Lightweight Charts/);
  assert.match(notice, /https:\/\/www\.tradingview\.com\//);
  assert.match(await read("templates/charts/index.html"), /Copyright © 2023 TradingView, Inc\./);
  assert.match(await read("static/js/chart/price-chart.js"), /attributionLogo: true/);
});

test("the page has no inline script, style or handler", async () => {
  for (const path of ["templates/base.html", "templates/charts/index.html", "templates/registration/login.html"]) {
    const html = await read(path);
    assert.doesNotMatch(html, /<style|\sstyle=|\son[a-z]+=|javascript:/i, path);
    for (const [tag] of html.matchAll(/<script[^>]*>/g)) assert.match(tag, / src=/, path);
  }
});
