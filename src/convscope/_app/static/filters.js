/** Learned filters: the weights of a convolution as pictures, symmetric about zero. */

import { ramp, stating } from "convscope/controls";
import { h, notice, plural } from "convscope/dom";
import { grid } from "convscope/grid";
import { pixels } from "convscope/colors";
import { kernels } from "convscope/model";
import { labelsOf, layOut } from "convscope/maps";
import { link, theme } from "convscope/state";

/**
 * The filter of output `o` as pixels: in color where inputs are RGB, else the input it weighs most;
 * where kernels are 1×1, all its inputs as one raster.
 * @param {import("convscope/model").Floats} all @param {number} o @param {Uint32Array} colors
 */
export function filterPixels(all, o, colors) {
  const [, inputs, kh, kw] = all.shape;
  const own = all.values.subarray(o * inputs * kh * kw, (o + 1) * inputs * kh * kw);
  let most = 0;
  for (const weight of own) most = Math.max(most, Math.abs(weight));
  const level = (/** @type {number} */ w, /** @type {number} */ top) =>
    most ? Math.round(((w / most + 1) / 2) * top) : Math.round(top / 2);
  if (all.flags & 1 && inputs === 3) {
    const words = new Uint32Array(kh * kw);
    for (let i = 0; i < kh * kw; i++)
      words[i] =
        (255 << 24) |
        (level(own[2 * kh * kw + i], 255) << 16) |
        (level(own[kh * kw + i], 255) << 8) |
        level(own[i], 255);
    return { words, height: kh, width: kw, most, input: -1 };
  }
  if (kh * kw === 1) {
    const width = Math.ceil(Math.sqrt(inputs));
    const height = Math.ceil(inputs / width);
    const words = new Uint32Array(width * height);
    own.forEach((w, i) => (words[i] = colors[level(w, 252)]));
    return { words, height, width, most, input: -1 };
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
  return { words, height: kh, width: kw, most, input: best };
}

/** @param {HTMLElement} room @param {any} layer */
export async function filters(room, layer) {
  let all;
  try {
    all = await kernels(layer.index);
  } catch (error) {
    room.append(notice("These filters cannot be shown.", /** @type {Error} */ (error).message));
    return {};
  }
  const [count, inputs, kh, kw] = all.shape;
  const color = all.flags & 1 && inputs === 3;
  const one = filterPixels(all, 0, pixels("signed", theme()));
  const how = color
    ? "in color, gray is zero"
    : kh * kw === 1
      ? `all ${inputs} inputs of a 1×1 filter as one raster`
      : inputs > 1
        ? "the input that each weighs most, named below it"
        : "";
  room.append(
    h(
      "div.legend",
      null,
      !color && ramp("−own", "+own", "signed"),
      h(
        "span",
        null,
        `${stating(layer.path)} · ${plural(count, "filter")} of ${inputs}×${kh}×${kw} · ${how}${how ? ", " : ""}each symmetric about zero to its own greatest weight`,
      ),
    ),
  );
  if (layer.shape && count < layer.shape[0])
    room.append(h("p.small.soft", null, `The first ${count} of ${layer.shape[0]}.`));
  const canvas = h("canvas");
  const place = h("div");
  room.append(place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let standing = null;
  /** @type {any[]} */ let shown = [];
  function update() {
    const colors = pixels("signed", theme());
    shown = Array.from({ length: count }, (_, o) => filterPixels(all, o, colors));
    const size = /** @type {any} */ ({ height: one.height, width: one.width });
    const layout = layOut(
      size,
      count,
      place.clientWidth || 900,
      Math.max(60, Math.min(92, one.width * 10)),
      20,
    );
    standing = layout;
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
        still: shown[k].most === 0,
        text: `Filter ${k}, weights to ±${shown[k].most.toPrecision(3)}`,
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
    picture: () => canvas,
    numbers: () => `api/kernels/${layer.index}.npz`,
    saying: () => ({
      title: stating(layer.path),
      line: `filters, ${color ? "in color, gray is zero, " : ""}each symmetric about zero`,
      cmap: "signed",
    }),
    labels: () =>
      labelsOf(
        standing,
        one.height,
        shown.map((_, k) => String(k)),
      ),
    close: () => cells?.close(),
    focus: () => cells?.focus(),
  };
}
