/** The tree of layers. */

import { fill, h, plural } from "convscope/dom";
import { drawThumbnail } from "convscope/home";
import { json, session, thumbnails } from "convscope/api";
import { link, onchange, ontheme, view } from "convscope/state";

/** @type {Map<string, {row: HTMLElement, link: HTMLElement, slot: HTMLElement, state: HTMLElement}>} */
const rows = new Map();

/** @param {string} path @param {import("convscope/api").Layer[]} above */
function short(path, above) {
  const holder = above.filter((layer) => path.startsWith(layer.path)).at(-1);
  return holder ? path.slice(holder.path.length).replace(/^[./]/, (c) => (c === "/" ? "/" : "")) : path;
}

export function tree() {
  const nav = /** @type {HTMLElement} */ (document.getElementById("tree"));
  const list = h("ol");
  /** @type {import("convscope/api").Layer[]} */
  const above = [];
  for (const layer of session.layers) {
    above.length = Math.min(above.length, layer.depth);
    const slot = h("span.blank", { "aria-hidden": "true" });
    const state = h("span");
    const open = layer.has_maps || layer.in_atlas || layer.has_filters || (layer.shape && !layer.container);
    const words = h(
      "span",
      null,
      h("span.name", null, short(layer.path, above)),
      h("span.shape", null, [layer.shape?.join("×"), layer.kind].filter(Boolean).join(" · ")),
    );
    const item = open
      ? h(
          `a${layer.container ? ".group" : ""}`,
          { href: address(layer.path), title: layer.path },
          slot,
          words,
          state,
        )
      : h("span.plain", null, words);
    const row = h("li", { style: { "padding-left": `${Math.min(layer.depth, 5) * 0.7}rem` } }, item);
    rows.set(layer.path, { row, link: item, slot, state });
    list.append(row);
    if (layer.container || layer.path) above[layer.depth] = layer;
  }
  const search = h("input.text", {
    type: "search",
    placeholder: "Find a layer",
    "aria-label": "Find a layer",
    oninput: (/** @type {any} */ e) => {
      const query = e.target.value.trim().toLowerCase();
      for (const [path, { row }] of rows) {
        const layer = session.byPath.get(path);
        row.hidden = !`${path} ${layer?.kind}`.toLowerCase().includes(query);
      }
    },
  });
  fill(nav, h("div.search", null, search), list);
  onchange((now, before) => {
    mark(now.layer !== before.layer || now.screen !== before.screen);
    if (now.input !== before.input) void drawThumbnails();
    if (now.cmap !== before.cmap) void drawThumbnails();
  });
  ontheme(drawThumbnails);
  mark(true);
  void drawThumbnails();
}

/** @param {string} path */
const address = (path) =>
  link({
    screen: view.screen === "compare" ? "compare" : "layer",
    layer: path,
    channel: null,
    position: null,
    find: "",
    inactive: false,
  });

function mark(moved = false) {
  document.body.classList.remove("menu");
  for (const [path, { link: item }] of rows) {
    if (item.tagName !== "A") continue;
    item.setAttribute("href", address(path));
    if (path === view.layer) {
      item.setAttribute("aria-current", "true");
      if (moved) item.scrollIntoView({ block: "nearest" });
    } else item.removeAttribute("aria-current");
  }
}

async function drawThumbnails() {
  if (!view.input) return;
  try {
    const [maps, states] = await Promise.all([
      thumbnails(view.input),
      json(`api/inputs/${view.input}/layers`),
    ]);
    for (const state of states.layers) {
      const row = rows.get(session.layers[state.index]?.path);
      if (!row) continue;
      const map = maps.get(state.index);
      if (map && map.levels.length > 1) {
        const canvas = h("canvas", { "aria-hidden": "true" });
        drawThumbnail(canvas, map);
        row.slot.replaceWith(canvas);
        row.slot = canvas;
      }
      fill(
        row.state,
        state.inactive > 0 &&
          h(
            "span.badge",
            { title: `${plural(state.inactive, "channel")} inactive on this image` },
            `${state.inactive} inactive`,
          ),
        state.non_finite > 0 && h("span.badge", null, "NaN"),
      );
    }
  } catch {
    // the tree works without thumbnails; the screen shows the error
  }
}
