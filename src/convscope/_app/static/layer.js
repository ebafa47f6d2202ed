/** A layer: all of its channels. */

import { coloring, choice, legend, describe, tabs } from "convscope/controls";
import { point } from "convscope/cursor";
import { breakable, fill, h, notice, number, plural } from "convscope/dom";
import { examples } from "convscope/examples";
import { filters } from "convscope/filters";
import { grid } from "convscope/grid";
import { extent, isFlat, isVector, labelsOf, layOut, correlations, paint, enlarged } from "convscope/maps";
import { input, json, maps, session } from "convscope/api";
import { optimizedTab } from "convscope/optimize";
import { source } from "convscope/source";
import { go, link, theme, view } from "convscope/state";

const TABS = { maps: "Maps", filters: "Filters", optimized: "Optimized", examples: "Dataset examples" };
const SORTS = {
  channel: "Channel",
  peak: "Peak",
  mean: "Mean",
  spread: "Spread",
  active: "Fraction active, on the dataset",
  exemplar: "Peak, on the dataset",
  selectivity: "Selectivity, on the dataset",
  attribution: "Attribution to the prediction",
  similarity: "Similarity",
};
const MARKS = { zero: "inactive", constant: "constant", nan: "NaN", inf: "∞", varied: "" };
const DESCRIPTIONS = {
  zero: "inactive on this image",
  constant: "constant",
  nan: "contains NaN",
  inf: "contains infinity",
  varied: "",
};

/** The layer that the address names. */
export function layerOf() {
  const found = session.byPath.get(view.layer ?? "");
  if (found) return found;
  const near = session.layers.find(
    (one) => one.path.includes(view.layer ?? "") || (view.layer ?? "").includes(one.path),
  );
  const close = near ? ` Close: ${near.path}.` : "";
  throw new Error(
    `No layer ${JSON.stringify(view.layer)} in ${session.model.title}.${close} Choose one from the list.`,
  );
}

/** @param {import("convscope/api").Layer} layer @param {any} [channel] */
export function crumbs(layer, channel) {
  const parts = [
    h("a", { href: link({ screen: "home", layer: null, channel: null, position: null }) }, "All layers"),
  ];
  if (channel !== undefined)
    parts.push(
      h("span", { "aria-hidden": "true" }, "›"),
      h("a", { href: link({ screen: "layer", channel: null, position: null }) }, layer.path),
    );
  return h("nav.crumbs", { "aria-label": "Where you are" }, parts);
}

/** @param {HTMLElement} parent */
export async function layer(parent) {
  const one = layerOf();
  const known = (tab) =>
    tab === "maps" ||
    (tab === "filters" && one.has_filters) ||
    (tab === "examples" && one.in_atlas) ||
    (tab === "optimized" && one.shape && !one.refusal);
  const tab = known(view.tab) ? view.tab : "maps";
  const body = h("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${tab}` });
  const facts = h(
    "p.facts",
    null,
    one.kind && h("span", null, one.kind),
    one.shape && h("span", null, one.shape.join("×")),
    one.parameters > 0 && h("span", null, plural(one.parameters, "parameter")),
    one.receptive_field && h("span", null, `receptive field ${one.receptive_field}`),
  );
  parent.append(
    crumbs(one),
    h("h1", null, breakable(one.path)),
    facts,
    tabs(
      Object.fromEntries(Object.entries(TABS).filter(([name]) => known(name))),
      tab,
      "Views of this layer",
      (to) => go({ tab: to }),
    ),
    body,
  );
  const make = { maps: mapsTab, filters, optimized: optimizedTab, examples };
  return /** @type {any} */ (make)[tab](body, one, facts);
}

/** The width of a map on the page, in pixels. @param {[number, number]} full */
export function cellSize(full) {
  const side = Math.max(...full);
  const phone = innerWidth < 500;
  if (side === 1) return phone ? 88 : 96;
  return side >= 28 ? (phone ? 100 : 116) : side >= 12 ? (phone ? 76 : 92) : phone ? 64 : 78;
}

/**
 * The values that channels are sorted by, highest first; null: by their index.
 * @param {any} layer @param {import("convscope/maps").Block} block
 */
async function sortValues(layer, block) {
  const all = (/** @type {(c: number) => number} */ of) =>
    Array.from({ length: block.channels }, (_, c) => of(c));
  if (view.sort === "peak") return all((c) => block.high[c]);
  if (view.sort === "mean") return all((c) => block.mean[c]);
  if (view.sort === "spread") return all((c) => block.high[c] - block.low[c]);
  if (view.sort === "attribution") {
    const query = /^\d/.test(view.target) ? `?target=${view.target}` : "";
    return (await json(`api/inputs/${view.input}/attribution/${layer.index}${query}`)).channels;
  }
  if (view.sort === "similarity") {
    if ((view.similar ?? 0) >= block.channels)
      throw new Error(`No channel ${view.similar}: there are ${block.channels}, from 0.`);
    return correlations(block, view.similar ?? 0);
  }
  if (["active", "selectivity", "exemplar"].includes(view.sort)) {
    const found = await json(`api/atlas/layers/${layer.index}`);
    return found[{ active: "active", selectivity: "selectivity", exemplar: "maximum" }[view.sort] ?? ""];
  }
  return null;
}

/**
 * @param {any} layer @param {import("convscope/maps").Block} block
 * @returns {Promise<{order: number[], values: number[] | null, trouble: string}>}
 */
async function ordered(layer, block) {
  let order = Array.from({ length: block.channels }, (_, c) => c);
  let values = null;
  let trouble = "";
  try {
    values = await sortValues(layer, block);
  } catch (error) {
    trouble = /** @type {Error} */ (error).message;
  }
  if (values) {
    const of = (/** @type {number} */ c) => values[c] ?? -Infinity;
    order.sort((a, b) => of(b) - of(a) || a - b);
  }
  if (view.inactive) order = order.filter((c) => isFlat(block, c));
  if (view.find) {
    const chosen = selection(view.find, layer, block.channels);
    order = order.filter((c) => chosen.has(c));
  }
  return { order, values, trouble };
}

/**
 * The channels that a search names: `3, 7, 12-20`, or a class in the last layer.
 * @param {string} text @param {any} layer @param {number} count
 */
function selection(text, layer, count) {
  const chosen = new Set();
  const classes =
    session.model.classes?.length === count && (layer.shape?.length === 1 || layer.shape?.[1] === 1)
      ? session.model.classes
      : [];
  for (const part of text
    .split(",")
    .map((p) => p.trim())
    .filter(Boolean)) {
    const range = /^(\d+)(?:\s*[-–]\s*(\d+))?$/.exec(part);
    if (range)
      for (let c = Number(range[1]); c <= Math.min(count, Number(range[2] ?? range[1])); c++) chosen.add(c);
    else
      classes.forEach(
        (/** @type {string} */ name, /** @type {number} */ c) =>
          name.toLowerCase().includes(part.toLowerCase()) && chosen.add(c),
      );
  }
  return chosen;
}

/** @param {HTMLElement} parent @param {any} layer @param {HTMLElement} facts */
async function mapsTab(parent, layer, facts) {
  const one = input(view.input);
  if (!one) {
    parent.append(
      notice(
        "There is no input image.",
        session.model.live
          ? "Drop an image anywhere on this page, or choose a demo image."
          : "This atlas was opened without its model. See Dataset examples.",
      ),
    );
    return {};
  }
  let block;
  try {
    block = enlarged(await maps(one.id, layer.index));
  } catch (error) {
    parent.append(
      notice(
        layer.has_maps ? "These maps cannot be shown." : "This layer has no feature maps.",
        /** @type {Error} */ (error).message,
      ),
    );
    return {};
  }
  const inactive = block.states.filter((state) => state === "zero").length;
  if (inactive)
    facts.append(
      h("span.warn", null, `${inactive} of ${plural(block.channels, "channel")} inactive on this image`),
    );
  const canvas = h("canvas");
  const controls = h("div.row.tools");
  const words = h("div");
  const place = h("div");
  parent.append(controls, words, place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let layout = null;
  /** @type {number[]} */ let order = [];
  let arrangedFor = "";
  const colors = () => ({ range: view.range, cmap: view.cmap, low: view.low, high: view.high });

  async function arrange() {
    const found = await ordered(layer, block);
    order = found.order;
    cells?.close();
    const available = place.clientWidth || 900;
    layout = layOut(block, order.length, available, cellSize(block.full), 20);
    if (!order.length) {
      fill(
        place,
        notice(
          view.inactive
            ? "No channel is inactive or constant on this image."
            : `No channel matches ${JSON.stringify(view.find)}.`,
          view.inactive
            ? "Press x, or clear “only inactive”, to show all channels."
            : "Enter numbers (3, 7, 12-20), or the name of a class in the last layer.",
        ),
      );
      return;
    }
    paint(canvas, block, order, layout, colors(), theme());
    const classes =
      isVector(block) && session.model.classes?.length === block.channels ? session.model.classes : null;
    cells = grid(canvas, {
      name: `Channels of ${layer.path} on ${one?.name}`,
      count: order.length,
      layout,
      cellHeight: block.height,
      cellWidth: block.width,
      cell: (k) => {
        const c = order[k];
        const state = block.states[c];
        const mark = /** @type {any} */ (MARKS)[state];
        const described = /** @type {any} */ (DESCRIPTIONS)[state];
        const name = `Channel ${c}${classes ? `, ${classes[c]}` : ""}`;
        const key =
          found.values && found.values[c] !== null
            ? number(found.values[c])
            : isVector(block)
              ? number(block.high[c])
              : "";
        return {
          href: link({ screen: "channel", channel: c, position: null }),
          flat: isFlat(block, c) && !isVector(block),
          text:
            `${name}: ${number(block.low[c])} to ${number(block.high[c])}` +
            (described ? `, ${described}` : ""),
          label: [
            h("b", null, classes ? classes[c] : c),
            mark && !isVector(block) ? h("span.tag", null, mark) : h("span", null, key),
          ],
        };
      },
      hover: (_, y, x) =>
        point({ layer: layer.index, y: Math.floor(y * block.full[0]), x: Math.floor(x * block.full[1]) }),
      leave: () => point(null),
    });
    fill(
      place,
      found.trouble && notice("Channels cannot be sorted this way here.", found.trouble),
      cells.element,
    );
  }

  function tools() {
    const available = Object.fromEntries(
      Object.entries(SORTS).filter(
        ([name]) =>
          ["channel", "peak", "mean", "spread"].includes(name) ||
          (name === "similarity" && !isVector(block)) ||
          (name === "attribution"
            ? source.live && session.model.features.attribution?.length
            : name !== "similarity" && layer.in_atlas),
      ),
    );
    const focused = document.activeElement?.id;
    fill(
      controls,
      choice("Sort", available, view.sort, (sort) => go({ sort }, true), "sort"),
      view.sort === "similarity" &&
        h(
          "label.control",
          null,
          "to",
          h("input.text", {
            type: "number",
            id: "similar",
            min: 0,
            max: block.channels - 1,
            value: view.similar ?? 0,
            style: { width: "4.5rem" },
            onchange: (/** @type {any} */ e) =>
              go(
                {
                  similar: Math.max(
                    0,
                    Math.min(block.channels - 1, Math.round(Number(e.target.value) || 0)),
                  ),
                },
                true,
              ),
          }),
        ),
      ...coloring(() => extent(block)),
      h(
        "label.control",
        null,
        h("input.text", {
          type: "search",
          id: "find",
          placeholder: "3, 7, 12-20",
          "aria-label": "Find channels",
          value: view.find,
          oninput: (/** @type {any} */ e) => go({ find: e.target.value }, true),
        }),
      ),
      h(
        "label.control",
        null,
        h("input", {
          type: "checkbox",
          id: "inactive",
          checked: view.inactive,
          onchange: (/** @type {any} */ e) => go({ inactive: e.target.checked }, true),
        }),
        "only inactive",
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  /** @param {any} now @param {any} before */
  function update(now, before) {
    const arrangement = [now.sort, now.find, now.inactive, now.similar, now.target].join("|");
    if (
      !before ||
      before.sort !== now.sort ||
      before.similar !== now.similar ||
      before.range !== now.range ||
      before.cmap !== now.cmap ||
      before.inactive !== now.inactive
    )
      tools();
    fill(words, legend(block, describe(layer.path, one?.name)));
    if (arrangement !== arrangedFor) {
      arrangedFor = arrangement;
      void arrange();
    } else if (layout && order.length) paint(canvas, block, order, layout, colors(), theme());
    return true;
  }
  let width = 0;
  const resized = new ResizeObserver(() => {
    const now = Math.round(place.clientWidth);
    if (width && Math.abs(now - width) > 8) void arrange();
    if (now) width = now;
  });
  resized.observe(place);
  return {
    update,
    canvas: () => canvas,
    labels: () =>
      labelsOf(
        layout,
        block.height,
        order.map((c) => `${c} ${isVector(block) ? "" : /** @type {any} */ (MARKS)[block.states[c]]}`),
      ),
    focus: () => cells?.focus(),
    npz: () => `api/inputs/${one.id}/maps/${layer.index}.npz`,
    close: () => {
      resized.disconnect();
      cells?.close();
      point(null);
    },
  };
}
