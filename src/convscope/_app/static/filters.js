/** Learned filters: the weights of a convolution, on a color scale symmetric about zero. */

import { ramp, describe } from "convscope/controls";
import { h, notice, plural } from "convscope/dom";
import { grid } from "convscope/grid";
import { pixels } from "convscope/colors";
import { allFilters } from "convscope/api";
import { labelsOf, layOut } from "convscope/maps";
import { link } from "convscope/state";

/**
 * The filter of output `o` as pixels: in color where inputs are RGB, else the slice of largest norm;
 * where filters are 1×1, all inputs as one raster.
 * @param {import("convscope/api").Floats} all @param {number} o @param {Uint32Array} colors
 */
export function filterPixels(all, o, colors) {
  const [, inputs, kh, kw] = all.shape;
  const own = all.values.subarray(o * inputs * kh * kw, (o + 1) * inputs * kh * kw);
  let maxAbs = 0;
  for (const weight of own) maxAbs = Math.max(maxAbs, Math.abs(weight));
  const level = (/** @type {number} */ w, /** @type {number} */ top) =>
    maxAbs ? Math.round(((w / maxAbs + 1) / 2) * top) : Math.round(top / 2);
  if (all.flags & 1 && inputs === 3) {
    const words = new Uint32Array(kh * kw);
    for (let i = 0; i < kh * kw; i++)
      words[i] =
        (255 << 24) |
        (level(own[2 * kh * kw + i], 255) << 16) |
        (level(own[kh * kw + i], 255) << 8) |
        level(own[i], 255);
    return { words, height: kh, width: kw, maxAbs, input: -1 };
  }
  if (kh * kw === 1) {
    const width = Math.ceil(Math.sqrt(inputs));
    const height = Math.ceil(inputs / width);
    const words = new Uint32Array(width * height);
    own.forEach((w, i) => (words[i] = colors[level(w, 252)]));
    return { words, height, width, maxAbs, input: -1 };
  }
  let best = 0;
  let top = -1;
  for (let i = 0; i < inputs; i++) {
    let norm = 0;
    for (let j = i * kh * kw; j < (i + 1) * kh * kw; j++) norm += own[j] ** 2;
    if (norm > top) [best, top] = [i, norm];
  }
  const words = Uint32Array.from(
    own.subarray(best * kh * kw, (best + 1) * kh * kw),
    (w) => colors[level(w, 252)],
  );
  return { words, height: kh, width: kw, maxAbs, input: best };
}

/** @param {HTMLElement} parent @param {any} layer */
export async function filters(parent, layer) {
  let all;
  try {
    all = await allFilters(layer.index);
  } catch (error) {
    parent.append(notice("These filters cannot be shown.", /** @type {Error} */ (error).message));
    return {};
  }
  const [count, inputs, kh, kw] = all.shape;
  const color = all.flags & 1 && inputs === 3;
  const one = filterPixels(all, 0, pixels("signed"));
  const drawn = color
    ? "in color, gray is zero"
    : kh * kw === 1
      ? `all ${inputs} inputs of a 1×1 filter as one raster`
      : inputs > 1
        ? "the input of largest norm, named below each"
        : "";
  parent.append(
    h(
      "div.legend",
      null,
      !color && ramp("−own", "+own", "signed"),
      h(
        "span",
        null,
        `${describe(layer.path)} · ${plural(count, "filter")} of ${inputs}×${kh}×${kw} · ` +
          `${drawn}${drawn ? ", " : ""}each symmetric about zero, to its own largest weight`,
      ),
    ),
  );
  if (layer.shape && count < layer.shape[0])
    parent.append(h("p.small.soft", null, `The first ${count} of ${layer.shape[0]}.`));
  const canvas = h("canvas");
  const place = h("div");
  parent.append(place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let gridLayout = null;
  /** @type {any[]} */ let shown = [];
  function update() {
    const colors = pixels("signed");
    shown = Array.from({ length: count }, (_, o) => filterPixels(all, o, colors));
    const size = /** @type {any} */ ({ height: one.height, width: one.width });
    const layout = layOut(
      size,
      count,
      place.clientWidth || 900,
      Math.max(60, Math.min(92, one.width * 10)),
      20,
    );
    gridLayout = layout;
    canvas.width = layout.width;
    canvas.height = layout.height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(layout.width, layout.height);
    const words = new Uint32Array(image.data.buffer);
    shown.forEach((filter, k) => {
      const at =
        Math.floor(k / layout.columns) * layout.down * layout.width + (k % layout.columns) * layout.across;
      for (let y = 0; y < filter.height; y++)
        words.set(filter.words.subarray(y * filter.width, (y + 1) * filter.width), at + y * layout.width);
    });
    context.putImageData(image, 0, 0);
    cells?.close();
    cells = grid(canvas, {
      name: `Filters of ${layer.path}`,
      count,
      layout,
      cellHeight: one.height,
      cellWidth: one.width,
      cell: (k) => ({
        href: link({ screen: "channel", channel: k, position: null }),
        flat: shown[k].maxAbs === 0,
        text: `Filter ${k}, weights to ±${shown[k].maxAbs.toPrecision(3)}`,
        label: [
          h("b", null, k),
          h("span", null, shown[k].input >= 0 && inputs > 1 ? `in ${shown[k].input}` : ""),
        ],
      }),
    });
    place.replaceChildren(cells.element);
    return true;
  }
  return {
    update,
    canvas: () => canvas,
    npz: () => `api/filters/${layer.index}.npz`,
    caption: () => ({
      title: describe(layer.path),
      line: `filters, ${color ? "in color, gray is zero, " : ""}each symmetric about zero`,
      cmap: "signed",
    }),
    labels: () =>
      labelsOf(
        gridLayout,
        one.height,
        shown.map((_, k) => String(k)),
      ),
    close: () => cells?.close(),
    focus: () => cells?.focus(),
  };
}
