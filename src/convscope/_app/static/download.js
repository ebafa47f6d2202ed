/** What is shown, to keep: as a PNG or an SVG that says what it is, or as numbers. */

import { paperAndInk, table } from "convscope/colors";
import { rangeWords, stating } from "convscope/controls";
import { h, number, say } from "convscope/dom";
import { dialog } from "convscope/inputs";
import { isVector, span } from "convscope/maps";
import { input, maps, session } from "convscope/model";
import { source } from "convscope/source";
import { theme, view } from "convscope/state";

/**
 * What a screen shows, in words. @typedef {{title: string, line: string, cmap: string}} Saying
 * @typedef {{x: number, y: number, size: number, text: string, strong?: boolean, soft?: boolean, most?: number}} Word
 */

const FONT = "system-ui, sans-serif";

/** @returns {Promise<Saying>} of the layer or channel that the address names */
async function saying() {
  const layer = session.byPath.get(view.layer ?? "");
  const one = input(view.input);
  const block = layer?.maps && one ? await maps(one.id, layer.index).catch(() => null) : null;
  const address = `${view.layer ?? ""}${view.channel === null ? "" : `:${view.channel}`}`;
  const own = !block || (view.range === "channel" && !isVector(block) && view.channel === null);
  const ends = own
    ? ""
    : `: ${span(block, view.channel ?? 0, view)
        .map(number)
        .join(" to ")}`;
  return {
    title: stating(address, one?.name),
    line: `${view.cmap}${block ? `, ${rangeWords(block)}${ends}` : ""}`,
    cmap: view.cmap,
  };
}

/** Where all of it stands. @param {HTMLCanvasElement} canvas @param {{x: number, y: number, room: number, text: string}[]} labels @param {Saying} said */
function composed(canvas, labels, said) {
  const scale = Math.max(1, Math.min(8, Math.floor(1400 / canvas.width)));
  const [width, height] = [canvas.width * scale, canvas.height * scale];
  const [across, down] = [Math.max(width, 520) + 32, height + 106];
  /** @type {Word[]} */
  const words = labels.map(({ x, y, room, text }) => {
    const size = Math.max(6, Math.min(14, room * scale - 2));
    return { x: 16 + x * scale, y: 16 + y * scale + size, size, text, soft: true };
  });
  words.push(
    { x: 16, y: down - 48, size: 15, text: said.title, strong: true, most: across - 32 },
    { x: 16, y: down - 26, size: 13, text: said.line, most: across - 200 },
  );
  const [paper, ink] = paperAndInk(theme());
  return {
    canvas,
    width,
    height,
    across,
    down,
    words,
    colors: table(said.cmap),
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

/** @param {ReturnType<typeof composed>} made */
function png(made) {
  const out = document.createElement("canvas");
  out.width = made.across;
  out.height = made.down;
  const pen = /** @type {CanvasRenderingContext2D} */ (out.getContext("2d"));
  pen.fillStyle = made.paper;
  pen.fillRect(0, 0, made.across, made.down);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(made.canvas, 16, 16, made.width, made.height);
  for (const word of made.words) {
    pen.font = `${word.strong ? "600 " : ""}${word.size}px ${FONT}`;
    pen.fillStyle = word.soft ? made.soft : made.ink;
    pen.fillText(word.text, word.x, word.y, word.most);
  }
  for (let i = 0; i < 160; i++) {
    pen.fillStyle = ink(made.colors, i);
    pen.fillRect(made.across - 176 + i, made.down - 37, 1, 12);
  }
  return out.toDataURL("image/png");
}

/** @param {ReturnType<typeof composed>} made */
function svg(made) {
  const { across, down } = made;
  const root = h(
    "svg",
    { width: across, height: down, viewBox: `0 0 ${across} ${down}`, "font-family": FONT },
    h("rect", { width: "100%", height: "100%", fill: made.paper }),
    h("image", {
      x: 16,
      y: 16,
      width: made.width,
      height: made.height,
      preserveAspectRatio: "none",
      style: "image-rendering:pixelated",
      href: made.canvas.toDataURL("image/png"),
    }),
    made.words.map((word) =>
      h(
        "text",
        {
          x: word.x,
          y: word.y,
          "font-size": word.size,
          "font-weight": word.strong && 600,
          fill: word.soft ? made.soft : made.ink,
        },
        word.text,
      ),
    ),
    Array.from({ length: 160 }, (_, i) =>
      h("rect", { x: across - 176 + i, y: down - 37, width: 1.05, height: 12, fill: ink(made.colors, i) }),
    ),
  );
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(root))}`;
}

/** @param {string} href @param {string} kind */
function save(href, kind) {
  const name = (input(view.input)?.name ?? "convscope").replace(/\.[^.]*$/, "");
  const address = `${view.layer ?? view.screen}${view.channel === null ? "" : `:${view.channel}`}`;
  const to = view.screen === "compare" ? `compare.${address}` : view.screen === "home" ? view.tab : address;
  const link = h("a", { download: `${name}.${encodeURIComponent(to)}.${kind}`, href });
  link.click();
  say(`Saved ${link.download}`);
}

/** @param {any} shown a screen @param {"png" | "svg" | "npz"} kind */
export async function download(shown, kind) {
  if (kind === "npz") {
    const path = shown.numbers?.();
    if (path && source.live) return save(path, kind);
    return say(
      path
        ? "Exact numbers need the live model: convscope serve."
        : "There are no numbers here to save. Open a layer or a channel.",
    );
  }
  const canvas = shown.picture?.();
  if (!canvas || canvas.width < 1) return say("There is no map here to save. Open a layer or a channel.");
  const made = composed(canvas, shown.labels?.() ?? [], shown.saying?.() ?? (await saying()));
  save(kind === "svg" ? svg(made) : png(made), kind);
}

/** The choice of kinds. @param {() => any} current */
export function keep(current) {
  const kinds = [
    ["png", "PNG", "A picture, with what its colors mean"],
    ["svg", "SVG", "The same, its words as text"],
    [
      "npz",
      "NPZ",
      source.live ? "The exact numbers, float32, for NumPy" : "The exact numbers: needs convscope serve",
    ],
  ];
  const box = dialog(
    "Save what is shown",
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
