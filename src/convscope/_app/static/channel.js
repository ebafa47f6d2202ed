/** A channel: its map over the image, values at positions, dataset examples, attribution and more. */

import { coloring, ramp, describe } from "convscope/controls";
import { point } from "convscope/cursor";
import { breakable, fill, h, notice, number } from "convscope/dom";
import { icon } from "convscope/examples";
import { sensitivity } from "convscope/sensitivity";
import { crumbs, layerOf } from "convscope/layer";
import { ends, extent, paint, paintValues, isNearlyConstant } from "convscope/maps";
import { atPosition, input, json, maps, oneMap, session } from "convscope/api";
import { optimize } from "convscope/optimize";
import { source } from "convscope/source";
import { drawBox, boxOf } from "convscope/input";
import { go, link, theme, view } from "convscope/state";
import { atlasUnit } from "convscope/unit";
import { attribution } from "convscope/attribution";

/** @param {HTMLElement} parent */
export async function channel(parent) {
  const layer = layerOf();
  const c = /** @type {number} */ (view.channel);
  const count = layer.shape?.[0] ?? 0;
  if (count && c >= count)
    throw new Error(`No channel ${c} in ${layer.path}: it has ${count} (0–${count - 1}).`);
  const name =
    (layer.shape?.length === 1 || (layer.shape?.[1] === 1 && layer.shape?.[2] === 1)) &&
    session.model.classes?.length === count
      ? session.model.classes[c]
      : "";
  const step = (/** @type {number} */ to, /** @type {string} */ text, /** @type {string} */ label) =>
    to >= 0 && to < count
      ? h(
          "a.button",
          {
            href: link({ channel: to, position: null }),
            "aria-label": label,
            id: to < c ? "previous" : "next",
          },
          text,
        )
      : null;
  parent.append(
    crumbs(layer, c),
    h(
      "div.head",
      null,
      h(
        "h1",
        null,
        breakable(layer.path),
        h("span.soft", null, ` : ${c}`),
        name && h("span.soft", null, ` ${name}`),
      ),
      h(
        "div.row",
        null,
        input(view.input) &&
          layer.has_maps &&
          (layer.shape?.[1] ?? 1) > 1 &&
          h(
            "a.button",
            {
              id: "similar-channels",
              href: link({
                screen: "layer",
                channel: null,
                position: null,
                tab: "maps",
                sort: "similarity",
                similar: c,
              }),
            },
            "Similar channels",
          ),
        step(c - 1, "‹ " + (c - 1), "Previous channel"),
        step(c + 1, `${c + 1} ›`, "Next channel"),
      ),
    ),
  );
  const one = input(view.input);
  /** @type {any} */ let shown = {};
  const atlasPart = h("div");
  if (one && layer.has_maps !== false) {
    try {
      shown = await mapOf(parent, layer, c, one);
    } catch (error) {
      parent.append(notice("This map cannot be shown.", /** @type {Error} */ (error).message));
    }
  } else if (!one)
    parent.append(
      notice(
        "There is no input image.",
        session.model.live
          ? "Drop one anywhere on this page to see the map of this channel."
          : "Statistics from the atlas are below.",
      ),
    );
  parent.append(atlasPart);
  if (layer.in_atlas) void atlasUnit(atlasPart, layer, c);
  const attributionPart = section(
    parent,
    "Attribution",
    "Positions of the image that raise or lower a class, or the activation of this unit.",
  );
  /** @type {any} */ const attributionPanel = session.model.features?.attribution?.length
    ? onceVisible(attributionPart, () => attribution(attributionPart, { layer, channel: c }))
    : attribution(attributionPart, { layer, channel: c });
  const stops = layer.shape ? [sensitivity(parent, layer, c), optimize(parent, layer, c)] : [];
  return {
    ...shown,
    update: (/** @type {any} */ now, /** @type {any} */ before) => {
      shown.update?.(now, before);
      attributionPanel.update?.(now, before);
      return true;
    },
    close: () => {
      shown.close?.();
      attributionPanel.close?.();
      stops.forEach((stop) => stop());
    },
  };
}

/** @param {HTMLElement} parent @param {string} title @param {string} what */
function section(parent, title, what) {
  const body = h("div");
  parent.append(h("section.panel", null, h("h2", null, title), h("p.small.soft", null, what), body));
  return body;
}

/**
 * Create a panel when it first becomes visible: the network has to compute it.
 * @param {HTMLElement} place @param {() => any} make
 */
function onceVisible(place, make) {
  /** @type {any} */ let created = null;
  const fieldBox = new IntersectionObserver((entries) => {
    if (created || !entries.some((entry) => entry.isIntersecting)) return;
    fieldBox.disconnect();
    created = make();
    created.update?.(view, null);
  });
  place.style.minHeight = "1px";
  fieldBox.observe(place);
  return {
    update: (/** @type {any} */ now, /** @type {any} */ before) => before && created?.update?.(now, before),
    close: () => {
      fieldBox.disconnect();
      created?.close?.();
    },
  };
}

const RANGES = {
  channel: "this channel's own minimum to maximum",
  layer: "the range of the whole layer",
  fixed: "a fixed range",
};

/** @param {HTMLElement} parent @param {any} layer @param {number} c @param {any} one */
async function mapOf(parent, layer, c, one) {
  const [map, block] = await Promise.all([oneMap(one.id, layer.index, c), maps(one.id, layer.index)]);
  const url = await source.imageUrl(`api/inputs/${one.id}/image?stage=preprocessed`).catch(() => "");
  const field = await json(`api/inputs/${one.id}/receptive_fields/${layer.index}`).catch(() => null);
  const [low, high] = ends(map.values);
  const constant = isNearlyConstant(low, high) && map.values.length > 1;
  const state = block.states[c];
  const pooled = map.height < map.full[0];
  const gates = field?.exact ? ", local; dashed: with global gates" : "";
  const canvas = h("canvas");
  const overlay = h("canvas", { style: { opacity: ".62" } });
  const [H, W] = map.full;
  const cursor = h("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const box = h("svg", {
    viewBox: `0 0 ${one.input_size[1]} ${one.input_size[0]}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  const ratio = (/** @type {number} */ h_, /** @type {number} */ w_) => ({ "aspect-ratio": `${w_}/${h_}` });
  const plate = h(
    "div.plate",
    {
      id: "map",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "feature map",
      style: ratio(H, W),
      "aria-label": `Map of ${layer.path}, channel ${c}, ${H}×${W}. Use the arrow keys to move over it.`,
      "aria-describedby": "readout",
    },
    canvas,
    constant &&
      h(
        "div.constant",
        null,
        h("span", null, low === 0 ? "inactive on this image" : `constant: ${number(low)}`),
      ),
    cursor,
  );
  const imagePlate = h(
    "div.plate",
    { style: { ...ratio(one.input_size[0], one.input_size[1]), cursor: "crosshair" } },
    url && h("img", { src: url, alt: `${one.name} under the map` }),
    overlay,
    box,
  );
  const readout = h("dl.readout", { id: "readout" });
  const strongest = h("div");
  const controls = h("div.row.tools", { style: { "margin-top": ".9rem" } });
  const words = h("div");
  const opacity = h("input", {
    type: "range",
    min: 0,
    max: 100,
    value: 62,
    "aria-label": "Opacity of the map over the image",
    style: { width: "7rem" },
    oninput: (/** @type {any} */ e) => (overlay.style.opacity = String(e.target.value / 100)),
  });
  parent.append(
    controls,
    words,
    h(
      "div.stages",
      null,
      h("div.stage", null, h("h2", null, "Map", h("span.soft.small", null, `${H}×${W}`)), plate),
      h("div.stage", null, h("h2", null, "Over the image", opacity), imagePlate),
      readout,
    ),
    strongest,
  );

  const colorRange = () => {
    let range =
      view.range === "layer" || (view.range === "channel" && H * W === 1)
        ? extent(block)
        : view.range === "fixed"
          ? [view.low, view.high]
          : [low, high];
    if (view.cmap === "signed")
      range = [
        -Math.max(Math.abs(range[0]), Math.abs(range[1])),
        Math.max(Math.abs(range[0]), Math.abs(range[1])),
      ];
    return /** @type {[number, number]} */ (range);
  };
  /** @type {[number, number] | null} */ let at = null;

  function draw() {
    const range =
      constant && view.range === "channel" ? /** @type {[number, number]} */ ([low, low]) : colorRange();
    paintValues(canvas, map.values, map.height, map.width, range, view.cmap, theme());
    paintValues(overlay, map.values, map.height, map.width, range, view.cmap, theme());
    fill(controls, ...coloring(() => extent(block)));
    fill(
      words,
      h(
        "div.legend",
        null,
        constant && view.range === "channel"
          ? h("span", null, h("span.swatch.hatch"), "constant")
          : ramp(number(range[0]), number(range[1])),
        h(
          "span",
          null,
          `${describe(`${layer.path}:${c}`, one.name)} · ${view.cmap}, ${RANGES[view.range]}`,
        ),
        !map.exact &&
          h(
            "span",
            null,
            `values ≈, from 253 levels${pooled ? `; max-pooled to ${map.height}×${map.width}` : ""}`,
          ),
        (state === "nan" || state === "inf") &&
          h("span.warn", null, state === "nan" ? "contains NaN" : "contains infinity"),
      ),
    );
  }

  /** @param {number} y @param {number} x */
  const valueAt = (y, x) =>
    map.values[
      Math.min(map.height - 1, Math.floor((y * map.height) / H)) * map.width +
        Math.min(map.width - 1, Math.floor((x * map.width) / W))
    ];

  /** @param {[number, number] | null} place */
  function pointTo(place) {
    at = place;
    if (!place) {
      cursor.replaceChildren();
      box.replaceChildren();
      point(null);
      fill(
        readout,
        h(
          "div",
          { style: { "grid-column": "1/-1" } },
          h("dt", null, "Point at the map, or use the arrow keys"),
          h(
            "dd.soft",
            { style: { "font-weight": 400 } },
            "Shows the value and the receptive field of the position. Click or press Enter to pin it.",
          ),
        ),
      );
      return;
    }
    const [y, x] = place;
    const fieldBox = field ? boxOf(field, y, x) : null;
    const value = valueAt(y, x);
    cursor.replaceChildren(
      h("rect.field-halo", { x, y, width: 1, height: 1 }),
      h("rect.field-box", { x, y, width: 1, height: 1 }),
    );
    box.replaceChildren(
      ...(fieldBox
        ? drawBox(fieldBox, one.input_size[0], one.input_size[1], field.exact && boxOf(field.exact, y, x))
        : []),
    );
    point({ layer: layer.index, y, x });
    fill(
      readout,
      h(
        "div",
        null,
        h("dt", null, "Value"),
        h(
          "dd.value",
          { id: "value", "data-value": String(value) },
          `${map.exact ? "" : "≈ "}${number(value)}`,
        ),
      ),
      h("div", null, h("dt", null, "Position (y, x)"), h("dd.value", { id: "position" }, `${y}, ${x}`)),
      h(
        "div",
        null,
        h("dt", null, `Receptive field${gates}${field?.data_dependent ? ", depends on the data" : ""}`),
        h(
          "dd",
          {
            id: "field",
            "data-box": fieldBox
              ? [fieldBox.top, fieldBox.left, fieldBox.bottom, fieldBox.right].join(",")
              : "",
          },
          !fieldBox
            ? "not known for this layer"
            : fieldBox.bottom <= fieldBox.top || fieldBox.right <= fieldBox.left
              ? "outside the image"
              : `rows ${fieldBox.top}–${fieldBox.bottom - 1}, ` +
                `columns ${fieldBox.left}–${fieldBox.right - 1}`,
        ),
      ),
    );
  }

  /** @param {[number, number]} place */
  const clamp = ([y, x]) =>
    /** @type {[number, number]} */ ([Math.max(0, Math.min(H - 1, y)), Math.max(0, Math.min(W - 1, x))]);
  for (const surface of [plate, imagePlate]) {
    const placeOf = (/** @type {PointerEvent} */ event) => {
      const area = surface.getBoundingClientRect();
      return clamp([
        Math.floor(((event.clientY - area.top) / area.height) * H),
        Math.floor(((event.clientX - area.left) / area.width) * W),
      ]);
    };
    surface.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => pointTo(placeOf(event)));
    surface.addEventListener("pointerleave", () => pointTo(view.position));
    surface.addEventListener("click", (/** @type {PointerEvent} */ event) =>
      go({ position: placeOf(event) }, true),
    );
  }
  plate.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [y, x] = at ?? view.position ?? [Math.floor(H / 2), Math.floor(W / 2)];
    const step = event.shiftKey ? 5 : 1;
    const to = {
      ArrowUp: [y - step, x],
      ArrowDown: [y + step, x],
      ArrowLeft: [y, x - step],
      ArrowRight: [y, x + step],
      Enter: [y, x],
    }[event.key];
    if (to) {
      event.preventDefault();
      go({ position: clamp(/** @type {[number, number]} */ (to)) }, true);
    } else if (event.key === "Escape" && view.position) {
      event.stopPropagation();
      go({ position: null }, true);
    }
  });

  let requested = "";
  async function listStrongest() {
    const place = view.position;
    const key = String(place);
    if (key === requested) return;
    requested = key;
    if (!place) return fill(strongest);
    await new Promise((resume) => setTimeout(resume, 120));
    if (requested !== key) return;
    const values = await atPosition(one.id, layer.index, ...place).catch(() => null);
    if (!values || requested !== key) return;
    const best = Array.from(values, (value, k) => [value, k])
      .filter(([v]) => Number.isFinite(v))
      .sort((a, b) => b[0] - a[0])
      .slice(0, 10);
    const icons = layer.in_atlas
      ? await source.imageUrl(`api/atlas/layers/${layer.index}/icons`).catch(() => "")
      : "";
    if (requested !== key) return;
    fill(
      strongest,
      h(
        "section.panel",
        null,
        h("h2", null, `Strongest channels at (${place.join(", ")})`),
        h(
          "p.small.soft",
          null,
          icons
            ? "Each with the dataset crop of its highest activation."
            : "Each with its map of this image, in its own range.",
        ),
        h(
          "ol.ranked",
          null,
          best.map(([value, k]) => {
            const small = icons
              ? h("span.icon48", {
                  style: { ...icon(icons, k, 80), width: "100%", "aspect-ratio": "1", height: "auto" },
                })
              : h("canvas");
            if (!icons)
              paint(
                small,
                block,
                [k],
                {
                  columns: 1,
                  rows: 1,
                  across: block.width,
                  down: block.height,
                  width: block.width,
                  height: block.height,
                  scale: 1,
                },
                { range: "channel", cmap: view.cmap, low: 0, high: 1 },
                theme(),
              );
            return h(
              "li",
              null,
              h(
                "a",
                { href: link({ channel: k }), "aria-current": k === c ? "true" : null },
                small,
                h("b", null, k),
                " ",
                h("span.soft", null, `${session.model.features.exact ? "" : "≈ "}${number(value)}`),
              ),
            );
          }),
        ),
      ),
    );
  }

  return {
    /** @param {any} now @param {any} before */
    update(now, before) {
      if (
        !before ||
        now.cmap !== before.cmap ||
        now.range !== before.range ||
        now.low !== before.low ||
        now.high !== before.high
      )
        draw();
      pointTo(now.position);
      void listStrongest();
      return true;
    },
    canvas: () => canvas,
    npz: () => `api/inputs/${one.id}/maps/${layer.index}.npz?channel=${c}`,
    focus: () => plate.focus(),
    /** @param {string} key */
    key(key) {
      if (key !== "o") return false;
      opacity.value = Number(opacity.value) > 0 ? 0 : 62;
      overlay.style.opacity = String(opacity.value / 100);
      return true;
    },
    close: () => point(null),
  };
}
