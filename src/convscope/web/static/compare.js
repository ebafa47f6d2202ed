/** Two pictures through one layer: A, B and A − B, on one scale. */

import { choice, ramp, stating } from "convscope/controls";
import { pixels } from "convscope/colours";
import { breakable, fill, h, notice, number, percent } from "convscope/dom";
import { grid } from "convscope/grid";
import { cellSize, crumbs } from "convscope/layer";
import { extent, labelsOf, layOut } from "convscope/maps";
import { input, json, maps, session } from "convscope/model";
import { source } from "convscope/source";
import { go, link, theme, view } from "convscope/state";

/** The layer to compare in: the one of the address, else the last convolution-like one. */
function where() {
  const chosen = session.byPath.get(view.layer ?? "");
  if (chosen?.maps) return chosen;
  const drawn = session.layers.filter((layer) => layer.maps);
  return drawn[Math.floor(drawn.length / 2)];
}

/** @param {any} one @param {string} name */
async function side(one, name) {
  const src = await source.imageUrl(`api/inputs/${one.id}/image?view=model`).catch(() => "");
  const answer = await json(`api/inputs/${one.id}/predictions`).catch(() => ({ predictions: [] }));
  const best = answer.predictions[0];
  return h("figure", null, src && h("img", { src, alt: one.name }), h("figcaption", null, h("h2.small.soft", null, name), h("b", null, one.name), h("br"), best && `${best.class} ${percent(best.probability)}`));
}

/** @param {HTMLElement} room */
export async function compare(room) {
  const one = input(view.input);
  const layer = where();
  room.append(layer ? crumbs(layer) : "", h("h1", null, "Compare"));
  if (!layer || !one) {
    room.append(notice("There is nothing to compare yet.", "Put a picture under the microscope first."));
    return {};
  }
  const others = session.inputs.filter((other) => other.id !== one.id);
  const two = input(view.other);
  if (!two && others.length) {
    go({ other: others[0].id }, true); // shows this screen again
    return {};
  }
  const drawn = session.layers.filter((other) => other.maps);
  room.append(h("p.facts", null, h("span", null, breakable(layer.path)), h("span", null, layer.shape?.join("×"))),
    h("div.row.tools", { style: { "margin-top": "1rem" } },
      choice("Layer", Object.fromEntries(drawn.map((other) => [other.path, other.path])), layer.path, (path) => go({ layer: path }), "compare-layer"),
      others.length > 0 && choice("With", Object.fromEntries(others.map((other) => [other.id, other.name])), two?.id ?? "", (id) => go({ other: id }), "with"),
      two && h("button.button", { type: "button", onclick: () => go({ input: two.id, other: one.id }) }, "Swap")));
  if (!two) {
    room.append(notice("A second picture is needed.",
      session.model.can?.upload ? "Drop another one on this page, or take a demo picture; then come back here." : "This page holds one picture only."));
    return {};
  }
  const [a, b] = await Promise.all([maps(one.id, layer.index), maps(two.id, layer.index)]);
  room.append(h("div.versus", null, await side(one, "A"), await side(two, "B")));
  if (a.height !== b.height || a.width !== b.width || a.full.join() !== b.full.join()) {
    room.append(notice("These maps differ in size.", `${a.full.join("×")} and ${b.full.join("×")}: positions do not correspond. Compare pictures of one size, or a layer after the global pooling.`));
    return {};
  }
  return draw(room, layer, one, two, a, b);
}

/** @param {import("convscope/maps").Block} block @param {number} c @param {number} i */
const valueOf = (block, c, i) => {
  const level = block.levels[c * block.height * block.width + i];
  return level > 252 ? NaN : block.low[c] + (level * (block.high[c] - block.low[c])) / 252;
};

/** @param {HTMLElement} room @param {any} layer @param {any} one @param {any} two @param {import("convscope/maps").Block} a @param {import("convscope/maps").Block} b */
function draw(room, layer, one, two, a, b) {
  const { height, width, channels } = a;
  const change = Array.from({ length: channels }, (_, c) => a.mean[c] - b.mean[c]);
  const order = Array.from({ length: channels }, (_, c) => c).sort((p, q) => Math.abs(change[q]) - Math.abs(change[p]) || p - q);
  const gap = Math.max(1, Math.round(width * 0.06));
  const size = /** @type {any} */ ({ height, width: 3 * width + 2 * gap });
  const canvas = h("canvas");
  const legend = h("div.legend");
  const place = h("div");
  room.append(legend, place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let standing = null;
  const [[la, ha], [lb, hb]] = [extent(a), extent(b)];
  const [low, high] = [Math.min(la, lb), Math.max(ha, hb)];
  const most = Math.max(high - low, 1e-30);

  function update() {
    cells?.close();
    const cell = Math.min((place.clientWidth || 900), 3 * (cellSize(a.full) * 0.86));
    const layout = layOut(size, channels, place.clientWidth || 900, cell, 20);
    standing = layout;
    canvas.width = layout.width;
    canvas.height = layout.height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(layout.width, layout.height);
    const words = new Uint32Array(image.data.buffer);
    const colours = pixels(view.cmap === "signed" ? "viridis" : view.cmap, theme());
    const signed = pixels("signed", theme());
    const level = (/** @type {number} */ v, /** @type {number} */ from, /** @type {number} */ span) => (Number.isNaN(v) ? 253 : span > 0 ? Math.max(0, Math.min(252, Math.round(((v - from) / span) * 252))) : 0);
    order.forEach((c, k) => {
      const start = Math.floor(k / layout.columns) * layout.down * layout.width + (k % layout.columns) * layout.across;
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const [va, vb] = [valueOf(a, c, y * width + x), valueOf(b, c, y * width + x)];
          const at = start + y * layout.width + x;
          words[at] = colours[level(va, low, high - low)];
          words[at + width + gap] = colours[level(vb, low, high - low)];
          words[at + 2 * (width + gap)] = signed[level(va - vb, -most, 2 * most)];
        }
      }
    });
    context.putImageData(image, 0, 0);
    cells = grid(canvas, { name: `Channels of ${layer.path}, ${one.name} against ${two.name}`, count: channels, layout, cellHeight: height, cellWidth: size.width,
      cell: (k) => ({ href: link({ screen: "channel", layer: layer.path, channel: order[k], position: null }),
        text: `Channel ${order[k]}: mean ${number(a.mean[order[k]])} on A, ${number(b.mean[order[k]])} on B`,
        label: [h("b", null, order[k]), h("span", null, `mean ${number(a.mean[order[k]])} · ${number(b.mean[order[k]])}`)] }) });
    fill(place, cells.element);
    fill(legend, ramp(number(low), number(high), view.cmap === "signed" ? "viridis" : view.cmap), h("span", null, "A and B, one scale"),
      ramp(number(-most), number(most), "signed"), h("span", null, "A − B"),
      h("span", null, `${stating(layer.path, `A ${one.name}, B ${two.name}`)} · channels by the difference of their means${a.full[0] !== height ? ` · drawn from maxima of patches, ${height}×${width} of ${a.full.join("×")}` : ""} · differences from 253 levels`));
    return true;
  }
  return { update, picture: () => canvas, labels: () => labelsOf(standing, height, order.map((c) => `${c}   A, B, A − B`)), close: () => cells?.close(), focus: () => cells?.focus() };
}
