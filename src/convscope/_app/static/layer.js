/** A layer: all of its channels at once. */

import { coloring, choice, legend, stating, tabs } from "convscope/controls";
import { point } from "convscope/cursor";
import { breakable, fill, h, notice, number, plural } from "convscope/dom";
import { examples } from "convscope/examples";
import { filters } from "convscope/filters";
import { grid } from "convscope/grid";
import { extent, isFlat, isVector, labelsOf, layOut, likeness, paint, widened } from "convscope/maps";
import { input, json, maps, session } from "convscope/model";
import { optimizedTab } from "convscope/optimize";
import { source } from "convscope/source";
import { go, link, theme, view } from "convscope/state";

const TABS = { maps: "Maps", filters: "Filters", optimized: "Optimized", examples: "Dataset examples" };
const SORTS = {
  channel: "Channel",
  peak: "Peak",
  mean: "Mean",
  spread: "Spread",
  active: "Share active, in the data",
  exemplar: "Peak, in the data",
  selectivity: "Selectivity, in the data",
  attribution: "Attribution to the answer",
  similarity: "Similarity",
};
const MARKS = { zero: "dead", constant: "constant", nan: "NaN", inf: "∞", live: "" };
const SAID = {
  zero: "zero everywhere on this picture",
  constant: "the same value everywhere",
  nan: "holds NaN",
  inf: "holds infinity",
  live: "",
};

/** The layer that the address names. */
export function layerOf() {
  const found = session.byPath.get(view.layer ?? "");
  if (found) return found;
  const near = session.layers.find(
    (one) => one.path.includes(view.layer ?? "") || (view.layer ?? "").includes(one.path),
  );
  throw new Error(
    `No layer ${JSON.stringify(view.layer)} in ${session.model.title}.${near ? ` Close: ${near.path}.` : ""} Choose one from the list.`,
  );
}

/** @param {import("convscope/model").Layer} layer @param {any} [channel] */
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

/** @param {HTMLElement} room */
export async function layer(room) {
  const one = layerOf();
  const known = (tab) =>
    tab === "maps" ||
    (tab === "filters" && one.kernel) ||
    (tab === "examples" && one.atlas) ||
    (tab === "optimized" && one.shape);
  const tab = known(view.tab) ? view.tab : "maps";
  const body = h("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${tab}` });
  const facts = h(
    "p.facts",
    null,
    one.kind && h("span", null, one.kind),
    one.shape && h("span", null, one.shape.join("×")),
    one.parameters > 0 && h("span", null, plural(one.parameters, "parameter")),
    one.field && h("span", null, `receptive field ${one.field}`),
  );
  room.append(
    crumbs(one),
    h("h1", null, breakable(one.path)),
    facts,
    tabs(
      Object.fromEntries(Object.entries(TABS).filter(([name]) => known(name))),
      tab,
      "What to see of this layer",
      (to) => go({ tab: to }),
    ),
    body,
  );
  const make = { maps: mapsTab, filters, optimized: optimizedTab, examples };
  return /** @type {any} */ (make)[tab](body, one, facts);
}

/** How wide a map of the layer stands on the page. @param {[number, number]} full */
export function cellSize(full) {
  const side = Math.max(...full);
  const phone = innerWidth < 500;
  if (side === 1) return phone ? 88 : 96;
  return side >= 28 ? (phone ? 100 : 116) : side >= 12 ? (phone ? 76 : 92) : phone ? 64 : 78;
}

/** The values that channels are put in order by, highest first; null: as they are numbered. @param {any} layer @param {import("convscope/maps").Block} block */
async function keysOf(layer, block) {
  const all = (/** @type {(c: number) => number} */ of) =>
    Array.from({ length: block.channels }, (_, c) => of(c));
  if (view.sort === "peak") return all((c) => block.high[c]);
  if (view.sort === "mean") return all((c) => block.mean[c]);
  if (view.sort === "spread") return all((c) => block.high[c] - block.low[c]);
  if (view.sort === "attribution")
    return (
      await json(
        `api/inputs/${view.input}/attribution/${layer.index}${/^\d/.test(view.target) ? `?target=${view.target}` : ""}`,
      )
    ).channels;
  if (view.sort === "similarity") {
    if ((view.like ?? 0) >= block.channels)
      throw new Error(`No channel ${view.like}: there are ${block.channels}, from 0.`);
    return likeness(block, view.like ?? 0);
  }
  if (["active", "selectivity", "exemplar"].includes(view.sort)) {
    const found = await json(`api/atlas/layers/${layer.index}`);
    return found[{ active: "active", selectivity: "selectivity", exemplar: "maximum" }[view.sort] ?? ""];
  }
  return null;
}

/** @param {any} layer @param {import("convscope/maps").Block} block @returns {Promise<{order: number[], keys: number[] | null, trouble: string}>} */
async function ordered(layer, block) {
  let order = Array.from({ length: block.channels }, (_, c) => c);
  let keys = null;
  let trouble = "";
  try {
    keys = await keysOf(layer, block);
  } catch (error) {
    trouble = /** @type {Error} */ (error).message;
  }
  if (keys) {
    const of = (/** @type {number} */ c) => keys[c] ?? -Infinity;
    order.sort((a, b) => of(b) - of(a) || a - b);
  }
  if (view.dead) order = order.filter((c) => isFlat(block, c));
  if (view.find) {
    const chosen = wanted(view.find, layer, block.channels);
    order = order.filter((c) => chosen.has(c));
  }
  return { order, keys, trouble };
}

/** `3, 7, 12-20`, or a class where the layer has one channel for each. @param {string} text @param {any} layer @param {number} count */
function wanted(text, layer, count) {
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

/** @param {HTMLElement} room @param {any} layer @param {HTMLElement} facts */
async function mapsTab(room, layer, facts) {
  const one = input(view.input);
  if (!one) {
    room.append(
      notice(
        "No picture is under the microscope.",
        session.model.live
          ? "Drop one anywhere on this page, or choose a demo picture."
          : "This atlas was opened without its model: see Dataset examples.",
      ),
    );
    return {};
  }
  let block;
  try {
    block = widened(await maps(one.id, layer.index));
  } catch (error) {
    room.append(
      notice(
        layer.maps ? "These maps cannot be shown." : "This layer has no feature maps.",
        /** @type {Error} */ (error).message,
      ),
    );
    return {};
  }
  const dead = block.states.filter((state) => state === "zero").length;
  if (dead)
    facts.append(
      h("span.warn", null, `${dead} of ${plural(block.channels, "channel")} dead on this picture`),
    );
  const canvas = h("canvas");
  const controls = h("div.row.tools");
  const words = h("div");
  const place = h("div");
  room.append(controls, words, place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let layout = null;
  /** @type {number[]} */ let order = [];
  let settled = "";
  const look = () => ({ range: view.range, cmap: view.cmap, low: view.low, high: view.high });

  async function arrange() {
    const found = await ordered(layer, block);
    order = found.order;
    cells?.close();
    const room = place.clientWidth || 900;
    layout = layOut(block, order.length, room, cellSize(block.full), 20);
    if (!order.length) {
      fill(
        place,
        notice(
          view.dead
            ? "No channel is dead or constant on this picture."
            : `No channel fits ${JSON.stringify(view.find)}.`,
          view.dead
            ? "Press x, or untick “only dead”, to see all of them."
            : "Write numbers (3, 7, 12-20), or a class's name in the last layer.",
        ),
      );
      return;
    }
    paint(canvas, block, order, layout, look(), theme());
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
        const key =
          found.keys && found.keys[c] !== null
            ? number(found.keys[c])
            : isVector(block)
              ? number(block.high[c])
              : "";
        return {
          href: link({ screen: "channel", channel: c, position: null }),
          still: isFlat(block, c) && !isVector(block),
          text: `Channel ${c}${classes ? `, ${classes[c]}` : ""}: ${number(block.low[c])} to ${number(block.high[c])}${mark ? `, ${/** @type {any} */ (SAID)[state]}` : ""}`,
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
    fill(place, found.trouble && notice("That order is not to be had here.", found.trouble), cells.element);
  }

  function tools() {
    const offered = Object.fromEntries(
      Object.entries(SORTS).filter(
        ([name]) =>
          ["channel", "peak", "mean", "spread"].includes(name) ||
          (name === "similarity" && !isVector(block)) ||
          (name === "attribution"
            ? source.live && session.model.can.attribution?.length
            : name !== "similarity" && layer.atlas),
      ),
    );
    const focused = document.activeElement?.id;
    fill(
      controls,
      choice("Sort", offered, view.sort, (sort) => go({ sort }, true), "sort"),
      view.sort === "similarity" &&
        h(
          "label.control",
          null,
          "to",
          h("input.text", {
            type: "number",
            id: "like",
            min: 0,
            max: block.channels - 1,
            value: view.like ?? 0,
            style: { width: "4.5rem" },
            onchange: (/** @type {any} */ e) =>
              go(
                {
                  like: Math.max(0, Math.min(block.channels - 1, Math.round(Number(e.target.value) || 0))),
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
          id: "dead",
          checked: view.dead,
          onchange: (/** @type {any} */ e) => go({ dead: e.target.checked }, true),
        }),
        "only dead",
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  /** @param {any} now @param {any} before */
  function update(now, before) {
    const wish = [now.sort, now.find, now.dead, now.like, now.target].join("|");
    if (
      !before ||
      before.sort !== now.sort ||
      before.like !== now.like ||
      before.range !== now.range ||
      before.cmap !== now.cmap ||
      before.dead !== now.dead
    )
      tools();
    fill(words, legend(block, stating(layer.path, one?.name)));
    if (wish !== settled) {
      settled = wish;
      void arrange();
    } else if (layout && order.length) paint(canvas, block, order, layout, look(), theme());
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
    picture: () => canvas,
    labels: () =>
      labelsOf(
        layout,
        block.height,
        order.map(
          (c) =>
            `${c} ${/** @type {any} */ (MARKS)[block.states[c]] && !isVector(block) ? /** @type {any} */ (MARKS)[block.states[c]] : ""}`,
        ),
      ),
    focus: () => cells?.focus(),
    numbers: () => `api/inputs/${one.id}/maps/${layer.index}.npz`,
    close: () => {
      resized.disconnect();
      cells?.close();
      point(null);
    },
  };
}
