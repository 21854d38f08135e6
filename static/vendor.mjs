// Copies what the page loads from node_modules to static/vendor/, which git ignores. Run by `npm run vendor`, after
// `npm ci`. The page imports the standalone build as it is published, with its licence and attribution beside it.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, "..", "node_modules", "lightweight-charts");
const target = join(here, "vendor");

const { version } = JSON.parse(await readFile(join(source, "package.json"), "utf8"));
await mkdir(target, { recursive: true });
await copyFile(
  join(source, "dist", "lightweight-charts.standalone.production.mjs"),
  join(target, "lightweight-charts.mjs"),
);
// for `npm run types` alone: the browser never asks for it
await copyFile(join(source, "dist", "typings.d.ts"), join(target, "lightweight-charts.d.mts"));
await copyFile(join(source, "LICENSE"), join(target, "lightweight-charts.LICENSE.txt"));
await copyFile(join(here, "..", "NOTICE"), join(target, "NOTICE.txt"));
await writeFile(join(target, "versions.json"), `${JSON.stringify({ "lightweight-charts": version })}\n`);
console.log(`static/vendor: lightweight-charts ${version}`);
