/** Dataset examples of a whole layer: the highest-scoring crop of each channel. */

import { describe } from "convscope/controls";
import { h, notice, number } from "convscope/dom";
import { grid } from "convscope/grid";
import { json, session } from "convscope/api";
import { source } from "convscope/source";
import { link } from "convscope/state";

/**
 * The icon of a channel, as a background.
 * @param {string} url @param {number} channel @param {number} size in pixels of the page
 */
export const icon = (url, channel, size) => ({
  "background-image": `url("${url}")`,
  "background-size": `${32 * size}px auto`,
  "background-position": `${-(channel % 32) * size}px ${-Math.floor(channel / 32) * size}px`,
  width: `${size}px`,
  height: `${size}px`,
});

/** @param {HTMLElement} parent @param {any} layer */
export async function examples(parent, layer) {
  let found;
  let url = "";
  try {
    found = await json(`api/atlas/layers/${layer.index}`);
    url = await source.imageUrl(`api/atlas/layers/${layer.index}/icons`);
  } catch (error) {
    parent.append(notice("No dataset examples of this layer.", /** @type {Error} */ (error).message));
    return {};
  }
  const { atlas } = session.model;
  const dead = new Set(found.dead);
  parent.append(
    h(
      "div.legend",
      null,
      h(
        "span",
        null,
        `${describe(layer.path)} · the crop with the highest activation, of ` +
          `${atlas.images.toLocaleString("en")} images from ${atlas.dataset}; below it the maximum`,
      ),
    ),
  );
  const size = 72;
  const place = h("div");
  parent.append(place);
  /** @type {any} */ let cells = null;
  /** @param {number} k */
  const summary = (k) =>
    `maximum ${number(found.maximum[k])}` +
    (found.best_class ? `, most selective for ${found.best_class[k]}` : "");
  function update() {
    if (cells) return true;
    const columns = Math.max(1, Math.floor(((place.clientWidth || 900) + 12) / (size + 12)));
    const rows = Math.ceil(found.channels / columns);
    const layout = {
      columns,
      rows,
      across: size + 12,
      down: size + 32,
      scale: 1,
      width: columns * (size + 12),
      height: rows * (size + 32),
    };
    cells = grid(null, {
      name: `Dataset examples of ${layer.path}`,
      count: found.channels,
      layout,
      cellHeight: size,
      cellWidth: size,
      cell: (k) => ({
        href: link({ screen: "channel", channel: k, position: null }),
        flat: dead.has(k),
        text: `Channel ${k}: ${dead.has(k) ? "dead on this dataset" : summary(k)}`,
        label: [
          h("b", null, k),
          dead.has(k) ? h("span.tag", null, "dead") : h("span", null, number(found.maximum[k])),
        ],
      }),
    });
    const paintIcons = () =>
      cells.element.querySelectorAll("a.cell:not(.painted)").forEach((/** @type {HTMLElement} */ a) => {
        a.classList.add("painted");
        const frame = /** @type {HTMLElement} */ (a.querySelector(".frame"));
        if (!dead.has(Number(a.dataset.k)))
          for (const [key, value] of Object.entries(icon(url, Number(a.dataset.k), size)))
            frame.style.setProperty(key, value);
      });
    new MutationObserver(paintIcons).observe(cells.element, { childList: true });
    place.replaceChildren(cells.element);
    return true;
  }
  return { update, close: () => cells?.close(), focus: () => cells?.focus() };
}
