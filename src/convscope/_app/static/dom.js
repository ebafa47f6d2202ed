/** Elements of the page, and how numbers are written. */

/** @typedef {Node | string | number | null | undefined | false | any[]} Child */

const SVG = new Set(["svg", "g", "path", "rect", "line", "circle", "polyline", "text", "title", "image"]);

/**
 * An element: `h("a.quiet", {href, onclick}, "text")`. Attributes that are false or null are left
 * out; `on…` are listeners; `style` may be an object.
 * @param {string} name a tag, with classes after dots
 * @param {Record<string, any> | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const svg = SVG.has(tag) && !(tag === "title" && !attributes?.svg);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) set(element, key, value);
  element.append(
    ...children
      .flat(3)
      .filter((c) => c || c === 0 || c === "")
      .map(toNode),
  );
  return element;
}

/** @param {any} child */
const toNode = (child) => (child instanceof Node ? child : String(child));

/** @param {any} element @param {string} key @param {any} value */
function set(element, key, value) {
  if (value === false || value === null || value === undefined || key === "svg") return;
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "style" && typeof value === "object") {
    for (const [name, part] of Object.entries(value)) element.style.setProperty(name, part);
  } else if (key in element && ["value", "checked", "disabled", "hidden"].includes(key)) {
    element[key] = value;
  } else element.setAttribute(key, value === true ? "" : String(value));
}

/** @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children
      .flat(3)
      .filter((c) => c || c === 0)
      .map(toNode),
  );
  return element;
}

/**
 * A number for people: four significant digits, a true minus, no padding.
 * @param {number | null | undefined} value
 */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−").replace("e+", "e");
}

/** @param {number} share 0 … 1 */
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1 %";
  return `${value >= 99.95 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/**
 * The message of an empty or failed panel: a sentence, and what to do.
 * @param {string} title @param {Child | Child[]} [advice] @param {Child} [action]
 */
export function notice(title, advice, action) {
  return h("div.notice", null, h("p.notice-title", null, title), advice && h("p", null, advice), action);
}

/** @param {string} path lines may break after dots and slashes */
export function breakable(path) {
  return path.split(/(?<=[./_])/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));
}

let statusTimer = 0;
/** Announce a status to screen readers, and show it for a moment where `visible`. */
export function announce(/** @type {string} */ text, visible = true) {
  const place = document.getElementById("status");
  if (!place) return;
  place.textContent = text;
  place.classList.toggle("visible", visible);
  window.clearTimeout(statusTimer);
  statusTimer = window.setTimeout(() => place.classList.remove("visible"), 2600);
}
