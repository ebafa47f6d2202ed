/** The first screen: the mean map of each layer, and the attribution of the prediction. */

import { pixels } from "convscope/colors";
import { tabs } from "convscope/controls";
import { h, notice, plural } from "convscope/dom";
import { json, input, session, thumbnails } from "convscope/api";
import { go, link, view } from "convscope/state";
import { attribution } from "convscope/attribution";

/** @param {HTMLCanvasElement} canvas @param {{height: number, width: number, levels: Uint8Array}} map */
export function drawThumbnail(canvas, map) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(map.width, map.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels(view.cmap === "signed" ? "viridis" : view.cmap);
  map.levels.forEach((level, i) => (words[i] = colors[level]));
  context.putImageData(image, 0, 0);
}

/** The layers of the overview: convolutions and results of blocks. */
function mainLayers() {
  const drawn = session.layers.filter((layer) => layer.has_maps);
  const some = drawn.filter(
    (layer) => layer.families.includes("conv") || layer.function || layer.depth === 0,
  );
  return some.length >= 4 ? some : drawn;
}

/** @param {Element} parent */
export async function home(parent) {
  const { model } = session;
  const one = input(view.input);
  const all = session.layers.filter((layer) => layer.shape);
  parent.append(
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
            ? `input ${model.input.size.join("×")}, ${plural(model.input.channels, "channel")}`
            : `input of any size, ${plural(model.input.channels, "channel")}`,
        ),
      model.atlas &&
        h("span", null, `atlas of ${plural(model.atlas.images, "image")} from ${model.atlas.dataset}`),
    ),
  );
  if (model.untrained) parent.append(notice(model.untrained));
  if (model.atlas?.mismatch) parent.append(notice("The atlas and the model differ.", model.atlas.mismatch));
  if (!one) {
    parent.append(
      notice(
        model.state === "none"
          ? "This atlas was opened without its model."
          : "There is no input image yet.",
        model.state === "none"
          ? "Choose a layer to see dataset examples of its channels. For maps of your own images, " +
              "give the model: convscope serve ATLAS -m MODEL."
          : "Drop or paste one anywhere on this page, or choose a file.",
      ),
      await atlasCards(),
    );
    return {};
  }
  const tab = view.tab === "attribution" ? "attribution" : "maps";
  parent.append(
    tabs({ maps: "Layers", attribution: "Attribution" }, tab, "Views of the network", (to) =>
      go({ tab: to }),
    ),
  );
  const body = h("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${tab}` });
  parent.append(body);
  return tab === "attribution" ? attribution(body) : layerCards(body, one);
}

/** The mean map of each layer. @param {HTMLElement} parent @param {any} one */
async function layerCards(parent, one) {
  const { model } = session;
  parent.append(
    h(
      "p.blurb",
      null,
      `The mean map of each layer on ${one.name}, from the first layer to the last. ` +
        "Choose a layer to see all of its channels.",
    ),
  );
  const [maps, states] = await Promise.all([thumbnails(one.id), json(`api/inputs/${one.id}/layers`)]);
  const of = new Map(states.layers.map((/** @type {any} */ s) => [s.index, s]));
  /** @type {[HTMLCanvasElement, any][]} */
  const drawn = [];
  parent.append(
    h(
      "ul.cards",
      null,
      mainLayers()
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
                state?.inactive > 0 &&
                  h(
                    "span.badge",
                    { title: `${plural(state.inactive, "channel")} inactive on this image` },
                    `${state.inactive} inactive`,
                  ),
              ),
            ),
          );
        }),
    ),
  );
  parent.append(
    h(
      "p.small.soft",
      { style: { "margin-top": "1rem" } },
      `${model.title || model.name} · ${one.name} · each map in its own minimum to maximum, ` +
        (view.cmap === "signed" ? "viridis" : view.cmap),
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
  const layers = session.layers.filter((layer) => layer.in_atlas);
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
