/** What a scan found of one channel: dataset examples, values, classes, and where that comes from. */

import { fill, h, notice, number, percent, plural } from "convscope/dom";
import { json, session } from "convscope/model";
import { source } from "convscope/source";
import { bars } from "convscope/specimen";
import { link } from "convscope/state";

const LISTS = {
  "top.mean": "Highest mean",
  "top.peak": "Highest peak",
  "bottom.mean": "Lowest mean",
  "bottom.peak": "Lowest peak",
  random: "At random",
};
const VIEWS = { crop: "Crop", whole: "Whole", map: "Map" };

/** @param {HTMLElement} room @param {any} layer @param {number} c */
export async function evidence(room, layer, c) {
  let unit;
  try {
    unit = await json(`api/atlas/layers/${layer.index}/channels/${c}`);
  } catch (error) {
    fill(
      room,
      h(
        "section.part",
        null,
        h("h2", null, "In the data"),
        notice("The atlas says nothing of this channel here.", /** @type {Error} */ (error).message),
      ),
    );
    return;
  }
  const neighbors = await json(`api/atlas/layers/${layer.index}`).then(
    (all) => all.neighbors?.[c] ?? [],
    () => [],
  );
  fill(
    room,
    exemplars(unit, layer, c),
    h(
      "section.part",
      null,
      h(
        "div.pair",
        null,
        h(
          "div",
          null,
          h("h2", null, "Values"),
          h(
            "p.small.soft",
            null,
            `${percent(unit.active)} above zero, over ${plural(unit.count, "value")}`,
          ),
          histogram(unit),
          h(
            "dl.numbers",
            null,
            [
              ["mean", unit.mean],
              ["deviation", Math.sqrt(Math.max(0, unit.variance ?? 0))],
              ["least", unit.minimum],
              ["median", unit.percentiles?.["50"]],
              ["99th percentile", unit.percentiles?.["99"]],
              ["greatest", unit.maximum],
            ].map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, number(value)))),
            unit.nan > 0 && h("div", null, h("dt", null, "NaN"), h("dd.warn", null, unit.nan)),
          ),
        ),
        unit.classes &&
          h(
            "div",
            null,
            h("h2", null, "Classes"),
            h(
              "p.small.soft",
              { style: { "margin-bottom": ".6rem" } },
              "The channel's mean over the pictures of each class, and how many there are; the ten highest.",
            ),
            classes(unit.classes),
          ),
      ),
    ),
    neighbors.length > 0 &&
      h(
        "section.part",
        null,
        h("h2", null, "Similar filters"),
        h("p.small.soft", null, "Channels of this layer whose kernels point the same way."),
        h(
          "div.row",
          null,
          neighbors.map((/** @type {number} */ k) =>
            h("a.unit", { href: link({ channel: k, position: null }) }, `${layer.path}:${k}`),
          ),
        ),
      ),
    h("p.prov", { style: { "margin-top": "1rem" } }, unit.provenance),
  );
}

/** @param {any} unit @param {any} layer @param {number} c */
function exemplars(unit, layer, c) {
  let list = "top.mean";
  let shown = "crop";
  const place = h("div");
  const heads = h("div.row", { style: { "margin-top": ".6rem" } });
  const group = (
    /** @type {Record<string, string>} */ names,
    /** @type {string} */ value,
    /** @type {string} */ label,
    /** @type {(v: string) => void} */ change,
  ) =>
    h(
      "div.segments",
      { role: "group", "aria-label": label, style: { "overflow-x": "auto", "max-width": "100%" } },
      Object.entries(names).map(([key, name]) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(key === value), onclick: () => change(key) },
          name,
        ),
      ),
    );
  async function draw() {
    fill(
      heads,
      group(LISTS, list, "Which examples", (to) => {
        list = to;
        void draw();
      }),
      group(VIEWS, shown, "What of each", (to) => {
        shown = to;
        void draw();
      }),
    );
    const found = unit.lists?.[list];
    if (!found?.exemplars.length)
      return fill(place, h("p.small.soft", { style: { "margin-top": ".75rem" } }, "None are kept."));
    let url;
    try {
      url = await source.imageUrl(
        `api/atlas/layers/${layer.index}/channels/${c}/sprite?list=${list}&view=${shown}`,
      );
    } catch (error) {
      return fill(place, notice("These pictures are not here.", /** @type {Error} */ (error).message));
    }
    fill(
      place,
      h(
        "ol.sprites",
        null,
        found.exemplars.map((/** @type {any} */ one, /** @type {number} */ k) =>
          h(
            "li",
            null,
            h("div.crop", {
              role: "img",
              "aria-label": `${VIEWS[/** @type {"crop"} */ (shown)]} of ${one.id}`,
              style: {
                "background-image": `url("${url}")`,
                "background-position": `${k ? (k / (found.exemplars.length - 1)) * 100 : 0}% 0`,
                "background-size": `${found.exemplars.length * 100}% 100%`,
              },
            }),
            h("small", null, h("b", null, number(one.score)), ` ${one.label ?? ""}`),
            h("small", { title: one.id }, one.id),
          ),
        ),
      ),
      found.note && h("p.small.soft", { style: { "margin-top": ".5rem" } }, found.note),
    );
  }
  void draw();
  return h(
    "section.part",
    null,
    h("h2", null, "Dataset examples"),
    h(
      "p.small.soft",
      null,
      `Of ${plural(session.model.atlas?.images ?? 0, "picture")} from ${session.model.atlas?.dataset ?? "the dataset"}. A crop is what the channel's strongest position sees.`,
    ),
    heads,
    place,
  );
}

/** Bins as they are kept: ends may be open. Heights are square roots, so that few are seen beside many. @param {any} unit */
function histogram(unit) {
  const { low, high, counts } = unit.histogram ?? { low: [], high: [], counts: [] };
  if (!counts.length) return h("p.small.soft", null, "No values were counted.");
  const [width, height, foot] = [420, 130, 22];
  const least = unit.minimum;
  const most = unit.maximum > least ? unit.maximum : least + 1;
  const x = (/** @type {number} */ v) =>
    ((Math.max(least, Math.min(most, v)) - least) / (most - least)) * width;
  // bins of unequal width, gathered into forty equal ones, each value where the middle of its bin is
  const bins = new Float64Array(42);
  counts.forEach((/** @type {number} */ n, /** @type {number} */ k) => {
    const from = Math.max(least, low[k] ?? least);
    const to = Math.min(most, high[k] ?? most);
    const a = Math.min(41, Math.max(0, Math.floor(((from - least) / (most - least)) * 42)));
    const b = Math.min(41, Math.max(a, Math.ceil(((to - least) / (most - least)) * 42) - 1));
    for (let i = a; i <= b; i++) bins[i] += n / (b - a + 1);
  });
  const top = Math.sqrt(Math.max(...bins));
  return h(
    "svg.chart",
    {
      viewBox: `0 0 ${width} ${height + foot}`,
      role: "img",
      "aria-label": `Histogram from ${number(least)} to ${number(unit.maximum)}`,
    },
    Array.from(
      bins,
      (n, i) =>
        n > 0 &&
        h("rect.bin", {
          x: (i * width) / 42 + 0.5,
          width: width / 42 - 1,
          y: height - (Math.sqrt(n) / top) * (height - 4),
          height: Math.max(1, (Math.sqrt(n) / top) * (height - 4)),
        }),
    ),
    least < 0 && most > 0 && h("line.zero", { x1: x(0), x2: x(0), y1: 0, y2: height }),
    h("text", { x: 0, y: height + 15 }, number(least)),
    least < 0 &&
      most > 0 &&
      x(0) > 60 &&
      x(0) < width - 60 &&
      h("text", { x: x(0), y: height + 15, "text-anchor": "middle" }, "0"),
    h("text", { x: width, y: height + 15, "text-anchor": "end" }, number(unit.maximum)),
    h(
      "text",
      { x: width / 2, y: height + 15, "text-anchor": "middle", "font-style": "italic" },
      x(0) > 60 && x(0) < width - 60 && least < 0 ? "" : "√ count",
    ),
  );
}

/** @param {any[]} rows */
function classes(rows) {
  const most = Math.max(...rows.map((row) => Math.abs(row.mean)), 1e-12);
  return bars(
    rows.map((row) => [row.class, Math.max(0, row.mean) / most, `${number(row.mean)} · ${row.images}`]),
    true,
  );
}
