/** Two pictures, two layers or two networks: A, B and, where the shapes are the same, A − B, on one scale. */

import { choice, ramp } from "convscope/controls";
import { pixels } from "convscope/colors";
import { breakable, fill, h, notice, number, percent } from "convscope/dom";
import { grid } from "convscope/grid";
import { cellSize, crumbs } from "convscope/layer";
import { extent, isFlat, labelsOf, layOut, paint, widened } from "convscope/maps";
import { input, json, maps, other, session } from "convscope/model";
import { source } from "convscope/source";
import { go, link, theme, view } from "convscope/state";

/**
 * What stands in one of the two places. @typedef {object} Side
 * @property {any} input @property {any} layer @property {0 | 1} m which network @property {string} model its title
 */

const KINDS = { pictures: "Pictures", layers: "Layers", models: "Models" };

/** The layer of a list that an address names, else one in the middle. @param {any[]} layers @param {string | null} path */
function among(layers, path) {
  const drawn = layers.filter((layer) => layer.maps);
  return drawn.find((layer) => layer.path === path) ?? drawn[Math.floor(drawn.length / 2)];
}

/** The layer that comes after another, with as many channels where there is one. @param {any} layer */
function partner(layer) {
  const drawn = session.layers.filter((one) => one.maps && one !== layer);
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
  Object.fromEntries(layers.filter((one) => one.maps).map((one) => [one.path, one.path]));

/** @param {HTMLElement} room */
export async function compare(room) {
  const one = input(view.input);
  const layer = among(session.layers, view.layer);
  room.append(
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
              id: `with-${kind}`,
              "aria-pressed": String(view.with === kind),
              onclick: () => go({ with: kind, to: "" }),
            },
            name,
          ),
        ),
      ),
    ),
  );
  if (!layer || !one) {
    room.append(notice("There is nothing to compare yet.", "Put a picture under the microscope first."));
    return {};
  }
  const sides = await { pictures: ofPictures, layers: ofLayers, models: ofModels }[
    /** @type {"layers"} */ (view.with)
  ](room, layer, one);
  if (!sides) return {};
  const [a, b] = sides;
  const blocks = await Promise.all([
    maps(a.input.id, a.layer.index, a.m),
    maps(b.input.id, b.layer.index, b.m),
  ]);
  room.append(h("div.versus", null, await card(a, "A", blocks[0]), await card(b, "B", blocks[1])));
  const same = ["channels", "height", "width", "full"].every(
    (k) => String(/** @type {any} */ (blocks[0])[k]) === String(/** @type {any} */ (blocks[1])[k]),
  );
  const shown = (same ? together : apart)(room, a, b, blocks[0], blocks[1]);
  const second = b.m ? "&m=1" : "";
  return {
    ...shown,
    saying: () => ({ title: `A ${named(a)}   B ${named(b)}`, line: shown.line(), cmap: sequential() }),
    numbers: () =>
      `api/inputs/${a.input.id}/pairs/${a.layer.index}.npz?b=${b.input.id}&to=${b.layer.index}${second}`,
  };
}

/** @param {HTMLElement} room @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function ofPictures(room, layer, one) {
  const others = session.inputs.filter((another) => another.id !== one.id);
  const two = others.find((another) => another.id === view.other) ?? others[0];
  tools(
    room,
    choice("Layer", paths(session.layers), layer.path, (path) => go({ layer: path }), "compare-layer"),
    two &&
      choice(
        "B",
        Object.fromEntries(others.map((another) => [another.id, another.name])),
        two.id,
        (id) => go({ other: id }),
        "with",
      ),
    two && swap({ input: two?.id, other: one.id }),
  );
  if (!two) {
    room.append(
      notice(
        "A second picture is needed.",
        session.model.can?.upload
          ? "Drop another one on this page, or take a demo picture; then come back here."
          : "This page holds one picture only.",
      ),
    );
    return null;
  }
  const model = session.model.title;
  return [
    { input: one, layer, m: 0, model },
    { input: two, layer, m: 0, model },
  ];
}

/** @param {HTMLElement} room @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function ofLayers(room, layer, one) {
  const two = session.layers.find((another) => another.path === view.to && another.maps) ?? partner(layer);
  tools(
    room,
    choice(
      "A",
      paths(session.layers),
      layer.path,
      (path) => go({ layer: path, to: two.path }),
      "compare-layer",
    ),
    choice("B", paths(session.layers), two.path, (path) => go({ to: path }), "with"),
    swap({ layer: two.path, to: layer.path }),
  );
  const model = session.model.title;
  return [
    { input: one, layer, m: 0, model },
    { input: one, layer: two, m: 0, model },
  ];
}

/** @param {HTMLElement} room @param {any} layer @param {any} one @returns {Promise<[Side, Side] | null>} */
async function ofModels(room, layer, one) {
  const found = await other();
  if (!found) {
    room.append(
      notice(
        "A second network is needed.",
        session.model.exported
          ? "This page holds one network only."
          : ["Start the app on two: ", h("br"), h("code", null, "convscope serve -m A -m B")],
      ),
    );
    return null;
  }
  const two = among(found.layers, view.to || layer.path);
  tools(
    room,
    choice("Layer of A", paths(session.layers), layer.path, (path) => go({ layer: path }), "compare-layer"),
    choice("Layer of B", paths(found.layers), two.path, (path) => go({ to: path }), "with"),
  );
  const titles = [session.model.title, found.model.title];
  const [a, b] =
    titles[0] === titles[1] ? titles.map((title, k) => `${title} (${k ? "second" : "first"})`) : titles;
  return [
    { input: one, layer, m: 0, model: a },
    { input: one, layer: two, m: 1, model: b },
  ];
}

/** @param {HTMLElement} room @param {...any} controls */
const tools = (room, ...controls) =>
  room.append(
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
const named = (side) => `${side.model} · ${side.layer.path} · ${side.input.name}`;

/** One side in brief: its picture, what it is, what the network answers. @param {Side} side @param {string} name @param {any} block */
async function card(side, name, block) {
  const [id, m] = [side.input.id, side.m ? "m=1" : ""];
  const src = await source.imageUrl(`api/inputs/${id}/image?view=model${m && `&${m}`}`).catch(() => "");
  const answer = await json(`api/inputs/${id}/predictions${m && `?${m}`}`).catch(() => ({
    predictions: [],
  }));
  const best = answer.predictions[0];
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

/** The ends of both sides. @param {any} a @param {any} b */
function scale(a, b) {
  const [[la, ha], [lb, hb]] = [extent(a), extent(b)];
  return [Math.min(la, lb), Math.max(ha, hb)];
}

/** @param {import("convscope/maps").Block} block */
const pooled = (block) =>
  block.full[0] * block.full[1] !== block.height * block.width && block.full[0] * block.full[1] > 1
    ? ` · drawn from maxima of patches, ${block.height}×${block.width} of ${block.full.join("×")}`
    : "";

/** @param {import("convscope/maps").Block} block @param {number} c @param {number} i */
const valueOf = (block, c, i) => {
  const level = block.levels[c * block.height * block.width + i];
  return level > 252 ? NaN : block.low[c] + (level * (block.high[c] - block.low[c])) / 252;
};

/** The value at each end of a scale as a level. @param {number} v @param {number} low @param {number} span */
const levelOf = (v, low, span) =>
  Number.isNaN(v) ? 253 : span > 0 ? Math.max(0, Math.min(252, Math.round(((v - low) / span) * 252))) : 0;

/** Channel by channel: A, B and A − B. @param {HTMLElement} room @param {Side} one @param {Side} two @param {any} first @param {any} second */
function together(room, one, two, first, second) {
  const [a, b] = [widened(first), widened(second)];
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
  room.append(legend, place);
  /** @type {any} */ let cells = null;
  /** @type {any} */ let standing = null;
  const [low, high] = scale(a, b);
  const most = Math.max(high - low, 1e-30);

  function draw() {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const words = new Uint32Array(image.data.buffer);
    const [colors, signed] = [pixels(sequential(), theme()), pixels("signed", theme())];
    order.forEach((c, k) => {
      const start =
        Math.floor(k / standing.columns) * standing.down * canvas.width +
        (k % standing.columns) * standing.across;
      for (let i = 0; i < height * width; i++) {
        const [va, vb] = [valueOf(a, c, i), valueOf(b, c, i)];
        const at = start + Math.floor(i / width) * canvas.width + (i % width);
        words[at] = colors[levelOf(va, low, high - low)];
        words[at + width + gap] = colors[levelOf(vb, low, high - low)];
        words[at + 2 * (width + gap)] = signed[levelOf(va - vb, -most, 2 * most)];
      }
    });
    context.putImageData(image, 0, 0);
  }

  function update() {
    cells?.close();
    const cell = Math.min(place.clientWidth || 900, 3 * (cellSize(a.full) * 0.86));
    standing = layOut(size, channels, place.clientWidth || 900, cell, 20);
    canvas.width = standing.width;
    canvas.height = standing.height;
    draw();
    cells = grid(canvas, {
      name: `Channels: A, ${named(one)}, against B, ${named(two)}`,
      count: channels,
      layout: standing,
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
      ramp(number(-most), number(most), "signed"),
      h("span", null, "A − B"),
      h(
        "span",
        null,
        `Each cell: A, B, A − B; channels by the difference of their means${pooled(first)} · differences from 253 levels`,
      ),
    );
    return true;
  }
  return {
    update,
    picture: () => canvas,
    labels: () =>
      labelsOf(
        standing,
        height,
        order.map((c) => `${c}   A, B, A − B`),
      ),
    line: () =>
      `${sequential()} from ${number(low)} to ${number(high)} for A and B; A − B signed, ±${number(most)}`,
    close: () => cells?.close(),
    focus: () => cells?.focus(),
  };
}

/** Shapes differ: each side by itself, on one scale. @param {HTMLElement} room @param {Side} one @param {Side} two @param {any} first @param {any} second */
function apart(room, one, two, first, second) {
  const blocks = [widened(first), widened(second)];
  const [low, high] = scale(first, second);
  const legend = h("div.legend");
  const shapes = [first, second].map((block) => [block.channels, ...block.full].join("×"));
  const places = [h("div"), h("div")];
  const canvases = [h("canvas"), h("canvas")];
  room.append(
    h(
      "p.small.soft",
      { id: "no-difference" },
      `A is ${shapes[0]} and B ${shapes[1]}: their positions or channels do not correspond, so there is no difference to draw. They stand side by side, on one scale.`,
    ),
    legend,
    h(
      "div.halves",
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
  /** @type {any[]} */ let standing = [];
  function update() {
    cells.forEach((one_) => one_.close());
    const look = /** @type {any} */ ({ range: "fixed", cmap: sequential(), low, high });
    cells = blocks.map((block, k) => {
      const side = [one, two][k];
      const order = Array.from({ length: block.channels }, (_, c) => c);
      standing[k] = layOut(
        block,
        block.channels,
        places[k].clientWidth || 420,
        cellSize(block.full) * 0.86,
        20,
      );
      paint(canvases[k], block, order, standing[k], look, theme());
      const made = grid(canvases[k], {
        name: `Channels of ${"AB"[k]}, ${named(side)}`,
        count: block.channels,
        layout: standing[k],
        cellHeight: block.height,
        cellWidth: block.width,
        cell: (c) => ({
          href: side.m
            ? link({})
            : link({ screen: "channel", layer: side.layer.path, channel: c, position: null }),
          still: isFlat(block, c) && block.full[0] * block.full[1] > 1,
          text: `Channel ${c}: ${number(block.low[c])} to ${number(block.high[c])}`,
          label: [h("b", null, c), h("span", null, number(block.high[c]))],
        }),
      });
      fill(places[k], made.element);
      return made;
    });
    fill(
      legend,
      ramp(number(low), number(high), sequential()),
      h(
        "span",
        null,
        `A and B, one scale · ${sequential()}; below each its greatest value${pooled(first) || pooled(second) ? " · large maps drawn from maxima of patches" : ""}`,
      ),
    );
    return true;
  }
  return {
    update,
    picture: () => beside(canvases, standing),
    line: () => `${sequential()} from ${number(low)} to ${number(high)} for both; A left, B right`,
    close: () => cells.forEach((one_) => one_.close()),
    focus: () => cells[0]?.focus(),
  };
}

/** Two canvases as one, for a picture to keep. @param {HTMLCanvasElement[]} canvases @param {any[]} standing */
function beside(canvases, standing) {
  const [a, b] = canvases.map((canvas, k) =>
    [canvas.width, canvas.height].map((side) => Math.round(side * standing[k].scale)),
  );
  const out = h("canvas", { width: a[0] + b[0] + 40, height: Math.max(a[1], b[1]) });
  const pen = out.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvases[0], 0, 0, a[0], a[1]);
  pen.drawImage(canvases[1], a[0] + 40, 0, b[0], b[1]);
  return out;
}
