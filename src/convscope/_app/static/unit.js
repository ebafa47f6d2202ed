/** A channel in the atlas: dataset examples, statistics, classes, similar filters. */

import { fill, h, notice, number, percent, plural } from "convscope/dom";
import { json, session } from "convscope/api";
import { source } from "convscope/source";
import { bars } from "convscope/input";
import { link } from "convscope/state";

const LISTS = {
  "top.mean": "Highest mean",
  "top.peak": "Highest peak",
  "bottom.mean": "Lowest mean",
  "bottom.peak": "Lowest peak",
  random: "Random",
};
const VIEWS = { crop: "Crop", whole: "Whole", map: "Map" };

/** @param {HTMLElement} parent @param {any} layer @param {number} c */
export async function atlasUnit(parent, layer, c) {
  let unit;
  try {
    unit = await json(`api/atlas/layers/${layer.index}/channels/${c}`);
  } catch (error) {
    fill(
      parent,
      h(
        "section.panel",
        null,
        h("h2", null, "On the dataset"),
        notice("The atlas has no statistics of this channel.", /** @type {Error} */ (error).message),
      ),
    );
    return;
  }
  const similar = await json(`api/atlas/layers/${layer.index}`).then(
    (all) => all.similar_filters?.[c] ?? [],
    () => [],
  );
  fill(
    parent,
    exemplars(unit, layer, c),
    h(
      "section.panel",
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
              ["std. deviation", Math.sqrt(Math.max(0, unit.variance ?? 0))],
              ["minimum", unit.minimum],
              ["median", unit.percentiles?.["50"]],
              ["99th percentile", unit.percentiles?.["99"]],
              ["maximum", unit.maximum],
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
              "The ten classes with the highest mean activation, and the number of images of each.",
            ),
            classes(unit.classes),
          ),
      ),
    ),
    similar.length > 0 &&
      h(
        "section.panel",
        null,
        h("h2", null, "Similar filters"),
        h("p.small.soft", null, "Channels of this layer with the highest cosine similarity of filters."),
        h(
          "div.row",
          null,
          similar.map((/** @type {number} */ k) =>
            h("a.unit", { href: link({ channel: k, position: null }) }, `${layer.path}:${k}`),
          ),
        ),
      ),
    h("p.provenance", { style: { "margin-top": "1rem" } }, unit.provenance),
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
      group(LISTS, list, "List of examples", (to) => {
        list = to;
        void draw();
      }),
      group(VIEWS, shown, "View of each example", (to) => {
        shown = to;
        void draw();
      }),
    );
    const found = unit.exemplars?.[list];
    if (!found?.exemplars.length)
      return fill(place, h("p.small.soft", { style: { "margin-top": ".75rem" } }, "None."));
    let url;
    try {
      url = await source.imageUrl(
        `api/atlas/layers/${layer.index}/channels/${c}/sprite?list=${list}&view=${shown}`,
      );
    } catch (error) {
      return fill(place, notice("These examples cannot be shown.", /** @type {Error} */ (error).message));
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
    "section.panel",
    null,
    h("h2", null, "Dataset examples"),
    h(
      "p.small.soft",
      null,
      `Of ${plural(session.model.atlas?.images ?? 0, "image")} from ` +
        `${session.model.atlas?.dataset ?? "the dataset"}. ` +
        "A crop is the receptive field of the position with the highest activation.",
    ),
    heads,
    place,
  );
}

/** Heights are square roots, so that small counts are visible beside large ones. @param {any} unit */
function histogram(unit) {
  const { low, high, counts } = unit.histogram ?? { low: [], high: [], counts: [] };
  if (!counts.length) return h("p.small.soft", null, "No values were counted.");
  const [width, height, foot] = [420, 130, 22];
  const minimum = unit.minimum;
  const maximum = unit.maximum > minimum ? unit.maximum : minimum + 1;
  const x = (/** @type {number} */ v) =>
    ((Math.max(minimum, Math.min(maximum, v)) - minimum) / (maximum - minimum)) * width;
  // bins of unequal width, whose ends may be open, spread over equal ones
  const bins = new Float64Array(42);
  counts.forEach((/** @type {number} */ n, /** @type {number} */ k) => {
    const from = Math.max(minimum, low[k] ?? minimum);
    const to = Math.min(maximum, high[k] ?? maximum);
    const a = Math.min(41, Math.max(0, Math.floor(((from - minimum) / (maximum - minimum)) * 42)));
    const b = Math.min(41, Math.max(a, Math.ceil(((to - minimum) / (maximum - minimum)) * 42) - 1));
    for (let i = a; i <= b; i++) bins[i] += n / (b - a + 1);
  });
  const top = Math.sqrt(Math.max(...bins));
  return h(
    "svg.chart",
    {
      viewBox: `0 0 ${width} ${height + foot}`,
      role: "img",
      "aria-label": `Histogram from ${number(minimum)} to ${number(unit.maximum)}`,
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
    minimum < 0 && maximum > 0 && h("line.zero", { x1: x(0), x2: x(0), y1: 0, y2: height }),
    h("text", { x: 0, y: height + 15 }, number(minimum)),
    minimum < 0 &&
      maximum > 0 &&
      x(0) > 60 &&
      x(0) < width - 60 &&
      h("text", { x: x(0), y: height + 15, "text-anchor": "middle" }, "0"),
    h("text", { x: width, y: height + 15, "text-anchor": "end" }, number(unit.maximum)),
    h(
      "text",
      { x: width / 2, y: height + 15, "text-anchor": "middle", "font-style": "italic" },
      x(0) > 60 && x(0) < width - 60 && minimum < 0 ? "" : "√ count",
    ),
  );
}

/** @param {any[]} rows */
function classes(rows) {
  const maximum = Math.max(...rows.map((row) => Math.abs(row.mean)), 1e-12);
  return bars(
    rows.map((row) => [row.class, Math.max(0, row.mean) / maximum, `${number(row.mean)} · ${row.images}`]),
    true,
  );
}
