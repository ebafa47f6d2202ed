/** The panel of the input image: the preprocessed input, predictions, the receptive field. */

import { onpoint } from "convscope/cursor";
import { fill, h, percent } from "convscope/dom";
import { uploadBox, imageStrip } from "convscope/upload";
import { input, json, session } from "convscope/api";
import { source } from "convscope/source";
import { go, link, onchange, view } from "convscope/state";

/** @type {SVGElement} */
let overlay;
/** @type {import("convscope/cursor").Cursor | null} */
let pointed = null;

const PHONE = matchMedia("(max-width:46rem)");

export function inputPanel() {
  PHONE.addEventListener("change", () => void draw());
  onchange((now, before) => {
    if (now.input !== before.input || now.stage !== before.stage || now.screen !== before.screen)
      void draw();
  });
  onpoint((cursor) => {
    pointed = cursor;
    void drawField();
  });
  void draw();
}

async function draw() {
  const side = /** @type {HTMLElement} */ (document.getElementById("input-panel"));
  const one = input(view.input);
  if (!one) {
    fill(
      side,
      h(
        "div",
        null,
        h("div.title", null, h("h2", null, "Input image")),
        h("p.small.soft", null, session.model.live ? "No image yet." : "This page contains no image."),
      ),
      uploadBox(),
      await imageStrip(),
    );
    return;
  }
  const original = view.stage === "original";
  const [height, width] = original ? one.original_size : one.input_size;
  overlay = h("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  const url = await source.imageUrl(`api/inputs/${one.id}/image?stage=${view.stage}`).catch(() => "");
  const plate = h(
    "div.plate",
    { style: { "aspect-ratio": `${width}/${height}`, "--ratio": String(width / height) } },
    url &&
      h(`img${Math.max(height, width) <= 96 ? ".pixels" : ""}`, {
        src: url,
        alt: original ? `${one.name}, the original` : `${one.name}, preprocessed`,
      }),
    overlay,
  );
  const segments = h(
    "div.segments",
    { role: "group", "aria-label": "Stage of preprocessing" },
    [
      ["preprocessed", "Input", "Preprocessed input"],
      ["original", "Original", "Original image"],
    ].map(([value, name, title]) =>
      h(
        "button",
        {
          type: "button",
          title,
          "aria-pressed": String(view.stage === value),
          onclick: () => go({ stage: value }, true),
        },
        name,
      ),
    ),
  );
  fill(
    side,
    h(
      "div",
      null,
      h("div.title", null, h("h2", { title: one.name }, one.name)),
      plate,
      h(
        "div.row.between",
        { style: { "margin-top": ".5rem" } },
        segments,
        h("span.small.soft.nowrap", null, `${height}×${width}`),
      ),
    ),
    h(
      "div",
      null,
      await predictionBars(one.id),
      h(
        "details",
        { style: { "margin-top": ".5rem" } },
        h("summary", null, "Preprocessing"),
        h(
          "ul.provenance",
          null,
          one.preprocessing.map((line) => h("li", null, line)),
        ),
      ),
    ),
    h(
      "details.more",
      { open: !PHONE.matches || view.screen === "home" },
      h("summary", null, "Other images"),
      await imageStrip(),
      uploadBox(),
    ),
  );
  void drawField();
}

/** @param {string} id */
async function predictionBars(id) {
  try {
    const { predictions, note } = await json(`api/inputs/${id}/predictions`);
    if (!predictions.length) return h("p.small.soft", null, note || "This network has no class names.");
    const attributionLink =
      session.model.features?.attribution?.length > 0 &&
      h(
        "a.small",
        {
          id: "attribution-link",
          href: link({
            screen: "home",
            tab: "attribution",
            layer: null,
            channel: null,
            position: null,
            target: "",
          }),
        },
        "Attribution",
      );
    return [
      h(
        "div.row.between",
        { style: { "margin-bottom": ".35rem" } },
        h("h3", null, "Prediction"),
        attributionLink,
      ),
      bars(predictions.map((/** @type {any} */ p) => [p.class, p.probability, percent(p.probability)])),
    ];
  } catch (error) {
    return h("p.small.soft", null, /** @type {Error} */ (error).message);
  }
}

/**
 * A bar chart: name, share 0 … 1 and text of each row; `between`: the bar is between name and text.
 * @param {[string, number, string][]} rows
 */
export function bars(rows, between = false) {
  return h(
    "div.bars",
    { role: "list" },
    rows.map(([name, share, words]) => {
      const parts = [
        h("span.nowrap.n", null, words),
        h(
          "span.meter",
          { "aria-hidden": "true" },
          h("i", { style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } }),
        ),
      ];
      return h(
        "div",
        { role: "listitem", style: { display: "contents" } },
        h("span.who", { title: name }, name),
        between ? parts.reverse() : parts,
      );
    }),
  );
}

/**
 * A receptive field as a box: rows[y] × columns[x].
 * @param {{rows: any, columns: any}} field @param {number} y @param {number} x
 */
export function boxOf(field, y, x) {
  const rows = field.rows[Math.min(y, field.rows.length - 1)];
  const columns = field.columns[Math.min(x, field.columns.length - 1)];
  return rows && columns ? { top: rows[0], bottom: rows[1], left: columns[0], right: columns[1] } : null;
}

/**
 * A box over an image of `height` × `width`, the rest shaded.
 * @param {any} box @param {number} height @param {number} width @param {any} [wide]
 */
export function drawBox(box, height, width, wide) {
  const at = (/** @type {any} */ b) => ({
    x: b.left,
    y: b.top,
    width: b.right - b.left,
    height: b.bottom - b.top,
  });
  return [
    h("path.field-shade", {
      d: `M0 0H${width}V${height}H0ZM${box.left} ${box.top}V${box.bottom}H${box.right}V${box.top}Z`,
    }),
    h("rect.field-halo", at(box)),
    h("rect.field-box", at(box)),
    wide && h("rect.field-box.wide", at(wide)),
  ].filter(Boolean);
}

/** @param {any} box in pixels of the preprocessed input @param {import("convscope/api").Input} one */
export function toOriginal(box, one) {
  const y = (/** @type {number} */ v) =>
    Math.max(0, Math.min(one.original_size[0], (v + one.offset[0]) / one.scale[0]));
  const x = (/** @type {number} */ v) =>
    Math.max(0, Math.min(one.original_size[1], (v + one.offset[1]) / one.scale[1]));
  return { top: y(box.top), bottom: y(box.bottom), left: x(box.left), right: x(box.right) };
}

async function drawField() {
  if (!overlay) return;
  const one = input(view.input);
  const cursor = pointed;
  if (!cursor || !one) return void overlay.replaceChildren();
  let field;
  try {
    field = await json(`api/inputs/${one.id}/receptive_fields/${cursor.layer}`);
  } catch {
    return void overlay.replaceChildren();
  }
  if (cursor !== pointed) return;
  const original = view.stage === "original";
  const [height, width] = original ? one.original_size : one.input_size;
  const place = (/** @type {any} */ box) => (box && original ? toOriginal(box, one) : box);
  const box = place(boxOf(field, cursor.y, cursor.x));
  const wide = field.exact && place(boxOf(field.exact, cursor.y, cursor.x));
  overlay.replaceChildren(...(box ? drawBox(box, height, width, wide) : []));
  overlay.dataset.box = box ? [box.top, box.left, box.bottom, box.right].join(",") : "";
}
