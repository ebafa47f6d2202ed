/** The view is stored in the hash of the address; only this module reads or writes it. */

import { CMAPS } from "convscope/colors";

/**
 * @typedef {object} View
 * @property {"home" | "layer" | "channel" | "compare" | "health"} screen
 * @property {string | null} layer
 * @property {number | null} channel
 * @property {[number, number] | null} position row and column
 * @property {string} input id of the input image
 * @property {string} other id of the image it is compared with
 * @property {string} tab
 * @property {"channel" | "layer" | "fixed"} range
 * @property {number} low @property {number} high the ends where the range is fixed
 * @property {string} cmap
 * @property {string} sort
 * @property {string} find
 * @property {boolean} inactive only inactive and constant channels
 * @property {string} stage "preprocessed" or "original": which image the input panel shows
 * @property {string} compare what is compared: "images", "layers" or "models"
 * @property {string} layerB the second layer of a comparison
 * @property {string} target of the attribution: a class's index, "unit", or nothing: the predicted class
 * @property {string} method of attribution; the first that the server offers where it is empty
 * @property {number | null} similar the channel that others are sorted by similarity to
 */

/** @type {View} */
export const DEFAULTS = {
  screen: "home",
  layer: null,
  channel: null,
  position: null,
  input: "",
  other: "",
  tab: "maps",
  range: "channel",
  low: 0,
  high: 1,
  cmap: "viridis",
  sort: "channel",
  find: "",
  inactive: false,
  stage: "preprocessed",
  compare: "images",
  layerB: "",
  target: "",
  method: "",
  similar: null,
};

const CHOICES = {
  tab: ["maps", "filters", "optimized", "examples", "attribution"],
  range: ["channel", "layer", "fixed"],
  cmap: CMAPS,
  sort: [
    "channel",
    "peak",
    "mean",
    "spread",
    "active",
    "selectivity",
    "exemplar",
    "attribution",
    "similarity",
  ],
  stage: ["preprocessed", "original"],
  compare: ["images", "layers", "models"],
};

/** @param {string} text as `encodeURIComponent`, but legible where a hash allows it */
const encode = (text) => encodeURIComponent(text).replace(/%2C/g, ",").replace(/%3A/g, ":");

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {string} hash @returns {View} */
export function read(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decode);
  const view = { ...DEFAULTS };
  if (parts[0] === "layer" && parts[1]) {
    view.screen = "layer";
    view.layer = parts[1];
    if (parts[2] === "channel" && /^\d+$/.test(parts[3] ?? "")) {
      view.screen = "channel";
      view.channel = Number(parts[3]);
      const at = /^(\d+),(\d+)$/.exec(parts[4] === "position" ? (parts[5] ?? "") : "");
      if (at) view.position = [Number(at[1]), Number(at[2])];
    }
  } else if (parts[0] === "compare" || parts[0] === "health") {
    view.screen = parts[0];
    if (parts[1] === "layer" && parts[2]) view.layer = parts[2];
  }
  return settings(view, new URLSearchParams(query));
}

/** @param {View} view @param {URLSearchParams} given */
function settings(view, given) {
  view.input = given.get("in") ?? "";
  view.other = given.get("b") ?? "";
  view.find = given.get("find") ?? "";
  view.inactive = given.get("inactive") === "1";
  view.layerB = given.get("layer_b") ?? "";
  if (/^(\d{1,9}|unit)$/.test(given.get("target") ?? "")) view.target = given.get("target") ?? "";
  if (/^\w{1,40}$/.test(given.get("method") ?? "")) view.method = given.get("method") ?? "";
  if (/^\d{1,6}$/.test(given.get("similar") ?? "")) view.similar = Number(given.get("similar"));
  for (const [name, known] of Object.entries(CHOICES)) {
    const value = given.get(name);
    if (value && known.includes(value)) /** @type {any} */ (view)[name] = value;
  }
  const ends = (given.get("span") ?? "").split(",").map(Number);
  if (ends.length === 2 && ends[0] < ends[1] && ends.every(Number.isFinite)) {
    [view.low, view.high] = ends;
  }
  return view;
}

/** @param {View} view @returns {string} */
export function write(view) {
  let path = "#/";
  if (view.screen === "layer" || view.screen === "channel") {
    path += `layer/${encode(view.layer ?? "")}`;
    if (view.screen === "channel") path += `/channel/${view.channel}`;
    if (view.screen === "channel" && view.position) path += `/position/${view.position.join(",")}`;
  } else if (view.screen !== "home") {
    path += view.screen + (view.screen === "compare" && view.layer ? `/layer/${encode(view.layer)}` : "");
  }
  const given = [];
  if (view.input) given.push(`in=${encode(view.input)}`);
  if (view.other) given.push(`b=${encode(view.other)}`);
  for (const name of Object.keys(CHOICES)) {
    const value = /** @type {any} */ (view)[name];
    if (value !== /** @type {any} */ (DEFAULTS)[name]) given.push(`${name}=${encode(value)}`);
  }
  if (view.range === "fixed") given.push(`span=${view.low},${view.high}`);
  if (view.layerB && view.screen === "compare") given.push(`layer_b=${encode(view.layerB)}`);
  if (view.target) given.push(`target=${view.target}`);
  if (view.method) given.push(`method=${view.method}`);
  if (view.similar !== null) given.push(`similar=${view.similar}`);
  if (view.find) given.push(`find=${encode(view.find)}`);
  if (view.inactive) given.push("inactive=1");
  return path + (given.length ? `?${given.join("&")}` : "");
}

/** Inside a notebook's page there is no address to write to: the view is only kept here. */
export const embedded = location.protocol === "about:";

/** @type {View} */
export let view = read(location.hash);

/** @type {Set<(view: View, before: View) => void>} */
const listeners = new Set();

/** @param {(view: View, before: View) => void} listener */
export function onchange(listener) {
  listeners.add(listener);
}

/** The address of a view that differs from this one by `change`. @param {Partial<View>} change */
export const link = (change) => write({ ...view, ...change });

/**
 * Go to a view. `quietly` replaces the address: moving a cursor makes no history.
 * @param {Partial<View>} change
 */
export function go(change, quietly = false) {
  const before = view;
  view = { ...view, ...change };
  const hash = write(view);
  if (!embedded && hash !== location.hash) history[quietly ? "replaceState" : "pushState"](null, "", hash);
  for (const listener of listeners) listener(view, before);
}

addEventListener("hashchange", () => follow());
addEventListener("popstate", () => follow());
if (embedded)
  document.addEventListener("click", (event) => {
    const hash = /** @type {HTMLElement} */ (event.target).closest?.("a[href^='#/']")?.getAttribute("href");
    if (!hash || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    follow(hash);
  });

function follow(hash = location.hash) {
  const next = read(hash);
  if (!next.input && view.input) {
    // an address written by hand: keep the input image
    next.input = view.input;
    if (!embedded) history.replaceState(null, "", write(next));
  }
  if (write(next) === write(view)) return;
  const before = view;
  view = next;
  for (const listener of listeners) listener(view, before);
}

/** @returns {"light" | "dark"} */
export function theme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** @type {Set<() => void>} */
const redrawers = new Set();
/** @param {() => void} redraw called when the theme changes */
export function ontheme(redraw) {
  redrawers.add(redraw);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  redrawers.forEach((redraw) => redraw()),
);

export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store("theme", next);
  redrawers.forEach((redraw) => redraw());
}

/** A stored setting; a page that was opened from disk may not have access. @param {string} name */
export function stored(name) {
  try {
    return localStorage.getItem(`convscope-${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
export function store(name, value) {
  try {
    localStorage.setItem(`convscope-${name}`, value);
  } catch {
    // the app works without it
  }
}
