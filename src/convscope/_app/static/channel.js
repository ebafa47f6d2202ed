/** A channel: its map, the picture under it, one position at a time, and the evidence of what it is for. */

import { coloring, ramp, stating } from "convscope/controls";
import { point } from "convscope/cursor";
import { breakable, fill, h, notice, number } from "convscope/dom";
import { icon } from "convscope/examples";
import { felt } from "convscope/felt";
import { crumbs, layerOf } from "convscope/layer";
import { ends, extent, paint, paintValues, withoutVariation } from "convscope/maps";
import { atPosition, input, json, maps, oneMap, session } from "convscope/model";
import { optimize } from "convscope/optimize";
import { source } from "convscope/source";
import { drawBox, boxOf } from "convscope/specimen";
import { go, link, theme, view } from "convscope/state";
import { evidence } from "convscope/unit";
import { why } from "convscope/why";

/** @param {HTMLElement} room */
export async function channel(room) {
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
  room.append(
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
          layer.maps &&
          (layer.shape?.[1] ?? 1) > 1 &&
          h(
            "a.button",
            {
              id: "alike",
              href: link({
                screen: "layer",
                channel: null,
                position: null,
                tab: "maps",
                sort: "similarity",
                like: c,
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
  const evidenceRoom = h("div");
  if (one && layer.maps !== false) {
    try {
      shown = await mapOf(room, layer, c, one);
    } catch (error) {
      room.append(notice("This map cannot be shown.", /** @type {Error} */ (error).message));
    }
  } else if (!one)
    room.append(
      notice(
        "No picture is under the microscope.",
        session.model.live
          ? "Drop one anywhere on this page to see this channel's map of it."
          : "What the atlas knows of this channel is below.",
      ),
    );
  room.append(evidenceRoom);
  if (layer.atlas) void evidence(evidenceRoom, layer, c);
  const reasons = part(
    room,
    "Attribution",
    "Where in the picture a class, or this unit, gets its evidence from.",
  );
  /** @type {any} */ const explained = session.model.can?.attribution?.length
    ? lazily(reasons, () => why(reasons, { layer, channel: c }))
    : why(reasons, { layer, channel: c });
  const stops = layer.shape ? [felt(room, layer, c), optimize(room, layer, c)] : [];
  return {
    ...shown,
    update: (/** @type {any} */ now, /** @type {any} */ before) => {
      shown.update?.(now, before);
      explained.update?.(now, before);
      return true;
    },
    close: () => {
      shown.close?.();
      explained.close?.();
      stops.forEach((stop) => stop());
    },
  };
}

/** @param {HTMLElement} room @param {string} title @param {string} what */
function part(room, title, what) {
  const body = h("div");
  room.append(h("section.part", null, h("h2", null, title), h("p.small.soft", null, what), body));
  return body;
}

/**
 * A part that is made when it first comes into sight: it has the network compute.
 * @param {HTMLElement} place @param {() => any} make
 */
function lazily(place, make) {
  /** @type {any} */ let made = null;
  const seen = new IntersectionObserver((entries) => {
    if (made || !entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    made = make();
    made.update?.(view, null);
  });
  place.style.minHeight = "1px";
  seen.observe(place);
  return {
    update: (/** @type {any} */ now, /** @type {any} */ before) => before && made?.update?.(now, before),
    close: () => {
      seen.disconnect();
      made?.close?.();
    },
  };
}

/** @param {HTMLElement} room @param {any} layer @param {number} c @param {any} one */
async function mapOf(room, layer, c, one) {
  const [map, block] = await Promise.all([oneMap(one.id, layer.index, c), maps(one.id, layer.index)]);
  const url = await source.imageUrl(`api/inputs/${one.id}/image?view=model`).catch(() => "");
  const field = await json(`api/inputs/${one.id}/fields/${layer.index}`).catch(() => null);
  const [low, high] = ends(map.values);
  const still = withoutVariation(low, high) && map.values.length > 1;
  const state = block.states[c];
  const canvas = h("canvas");
  const over = h("canvas", { style: { opacity: ".62" } });
  const [H, W] = map.full;
  const cursor = h("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const box = h("svg", {
    viewBox: `0 0 ${one.seen[1]} ${one.seen[0]}`,
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
      "aria-label": `Map of ${layer.path}, channel ${c}, ${H} rows and ${W} columns. Arrow keys move over it.`,
      "aria-describedby": "readout",
    },
    canvas,
    still &&
      h(
        "div.still",
        null,
        h("span", null, low === 0 ? "dead: zero everywhere" : `constant: ${number(low)} everywhere`),
      ),
    cursor,
  );
  const picture = h(
    "div.plate",
    { style: { ...ratio(one.seen[0], one.seen[1]), cursor: "crosshair" } },
    url && h("img", { src: url, alt: `${one.name} under the map` }),
    over,
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
    "aria-label": "How strongly the map covers the picture",
    style: { width: "7rem" },
    oninput: (/** @type {any} */ e) => (over.style.opacity = String(e.target.value / 100)),
  });
  room.append(
    controls,
    words,
    h(
      "div.stages",
      null,
      h("div.stage", null, h("h2", null, "Map", h("span.soft.small", null, `${H}×${W}`)), plate),
      h("div.stage", null, h("h2", null, "Over the picture", opacity), picture),
      readout,
    ),
    strongest,
  );

  const look = () => {
    let span_ =
      view.range === "layer" || (view.range === "channel" && H * W === 1)
        ? extent(block)
        : view.range === "fixed"
          ? [view.low, view.high]
          : [low, high];
    if (view.cmap === "signed")
      span_ = [
        -Math.max(Math.abs(span_[0]), Math.abs(span_[1])),
        Math.max(Math.abs(span_[0]), Math.abs(span_[1])),
      ];
    return /** @type {[number, number]} */ (span_);
  };
  /** @type {[number, number] | null} */ let at = null;

  function draw() {
    const span_ = still && view.range === "channel" ? /** @type {[number, number]} */ ([low, low]) : look();
    paintValues(canvas, map.values, map.height, map.width, span_, view.cmap, theme());
    paintValues(over, map.values, map.height, map.width, span_, view.cmap, theme());
    fill(controls, ...coloring(() => extent(block)));
    fill(
      words,
      h(
        "div.legend",
        null,
        still && view.range === "channel"
          ? h("span", null, h("span.swatch.hatch"), "no variation")
          : ramp(number(span_[0]), number(span_[1])),
        h(
          "span",
          null,
          `${stating(`${layer.path}:${c}`, one.name)} · ${view.cmap}, ${view.range === "channel" ? "this channel's own least to greatest value" : view.range === "layer" ? "the range of the whole layer" : "a fixed range"}`,
        ),
        !map.exact &&
          h(
            "span",
            null,
            `values ≈, from 253 levels${map.height < map.full[0] ? `; drawn at ${map.height}×${map.width}, the maximum of each patch` : ""}`,
          ),
        (state === "nan" || state === "inf") &&
          h("span.warn", null, state === "nan" ? "holds NaN" : "holds infinity"),
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
            "The exact value, and what of the picture that position sees. Click, or press Enter, to keep it.",
          ),
        ),
      );
      return;
    }
    const [y, x] = place;
    const seen = field ? boxOf(field, y, x) : null;
    const value = valueAt(y, x);
    cursor.replaceChildren(
      h("rect.fieldback", { x, y, width: 1, height: 1 }),
      h("rect.fieldbox", { x, y, width: 1, height: 1 }),
    );
    box.replaceChildren(
      ...(seen ? drawBox(seen, one.seen[0], one.seen[1], field.exact && boxOf(field.exact, y, x)) : []),
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
        h(
          "dt",
          null,
          `Receptive field${field?.exact ? ", local; dashed: with what gates tell" : ""}${field?.data_dependent ? ", depends on the data" : ""}`,
        ),
        h(
          "dd",
          { id: "field", "data-box": seen ? [seen.top, seen.left, seen.bottom, seen.right].join(",") : "" },
          !seen
            ? "not known for this layer"
            : seen.bottom <= seen.top || seen.right <= seen.left
              ? "sees nothing of the picture"
              : `rows ${seen.top}–${seen.bottom - 1}, columns ${seen.left}–${seen.right - 1}`,
        ),
      ),
    );
  }

  /** @param {[number, number]} place */
  const clamp = ([y, x]) =>
    /** @type {[number, number]} */ ([Math.max(0, Math.min(H - 1, y)), Math.max(0, Math.min(W - 1, x))]);
  for (const surface of [plate, picture]) {
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
    const far = event.shiftKey ? 5 : 1;
    const to = {
      ArrowUp: [y - far, x],
      ArrowDown: [y + far, x],
      ArrowLeft: [y, x - far],
      ArrowRight: [y, x + far],
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

  let asked = "";
  async function rank() {
    const place = view.position;
    const key = String(place);
    if (key === asked) return;
    asked = key;
    if (!place) return fill(strongest);
    await new Promise((resume) => setTimeout(resume, 120));
    if (asked !== key) return;
    const values = await atPosition(one.id, layer.index, ...place).catch(() => null);
    if (!values || asked !== key) return;
    const best = Array.from(values, (value, k) => [value, k])
      .filter(([v]) => Number.isFinite(v))
      .sort((a, b) => b[0] - a[0])
      .slice(0, 10);
    const icons = layer.atlas
      ? await source.imageUrl(`api/atlas/layers/${layer.index}/icons`).catch(() => "")
      : "";
    if (asked !== key) return;
    fill(
      strongest,
      h(
        "section.part",
        null,
        h("h2", null, `Strongest channels at (${place.join(", ")})`),
        h(
          "p.small.soft",
          null,
          icons
            ? "Each shown by the crop of the dataset that it answers to most."
            : "Each shown by its map of this picture, in its own range.",
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
                h("span.soft", null, `${session.model.can.exact ? "" : "≈ "}${number(value)}`),
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
      void rank();
      return true;
    },
    picture: () => canvas,
    numbers: () => `api/inputs/${one.id}/maps/${layer.index}.npz?channel=${c}`,
    focus: () => plate.focus(),
    /** @param {string} key */
    key(key) {
      if (key !== "o") return false;
      opacity.value = Number(opacity.value) > 0 ? 0 : 62;
      over.style.opacity = String(opacity.value / 100);
      return true;
    },
    close: () => point(null),
  };
}
