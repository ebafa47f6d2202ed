/** Controls and legends of the color scale; tabs. */

import { CMAPS, gradient, MARK_COLORS } from "convscope/colors";
import { h, number } from "convscope/dom";
import { extent, isVector } from "convscope/maps";
import { session } from "convscope/api";
import { go, view } from "convscope/state";

const RANGES = { channel: "Each channel's own", layer: "The whole layer's", fixed: "Fixed" };

/**
 * A labeled choice. @param {string} label @param {Record<string, string>} options @param {string} value
 * @param {(value: string) => void} change @param {string} [id]
 */
export function choice(label, options, value, change, id) {
  const select = h(
    "select.select",
    { id, onchange: (/** @type {any} */ e) => change(e.target.value) },
    Object.entries(options).map(([key, name]) =>
      h("option", { value: key, selected: key === value }, name),
    ),
  );
  return h("label.control", null, h("span", null, label), select);
}

/** Range and color map. @param {() => [number, number]} [suggest] ends for a fixed range */
export function coloring(suggest) {
  const parts = [
    choice(
      "Range",
      RANGES,
      view.range,
      (range) => {
        const [low, high] = range === "fixed" && suggest ? suggest() : [view.low, view.high];
        go({ range: /** @type {any} */ (range), low, high: high > low ? high : low + 1 });
      },
      "range",
    ),
    choice(
      "Colors",
      Object.fromEntries(CMAPS.map((name) => [name, name])),
      view.cmap,
      (cmap) => go({ cmap }),
      "cmap",
    ),
  ];
  if (view.range === "fixed") parts.splice(1, 0, end("from", "low"), end("to", "high"));
  return parts;
}

/** @param {string} label @param {"low" | "high"} which */
function end(label, which) {
  return h(
    "label.control",
    null,
    label,
    h("input.text", {
      type: "number",
      step: "any",
      value: Number(view[which].toPrecision(4)),
      onchange: (/** @type {any} */ event) => {
        const value = Number(event.target.value);
        const [low, high] = which === "low" ? [value, view.high] : [view.low, value];
        if (Number.isFinite(value) && low < high) go({ low, high });
        else event.target.value = view[which];
      },
    }),
  );
}

/** @param {string} low @param {string} high @param {string} [cmap] */
export const ramp = (low, high, cmap = view.cmap) =>
  h("span.ramp", null, low, h("i", { style: { background: gradient(cmap) } }), high);

/** What the colors of a block mean, in words. @param {import("convscope/maps").Block} block */
export function rangeWords(block) {
  if (view.range === "fixed") return "one fixed range for all";
  if (view.range === "layer" || isVector(block)) return "one range for the whole layer";
  return "each channel's own minimum to maximum";
}

/** @param {import("convscope/maps").Block} block @param {string} what model, layer and input */
export function legend(block, what) {
  let [low, high] = view.range === "fixed" ? [view.low, view.high] : extent(block);
  if (view.cmap === "signed")
    [low, high] = [-Math.max(Math.abs(low), Math.abs(high)), Math.max(Math.abs(low), Math.abs(high))];
  const own = view.range === "channel" && !isVector(block);
  const flat = !isVector(block) && block.states.some((state) => state === "zero" || state === "constant");
  const nonFinite = block.states.some((state) => state === "nan" || state === "inf");
  const pooled = !isVector(block) && (block.full[0] !== block.height || block.full[1] !== block.width);
  return h(
    "div.legend",
    null,
    own
      ? ramp(view.cmap === "signed" ? "−own" : "own min", view.cmap === "signed" ? "+own" : "own max")
      : ramp(number(low), number(high)),
    h("span", null, `${what} · ${view.cmap}, ${rangeWords(block)}`),
    flat && h("span", null, h("span.swatch.hatch"), "constant"),
    nonFinite &&
      h(
        "span",
        null,
        h("span.swatch", { style: { background: MARK_COLORS.nan } }),
        "NaN ",
        h("span.swatch", { style: { background: MARK_COLORS.posInf } }),
        "+∞ ",
        h("span.swatch", { style: { background: MARK_COLORS.negInf } }),
        "−∞",
      ),
    pooled &&
      h(
        "span",
        null,
        `max-pooled from ${block.full[0]}×${block.full[1]} to ${block.height}×${block.width}`,
      ),
  );
}

/** Model, layer and input, as every legend names them. @param {string} [layer] @param {string} [name] */
export function describe(layer, name) {
  return [session.model?.title ?? session.model?.name, layer, name].filter(Boolean).join(" · ");
}

/**
 * Tabs of a panel with the id "panel". @param {Record<string, string>} names @param {string} now
 * @param {string} label @param {(name: string) => void} change
 */
export function tabs(names, now, label, change) {
  return h(
    "div.tabs",
    { role: "tablist", "aria-label": label, onkeydown: moveBetweenTabs },
    Object.entries(names).map(([name, text]) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          "aria-selected": String(name === now),
          "aria-controls": "panel",
          tabindex: name === now ? 0 : -1,
          onclick: () => change(name),
        },
        text,
      ),
    ),
  );
}

/** @param {KeyboardEvent} event */
function moveBetweenTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [.../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("button")];
  const next =
    tabs[(tabs.indexOf(/** @type {any} */ (document.activeElement)) + step + tabs.length) % tabs.length];
  next.click();
  requestAnimationFrame(() => setTimeout(() => document.getElementById(next.id)?.focus(), 60));
}
