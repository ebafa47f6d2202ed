/** Saving a view: as PNG or SVG with its caption, or as arrays. */

import { paperAndInk, table } from "convscope/colors";
import { rangeWords, describe } from "convscope/controls";
import { h, number, announce } from "convscope/dom";
import { dialog } from "convscope/upload";
import { isVector, span } from "convscope/maps";
import { input, maps, session } from "convscope/api";
import { source } from "convscope/source";
import { theme, view } from "convscope/state";

/**
 * The caption of a view. @typedef {{title: string, line: string, cmap: string}} Caption
 * A text of the saved image. @typedef {object} Word
 * @property {number} x @property {number} y @property {number} size @property {string} text
 * @property {boolean} [strong] @property {boolean} [soft] @property {number} [maxWidth]
 *
 * A label below a map. @typedef {{x: number, y: number, width: number, text: string}} Label
 */

const FONT = "system-ui, sans-serif";

/** @returns {Promise<Caption>} of the layer or channel that the address names */
async function caption() {
  const layer = session.byPath.get(view.layer ?? "");
  const one = input(view.input);
  const block = layer?.has_maps && one ? await maps(one.id, layer.index).catch(() => null) : null;
  const address = `${view.layer ?? ""}${view.channel === null ? "" : `:${view.channel}`}`;
  const own = !block || (view.range === "channel" && !isVector(block) && view.channel === null);
  const ends = own
    ? ""
    : `: ${span(block, view.channel ?? 0, view)
        .map(number)
        .join(" to ")}`;
  return {
    title: describe(address, one?.name),
    line: `${view.cmap}${block ? `, ${rangeWords(block)}${ends}` : ""}`,
    cmap: view.cmap,
  };
}

/**
 * Lay out the saved image. @param {HTMLCanvasElement} canvas @param {Label[]} labels @param {Caption} wording
 */
function composed(canvas, labels, wording) {
  const scale = Math.max(1, Math.min(8, Math.floor(1400 / canvas.width)));
  const [width, height] = [canvas.width * scale, canvas.height * scale];
  const [across, down] = [Math.max(width, 520) + 32, height + 106];
  /** @type {Word[]} */
  const words = labels.map(({ x, y, width: room, text }) => {
    const size = Math.max(6, Math.min(14, room * scale - 2));
    return { x: 16 + x * scale, y: 16 + y * scale + size, size, text, soft: true };
  });
  words.push(
    { x: 16, y: down - 48, size: 15, text: wording.title, strong: true, maxWidth: across - 32 },
    { x: 16, y: down - 26, size: 13, text: wording.line, maxWidth: across - 200 },
  );
  const [paper, ink] = paperAndInk(theme());
  return {
    canvas,
    width,
    height,
    across,
    down,
    words,
    colors: table(wording.cmap),
    paper,
    ink,
    soft: theme() === "dark" ? "#a9afba" : "#555b66",
  };
}

/** @param {Uint8Array} colors @param {number} i of 0 … 159 */
const ink = (colors, i) =>
  `rgb(${colors
    .slice(Math.round((i / 159) * 255) * 3)
    .slice(0, 3)
    .join(",")})`;

/** @param {ReturnType<typeof composed>} sheet */
function png(sheet) {
  const out = document.createElement("canvas");
  out.width = sheet.across;
  out.height = sheet.down;
  const pen = /** @type {CanvasRenderingContext2D} */ (out.getContext("2d"));
  pen.fillStyle = sheet.paper;
  pen.fillRect(0, 0, sheet.across, sheet.down);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(sheet.canvas, 16, 16, sheet.width, sheet.height);
  for (const word of sheet.words) {
    pen.font = `${word.strong ? "600 " : ""}${word.size}px ${FONT}`;
    pen.fillStyle = word.soft ? sheet.soft : sheet.ink;
    pen.fillText(word.text, word.x, word.y, word.maxWidth);
  }
  for (let i = 0; i < 160; i++) {
    pen.fillStyle = ink(sheet.colors, i);
    pen.fillRect(sheet.across - 176 + i, sheet.down - 37, 1, 12);
  }
  return out.toDataURL("image/png");
}

/** @param {ReturnType<typeof composed>} sheet */
function svg(sheet) {
  const { across, down } = sheet;
  const root = h(
    "svg",
    { width: across, height: down, viewBox: `0 0 ${across} ${down}`, "font-family": FONT },
    h("rect", { width: "100%", height: "100%", fill: sheet.paper }),
    h("image", {
      x: 16,
      y: 16,
      width: sheet.width,
      height: sheet.height,
      preserveAspectRatio: "none",
      style: "image-rendering:pixelated",
      href: sheet.canvas.toDataURL("image/png"),
    }),
    sheet.words.map((word) =>
      h(
        "text",
        {
          x: word.x,
          y: word.y,
          "font-size": word.size,
          "font-weight": word.strong && 600,
          fill: word.soft ? sheet.soft : sheet.ink,
        },
        word.text,
      ),
    ),
    Array.from({ length: 160 }, (_, i) =>
      h("rect", { x: across - 176 + i, y: down - 37, width: 1.05, height: 12, fill: ink(sheet.colors, i) }),
    ),
  );
  const xml = new XMLSerializer().serializeToString(root);
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(xml)}`;
}

/** @param {string} href @param {string} kind */
function save(href, kind) {
  const name = (input(view.input)?.name ?? "convscope").replace(/\.[^.]*$/, "");
  const address = `${view.layer ?? view.screen}${view.channel === null ? "" : `:${view.channel}`}`;
  const to = view.screen === "compare" ? `compare.${address}` : view.screen === "home" ? view.tab : address;
  const link = h("a", { download: `${name}.${encodeURIComponent(to)}.${kind}`, href });
  link.click();
  announce(`Saved ${link.download}`);
}

/** @param {any} shown a screen @param {"png" | "svg" | "npz"} kind */
export async function download(shown, kind) {
  if (kind === "npz") {
    const path = shown.npz?.();
    if (path && source.live) return save(path, kind);
    return announce(
      path
        ? "Exact values need the running model: convscope serve."
        : "There are no arrays to save here. Open a layer or a channel.",
    );
  }
  const canvas = shown.canvas?.();
  if (!canvas || canvas.width < 1)
    return announce("There is no map to save here. Open a layer or a channel.");
  const sheet = composed(canvas, shown.labels?.() ?? [], shown.caption?.() ?? (await caption()));
  save(kind === "svg" ? svg(sheet) : png(sheet), kind);
}

/** Choose a file type. @param {() => any} current */
export function saveDialog(current) {
  const kinds = [
    ["png", "PNG", "Image with a caption and the color scale"],
    ["svg", "SVG", "The same, with text as text"],
    [
      "npz",
      "NPZ",
      source.live ? "Exact values, float32, for NumPy" : "Exact values: needs convscope serve",
    ],
  ];
  const box = dialog(
    "Save this view",
    h(
      "ul.choices",
      null,
      kinds.map(([kind, name, what]) =>
        h(
          "li",
          null,
          h(
            "button.button",
            {
              type: "button",
              id: `save-${kind}`,
              disabled: kind === "npz" && !source.live,
              onclick: () => {
                box.close();
                void download(current(), /** @type {"png"} */ (kind));
              },
            },
            name,
          ),
          h("span.soft.small", null, what),
        ),
      ),
    ),
  );
}
