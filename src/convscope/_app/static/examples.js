/** Dataset examples of a whole layer: the best crop of each channel. */

import { stating } from "convscope/controls";
import { h, notice, number } from "convscope/dom";
import { grid } from "convscope/grid";
import { json, session } from "convscope/model";
import { source } from "convscope/source";
import { link } from "convscope/state";

/** The icon of a channel, as a background. @param {string} url @param {number} channel @param {number} size on the page */
export const icon = (url, channel, size) => ({
  "background-image": `url("${url}")`,
  "background-size": `${32 * size}px auto`,
  "background-position": `${-(channel % 32) * size}px ${-Math.floor(channel / 32) * size}px`,
  width: `${size}px`,
  height: `${size}px`,
});

/** @param {HTMLElement} room @param {any} layer */
export async function examples(room, layer) {
  let found;
  let url = "";
  try {
    found = await json(`api/atlas/layers/${layer.index}`);
    url = await source.imageUrl(`api/atlas/layers/${layer.index}/icons`);
  } catch (error) {
    room.append(notice("No dataset examples of this layer.", /** @type {Error} */ (error).message));
    return {};
  }
  const { atlas } = session.model;
  const dead = new Set(found.dead);
  room.append(
    h(
      "div.legend",
      null,
      h(
        "span",
        null,
        `${stating(layer.path)} · the crop of the picture with the highest mean, of ${atlas.images.toLocaleString("en")} from ${atlas.dataset}; below it the channel's greatest value`,
      ),
    ),
  );
  const size = 72;
  const place = h("div");
  room.append(place);
  /** @type {any} */ let cells = null;
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
        still: dead.has(k),
        text: `Channel ${k}: ${dead.has(k) ? "dead on this dataset" : `greatest value ${number(found.maximum[k])}${found.best_class ? `, prefers ${found.best_class[k]}` : ""}`}`,
        label: [
          h("b", null, k),
          dead.has(k) ? h("span.tag", null, "dead") : h("span", null, number(found.maximum[k])),
        ],
      }),
    });
    const dress = () =>
      cells.element.querySelectorAll("a.cell:not(.dressed)").forEach((/** @type {HTMLElement} */ a) => {
        a.classList.add("dressed");
        const frame = /** @type {HTMLElement} */ (a.querySelector(".frame"));
        if (!dead.has(Number(a.dataset.k)))
          for (const [key, value] of Object.entries(icon(url, Number(a.dataset.k), size)))
            frame.style.setProperty(key, value);
      });
    new MutationObserver(dress).observe(cells.element, { childList: true });
    place.replaceChildren(cells.element);
    return true;
  }
  return { update, close: () => cells?.close(), focus: () => cells?.focus() };
}
