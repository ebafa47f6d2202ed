/** Two images, layers or networks: A, B and, where the shapes agree, A − B, on one scale. */

import { choice, ramp } from "convscope/controls";
import { pixels } from "convscope/colors";
import { breakable, fill, h, notice, number, percent } from "convscope/dom";
import { grid } from "convscope/grid";
import { cellSize, crumbs } from "convscope/layer";
import { extent, isFlat, labelsOf, layOut, paint, enlarged } from "convscope/maps";
import { input, json, maps, otherNetwork, session } from "convscope/api";
import { source } from "convscope/source";
import { go, link, theme, view } from "convscope/state";

/**
 * One side of the comparison. @typedef {object} Side
 * @property {any} input @property {any} layer @property {0 | 1} network index
 * @property {string} model title of the network
 */

const KINDS = { images: "Images", layers: "Layers", models: "Models" };

/**
 * The layer of that path, else one in the middle.
 * @param {any[]} layers @param {string | null} path
 */
function layerNamed(layers, path) {
  const drawn = layers.filter((layer) => layer.has_maps);
  return drawn.find((layer) => layer.path === path) ?? drawn[Math.floor(drawn.length / 2)];
}

/** The next layer, of the same shape where there is one. @param {any} layer */
function similarLayer(layer) {
  const drawn = session.layers.filter((one) => one.has_maps && one !== layer);
  const same = drawn.filter((one) => String(one.shape) === String(layer.shape));
  return (
    same.find((one) => one.index > layer.index) ??
    same[0] ??
    drawn.find((one) => one.index > layer.index) ??
    drawn[0]
  );
}

/** @param {any[]} layers */
const paths = (layers) =>
  Object.fromEntries(layers.filter((one) => one.has_maps).map((one) => [one.path, one.path]));

/** @param {HTMLElement} parent */
export async function compare(parent) {
  const one = input(view.input);
  const layer = layerNamed(session.layers, view.layer);
  parent.append(
    layer ? crumbs(layer) : "",
    h(
      "div.head",
      null,
      h("h1", null, "Compare"),
      h(
        "div.segments",
        { role: "group", "aria-label": "What to compare" },
        Object.entries(KINDS).map(([kind, name]) =>
          h(
            "button",
            {
              type: "button",
              id: `compare-${kind}`,
              "aria-pressed": String(view.compare === kind),
              onclick: () => go({ compare: kind, layerB: "" }),
            },
            name,
          ),
        ),
      ),
    ),
  );
  if (!layer || !one) {
    parent.append(notice("There is nothing to compare yet.", "Add an input image first."));
    return {};
  }
  const sides = await { images: imageSides, layers: layerSides, models: modelSides }[
    /** @type {"layers"} */ (view.compare)
  ](parent, layer, one);
  if (!sides) return {};
  const [a, b] = sides;
  const blocks = await Promise.all([
    maps(a.input.id, a.layer.index, a.network),
    maps(b.input.id, b.layer.index, b.network),
  ]);
  parent.append(
    h("div.comparison", null, await sideSummary(a, "A", blocks[0]), await sideSummary(b, "B", blocks[1])),
  );
  const same = ["channels", "height", "width", "full"].every(
    (k) => String(/** @type {any} */ (blocks[0])[k]) === String(/** @type {any} */ (blocks[1])[k]),
  );
  const shown = (same ? drawDifference : drawSideBySide)(parent, a, b, blocks[0], blocks[1]);
  const second = b.network ? "&model=1" : "";
  return {
    ...shown,
    caption: () => ({
      title: `A ${describeSide(a)}   B ${describeSide(b)}`,
      line: shown.line(),
      cmap: sequential(),
    }),
    npz: () =>
      `api/inputs/${a.input.id}/pairs/${a.layer.index}.npz` +
      `?other=${b.input.id}&other_layer=${b.layer.index}${second}`,
  };
}

/** @param {HTMLElement} parent @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function imageSides(parent, layer, one) {
  const others = session.inputs.filter((another) => another.id !== one.id);
  const two = others.find((another) => another.id === view.other) ?? others[0];
  tools(
    parent,
    choice("Layer", paths(session.layers), layer.path, (path) => go({ layer: path }), "compare-layer"),
    two &&
      choice(
        "B",
        Object.fromEntries(others.map((another) => [another.id, another.name])),
        two.id,
        (id) => go({ other: id }),
        "layer-b",
      ),
    two && swap({ input: two?.id, other: one.id }),
  );
  if (!two) {
    parent.append(
      notice(
        "A second image is needed.",
        session.model.features?.upload
          ? "Drop another image on this page, or choose a demo image."
          : "This page contains only one image.",
      ),
    );
    return null;
  }
  const model = session.model.title;
  return [
    { input: one, layer, network: 0, model },
    { input: two, layer, network: 0, model },
  ];
}

/** @param {HTMLElement} parent @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function layerSides(parent, layer, one) {
  const two =
    session.layers.find((another) => another.path === view.layerB && another.has_maps) ??
    similarLayer(layer);
  tools(
    parent,
    choice(
      "A",
      paths(session.layers),
      layer.path,
      (path) => go({ layer: path, layerB: two.path }),
      "compare-layer",
    ),
    choice("B", paths(session.layers), two.path, (path) => go({ layerB: path }), "layer-b"),
    swap({ layer: two.path, layerB: layer.path }),
  );
  const model = session.model.title;
  return [
    { input: one, layer, network: 0, model },
    { input: one, layer: two, network: 0, model },
  ];
}

/** @param {HTMLElement} parent @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function modelSides(parent, layer, one) {
  const found = await otherNetwork();
  if (!found) {
    parent.append(
      notice(
        "A second network is needed.",
        session.model.exported
          ? "This page contains only one network."
          : ["Start the app with two: ", h("br"), h("code", null, "convscope serve -m A -m B")],
      ),
    );
    return null;
  }
  const two = layerNamed(found.layers, view.layerB || layer.path);
  tools(
    parent,
    choice("Layer of A", paths(session.layers), layer.path, (path) => go({ layer: path }), "compare-layer"),
    choice("Layer of B", paths(found.layers), two.path, (path) => go({ layerB: path }), "layer-b"),
  );
  const titles = [session.model.title, found.model.title];
  const [a, b] =
    titles[0] === titles[1] ? titles.map((title, k) => `${title} (${k ? "second" : "first"})`) : titles;
  return [
    { input: one, layer, network: 0, model: a },
    { input: one, layer: two, network: 1, model: b },
  ];
}

/** @param {HTMLElement} parent @param {...any} controls */
const tools = (parent, ...controls) =>
  parent.append(
    h(
      "div.row.tools",
      { style: { "margin-top": "1rem" } },
      controls,
      choice(
        "Colors",
        Object.fromEntries(["viridis", "magma", "gray"].map((name) => [name, name])),
        sequential(),
        (cmap) => go({ cmap }, true),
        "cmap",
      ),
    ),
  );

/** @param {object} change */
const swap = (change) =>
  h("button.button", { type: "button", id: "swap", onclick: () => go(change) }, "Swap");

/** @param {Side} side */
const describeSide = (side) => `${side.model} · ${side.layer.path} · ${side.input.name}`;

/**
 * Image, prediction, network and layer of one side.
 * @param {Side} side @param {string} name @param {any} block
 */
async function sideSummary(side, name, block) {
  const id = side.input.id;
  const network = side.network ? "model=1" : "";
  const src = await source
    .imageUrl(`api/inputs/${id}/image?stage=preprocessed${network && `&${network}`}`)
    .catch(() => "");
  const result = await json(`api/inputs/${id}/predictions${network && `?${network}`}`).catch(() => ({
    predictions: [],
  }));
  const best = result.predictions[0];
  return h(
    "figure",
    null,
    src && h("img", { src, alt: side.input.name }),
    h(
      "figcaption",
      null,
      h("h2.small.soft", null, name),
      h("b", null, side.input.name),
      h("br"),
      best && `${best.class} ${percent(best.probability)}`,
      h("p.soft", null, side.model),
      h("p.soft", null, breakable(side.layer.path), ` · ${[block.channels, ...block.full].join("×")}`),
    ),
  );
}

const sequential = () => (view.cmap === "signed" ? "viridis" : view.cmap);

/** Minimum and maximum of both sides. @param {any} a @param {any} b */
function scale(a, b) {
  const [[la, ha], [lb, hb]] = [extent(a), extent(b)];
  return [Math.min(la, lb), Math.max(ha, hb)];
}

/** @param {import("convscope/maps").Block} block */
const pooled = (block) =>
  block.full[0] * block.full[1] !== block.height * block.width && block.full[0] * block.full[1] > 1
    ? ` · max-pooled from ${block.full.join("×")} to ${block.height}×${block.width}`
    : "";

/** @param {import("convscope/maps").Block} block @param {number} c @param {number} i */
const valueOf = (block, c, i) => {
  const level = block.levels[c * block.height * block.width + i];
  return level > 252 ? NaN : block.low[c] + (level * (block.high[c] - block.low[c])) / 252;
};

/** A value as a level of the scale. @param {number} v @param {number} low @param {number} span */
const levelOf = (v, low, span) =>
  Number.isNaN(v) ? 253 : span > 0 ? Math.max(0, Math.min(252, Math.round(((v - low) / span) * 252))) : 0;

/**
 * A, B and A − B of each channel.
 * @param {HTMLElement} parent @param {Side} one @param {Side} two @param {any} first @param {any} second
 */
function drawDifference(parent, one, two, first, second) {
  const [a, b] = [enlarged(first), enlarged(second)];
  const { height, width, channels } = a;
  const change = Array.from({ length: channels }, (_, c) => Math.abs(a.mean[c] - b.mean[c]));
  const order = Array.from({ length: channels }, (_, c) => c).sort(
    (p, q) => change[q] - change[p] || p - q,
  );
  const gap = Math.max(1, Math.round(width * 0.06));
  const size = /** @type {any} */ ({ height, width: 3 * width + 2 * gap });
  const canvas = h("canvas");
  const legend = h("div.legend");
  const place = h("div");
  parent.append(legend, place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let gridLayout = null;
  const [low, high] = scale(a, b);
  const maxAbs = Math.max(high - low, 1e-30);

  function draw() {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(image.data.buffer);
    const [colors, signed] = [pixels(sequential()), pixels("signed")];
    order.forEach((c, k) => {
      const start =
        Math.floor(k / gridLayout.columns) * gridLayout.down * canvas.width +
        (k % gridLayout.columns) * gridLayout.across;
      for (let i = 0; i < height * width; i++) {
        const [va, vb] = [valueOf(a, c, i), valueOf(b, c, i)];
        const at = start + Math.floor(i / width) * canvas.width + (i % width);
        words[at] = colors[levelOf(va, low, high - low)];
        words[at + width + gap] = colors[levelOf(vb, low, high - low)];
        words[at + 2 * (width + gap)] = signed[levelOf(va - vb, -maxAbs, 2 * maxAbs)];
      }
    });
    context.putImageData(image, 0, 0);
  }

  function update() {
    cells?.close();
    const cell = Math.min(place.clientWidth || 900, 3 * (cellSize(a.full) * 0.86));
    gridLayout = layOut(size, channels, place.clientWidth || 900, cell, 20);
    canvas.width = gridLayout.width;
    canvas.height = gridLayout.height;
    draw();
    cells = grid(canvas, {
      name: `Channels: A, ${describeSide(one)}, against B, ${describeSide(two)}`,
      count: channels,
      layout: gridLayout,
      cellHeight: height,
      cellWidth: size.width,
      cell: (k) => ({
        href: link({ screen: "channel", layer: one.layer.path, channel: order[k], position: null }),
        text: `Channel ${order[k]}: mean ${number(a.mean[order[k]])} on A, ${number(b.mean[order[k]])} on B`,
        label: [
          h("b", null, order[k]),
          h("span", null, `mean ${number(a.mean[order[k]])} · ${number(b.mean[order[k]])}`),
        ],
      }),
    });
    fill(place, cells.element);
    fill(
      legend,
      ramp(number(low), number(high), sequential()),
      h("span", null, "A and B, one scale"),
      ramp(number(-maxAbs), number(maxAbs), "signed"),
      h("span", null, "A − B"),
      h(
        "span",
        null,
        `Each cell: A, B, A − B; sorted by difference of means${pooled(first)} · ` +
          "differences from 253 levels",
      ),
    );
    return true;
  }
  return {
    update,
    canvas: () => canvas,
    labels: () =>
      labelsOf(
        gridLayout,
        height,
        order.map((c) => `${c}   A, B, A − B`),
      ),
    line: () =>
      `${sequential()} from ${number(low)} to ${number(high)} for A and B; ` +
      `A − B signed, ±${number(maxAbs)}`,
    close: () => cells?.close(),
    focus: () => cells?.focus(),
  };
}

/**
 * Side by side on one scale, where the shapes differ.
 * @param {HTMLElement} parent @param {Side} one @param {Side} two @param {any} first @param {any} second
 */
function drawSideBySide(parent, one, two, first, second) {
  const blocks = [enlarged(first), enlarged(second)];
  const [low, high] = scale(first, second);
  const legend = h("div.legend");
  const shapes = [first, second].map((block) => [block.channels, ...block.full].join("×"));
  const places = [h("div"), h("div")];
  const canvases = [h("canvas"), h("canvas")];
  parent.append(
    h(
      "p.small.soft",
      { id: "no-difference" },
      `A is ${shapes[0]} and B is ${shapes[1]}: positions or channels do not correspond, so there is ` +
        "no difference to draw. Both use one color scale.",
    ),
    legend,
    h(
      "div.side-by-side",
      null,
      places.map((place, k) =>
        h(
          "section",
          null,
          h("h2", null, "AB"[k], h("span.soft.small", null, `  ${[one, two][k].layer.path}`)),
          place,
        ),
      ),
    ),
  );
  /** @type {any[]} */ let cells = [];
  /** @type {any[]} */ let gridLayout = [];
  function update() {
    cells.forEach((one_) => one_.close());
    const coloring = /** @type {any} */ ({ range: "fixed", cmap: sequential(), low, high });
    cells = blocks.map((block, k) => {
      const side = [one, two][k];
      const order = Array.from({ length: block.channels }, (_, c) => c);
      gridLayout[k] = layOut(
        block,
        block.channels,
        places[k].clientWidth || 420,
        cellSize(block.full) * 0.86,
        20,
      );
      paint(canvases[k], block, order, gridLayout[k], coloring, theme());
      const cellGrid = grid(canvases[k], {
        name: `Channels of ${"AB"[k]}, ${describeSide(side)}`,
        count: block.channels,
        layout: gridLayout[k],
        cellHeight: block.height,
        cellWidth: block.width,
        cell: (c) => ({
          href: side.network
            ? link({})
            : link({ screen: "channel", layer: side.layer.path, channel: c, position: null }),
          flat: isFlat(block, c) && block.full[0] * block.full[1] > 1,
          text: `Channel ${c}: ${number(block.low[c])} to ${number(block.high[c])}`,
          label: [h("b", null, c), h("span", null, number(block.high[c]))],
        }),
      });
      fill(places[k], cellGrid.element);
      return cellGrid;
    });
    fill(
      legend,
      ramp(number(low), number(high), sequential()),
      h(
        "span",
        null,
        `A and B, one scale · ${sequential()}; below each its maximum` +
          (pooled(first) || pooled(second) ? " · large maps are max-pooled" : ""),
      ),
    );
    return true;
  }
  return {
    update,
    canvas: () => joined(canvases, gridLayout),
    line: () => `${sequential()} from ${number(low)} to ${number(high)} for both; A left, B right`,
    close: () => cells.forEach((one_) => one_.close()),
    focus: () => cells[0]?.focus(),
  };
}

/** Two canvases as one, to save. @param {HTMLCanvasElement[]} canvases @param {any[]} gridLayout */
function joined(canvases, gridLayout) {
  const [a, b] = canvases.map((canvas, k) =>
    [canvas.width, canvas.height].map((side) => Math.round(side * gridLayout[k].scale)),
  );
  const out = h("canvas", { width: a[0] + b[0] + 40, height: Math.max(a[1], b[1]) });
  const pen = out.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvases[0], 0, 0, a[0], a[1]);
  pen.drawImage(canvases[1], a[0] + 40, 0, b[0], b[1]);
  return out;
}
