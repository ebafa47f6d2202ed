/** What is shown, as a PNG that says what it is. */

import { table } from "convscope/colours";
import { number, say } from "convscope/dom";
import { rangeWords, stating } from "convscope/controls";
import { isVector, span } from "convscope/maps";
import { input, maps, session } from "convscope/model";
import { theme, view } from "convscope/state";

/** The numbers at the two ends, where all maps share them. @param {import("convscope/maps").Block} block */
function spanOf(block) {
  const own = view.range === "channel" && !isVector(block);
  if (own && view.channel === null) return "";
  const look = { range: view.range, cmap: view.cmap, low: view.low, high: view.high };
  return `: ${span(block, view.channel ?? 0, look).map(number).join(" to ")}`;
}

/** @param {HTMLCanvasElement | null} canvas @param {{x: number, y: number, room: number, text: string}[]} [labels] */
export async function download(canvas, labels = []) {
  if (!canvas || canvas.width < 1) return say("There is no map here to save. Open a layer or a channel.");
  const layer = session.byPath.get(view.layer ?? "");
  const one = input(view.input);
  const dark = theme() === "dark";
  const scale = Math.max(1, Math.min(8, Math.floor(1400 / canvas.width)));
  const out = document.createElement("canvas");
  const foot = 74;
  out.width = Math.max(canvas.width * scale, 520) + 32;
  out.height = canvas.height * scale + 32 + foot;
  const pen = /** @type {CanvasRenderingContext2D} */ (out.getContext("2d"));
  pen.fillStyle = dark ? "#14161a" : "#fff";
  pen.fillRect(0, 0, out.width, out.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, 16, 16, canvas.width * scale, canvas.height * scale);
  pen.fillStyle = dark ? "#a9afba" : "#555b66";
  for (const { x, y, room, text } of labels) {
    const size = Math.max(6, Math.min(14, room * scale - 2));
    pen.font = `${size}px system-ui, sans-serif`;
    pen.fillText(text, 16 + x * scale, 16 + y * scale + size);
  }
  const block = layer && one && layer.maps ? await maps(one.id, layer.index).catch(() => null) : null;
  pen.fillStyle = dark ? "#ecedf0" : "#181a1e";
  pen.font = "600 15px system-ui, sans-serif";
  const address = `${view.layer ?? ""}${view.channel === null ? "" : `:${view.channel}`}`;
  pen.fillText(stating(address, one?.name), 16, out.height - 48, out.width - 32);
  pen.font = "13px system-ui, sans-serif";
  const filters = view.screen === "layer" && view.tab === "filters";
  pen.fillText(filters ? "filters, each symmetric about zero" : `${view.cmap}${block ? `, ${rangeWords(block)}${spanOf(block)}` : ""}`, 16, out.height - 26, out.width - 200);
  const colours = table(filters ? "signed" : view.cmap);
  for (let i = 0; i < 160; i++) {
    const at = Math.round((i / 159) * 255) * 3;
    pen.fillStyle = `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`;
    pen.fillRect(out.width - 176 + i, out.height - 37, 1, 12);
  }
  const link = document.createElement("a");
  link.download = `${(one?.name ?? "convscope").replace(/\.[^.]*$/, "")}.${encodeURIComponent(address)}.png`;
  link.href = out.toDataURL("image/png");
  link.click();
  say(`Saved ${link.download}`);
}
