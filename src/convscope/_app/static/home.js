/** The first screen: the network at a glance, the mean map of each layer through its depth. */

import { pixels } from "convscope/colors";
import { tabs } from "convscope/controls";
import { h, notice, plural } from "convscope/dom";
import { json, input, session, thumbnails } from "convscope/model";
import { go, link, theme, view } from "convscope/state";
import { why } from "convscope/why";

/** @param {HTMLCanvasElement} canvas @param {{height: number, width: number, low: number, high: number, levels: Uint8Array}} map */
export function drawThumbnail(canvas, map) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(map.width, map.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels(view.cmap === "signed" ? "viridis" : view.cmap, theme());
  map.levels.forEach((level, i) => (words[i] = colors[level]));
  context.putImageData(image, 0, 0);
}

/** Layers that a first look shows: the results of blocks and convolutions, not every part. */
function telling() {
  const drawn = session.layers.filter((layer) => layer.maps);
  const some = drawn.filter(
    (layer) => layer.families.includes("conv") || layer.function || layer.depth === 0,
  );
  return some.length >= 4 ? some : drawn;
}

/** @param {Element} room */
export async function home(room) {
  const { model } = session;
  const one = input(view.input);
  const all = session.layers.filter((layer) => layer.shape);
  room.append(
    h("h1", null, model.title || model.name),
    h(
      "p.facts",
      null,
      h("span", null, plural(all.length, "layer")),
      model.classes?.length > 0 && h("span", null, plural(model.classes.length, "class", "classes")),
      model.input &&
        h(
          "span",
          null,
          model.input.size
            ? `sees ${model.input.size.join("×")}, ${plural(model.input.channels, "channel")}`
            : `sees any size, ${plural(model.input.channels, "channel")}`,
        ),
      model.atlas &&
        h("span", null, `atlas of ${plural(model.atlas.images, "picture")} from ${model.atlas.dataset}`),
    ),
  );
  if (model.untrained) room.append(notice(model.untrained));
  if (model.atlas?.note) room.append(notice("The atlas and the model differ.", model.atlas.note));
  if (!one) {
    room.append(
      notice(
        model.state === "none"
          ? "This is an atlas without its model."
          : "No picture is under the microscope yet.",
        model.state === "none"
          ? "Choose a layer: what the scan found of its channels is here. To look at pictures of your own, give the model: convscope serve ATLAS -m MODEL."
          : "Drop one anywhere on this page, paste one, or choose a file.",
      ),
      await atlasCards(),
    );
    return {};
  }
  const tab = view.tab === "why" ? "why" : "maps";
  room.append(
    tabs({ maps: "Through the depth", why: "Why this answer" }, tab, "What to see of the network", (to) =>
      go({ tab: to }),
    ),
  );
  const body = h("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${tab}` });
  room.append(body);
  return tab === "why" ? why(body) : depths(body, one);
}

/** The mean map of each layer. @param {HTMLElement} room @param {any} one */
async function depths(room, one) {
  const { model } = session;
  room.append(
    h(
      "p.blurb",
      null,
      `What each layer makes of ${one.name}: the mean over its channels, from the first layer to the last. Choose one to see all of its channels.`,
    ),
  );
  const [maps, states] = await Promise.all([thumbnails(one.id), json(`api/inputs/${one.id}/layers`)]);
  const of = new Map(states.layers.map((/** @type {any} */ s) => [s.index, s]));
  /** @type {[HTMLCanvasElement, any][]} */
  const drawn = [];
  room.append(
    h(
      "ul.cards",
      null,
      telling()
        .filter((layer) => (maps.get(layer.index)?.levels.length ?? 0) > 1)
        .map((layer) => {
          const canvas = h("canvas");
          drawn.push([canvas, maps.get(layer.index)]);
          const state = of.get(layer.index);
          return h(
            "li",
            null,
            h(
              "a",
              {
                href: link({ screen: "layer", layer: layer.path, channel: null, position: null }),
                title: layer.path,
              },
              canvas,
              h("span.name", null, layer.path),
              h(
                "span.shape",
                null,
                (state?.shape ?? layer.shape)?.join("×"),
                state?.dead > 0 &&
                  h(
                    "span.badge",
                    { title: `${plural(state.dead, "channel")} zero everywhere on this picture` },
                    `${state.dead} off`,
                  ),
              ),
            ),
          );
        }),
    ),
  );
  room.append(
    h(
      "p.small.soft",
      { style: { "margin-top": "1rem" } },
      `${model.title || model.name} · ${one.name} · each picture spans its own least to greatest mean, ${view.cmap === "signed" ? "viridis" : view.cmap}`,
    ),
  );
  return {
    update: () => {
      drawn.forEach(([canvas, map]) => drawThumbnail(canvas, map));
      return true;
    },
  };
}

async function atlasCards() {
  const layers = session.layers.filter((layer) => layer.atlas);
  return h(
    "ul.cards",
    null,
    layers.map((layer) =>
      h(
        "li",
        null,
        h(
          "a",
          { href: link({ screen: "layer", layer: layer.path, tab: "examples" }) },
          h("span.name", null, layer.path),
          h("span.shape", null, layer.shape?.join("×")),
        ),
      ),
    ),
  );
}
