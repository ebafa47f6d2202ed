/**
 * Feature maps as levels, and levels as pixels: one canvas at native resolution for any number of
 * maps, scaled by CSS. Nothing here knows where maps come from.
 */

import { LEVELS, flat, pixels } from "convscope/colors";

/**
 * Maps of one layer on one picture, as they travel: levels 0 … 252 within each channel's own
 * `low … high`, and three reserved ones (NaN, +∞, −∞) above.
 * @typedef {object} Block
 * @property {number} channels
 * @property {number} height @property {number} width as sent
 * @property {[number, number]} full height and width as computed; larger where maps were pooled
 * @property {Float32Array} low @property {Float32Array} high
 * @property {Uint8Array} levels
 * @property {Float32Array} mean each map's mean, exact
 * @property {string[]} states live, zero, constant, nan, inf
 */

/**
 * What the colors of a picture span.
 * @typedef {{range: "channel" | "layer" | "fixed", cmap: string, low: number, high: number}} Look
 */

/** The ends of the whole layer. @param {Block} block @returns {[number, number]} */
export function extent(block) {
  let low = Infinity;
  let high = -Infinity;
  for (let c = 0; c < block.channels; c++) {
    if (block.low[c] < low) low = block.low[c];
    if (block.high[c] > high) high = block.high[c];
  }
  return low <= high ? [low, high] : [0, 0];
}

/**
 * What the colors of channel `c` span.
 * @param {Block} block @param {number} c @param {Look} look @param {[number, number]} [all]
 * @returns {[number, number]}
 */
export function span(block, c, look, all) {
  let ends = /** @type {[number, number]} */ ([block.low[c], block.high[c]]);
  // one position has no range of its own
  if (look.range === "layer" || (look.range === "channel" && isVector(block))) {
    ends = all ?? extent(block);
  }
  if (look.range === "fixed") ends = [look.low, look.high];
  if (look.cmap !== "signed") return ends;
  const most = Math.max(Math.abs(ends[0]), Math.abs(ends[1]));
  return [-most, most];
}

/** @param {Block} block */
export const isVector = (block) => block.full[0] * block.full[1] === 1;

/** Dead or without variation. @param {Block} block @param {number} c */
export const isFlat = (block, c) => block.states[c] === "zero" || block.states[c] === "constant";

/**
 * The pixel of each level of channel `c`: its own levels, seen through the span of the colors.
 * @param {Block} block @param {number} c @param {Look} look @param {Uint32Array} colors
 * @param {number} still the pixel of no variation
 * @param {[number, number]} all @param {Uint32Array} into
 */
function lookup(block, c, look, colors, still, all, into) {
  const [low, high] = span(block, c, look, all);
  const own = block.high[c] - block.low[c];
  const plain = (isFlat(block, c) && look.range === "channel" && !isVector(block)) || !(high > low);
  const step = own / (LEVELS - 1);
  const scale = high > low ? (LEVELS - 1) / (high - low) : 0;
  for (let i = 0; i < LEVELS; i++) {
    const level = Math.round((block.low[c] + i * step - low) * scale);
    into[i] = plain ? still : colors[Math.min(LEVELS - 1, Math.max(0, level))];
  }
  for (let i = LEVELS; i < 256; i++) into[i] = colors[i];
}

/**
 * Where maps stand on a canvas, in its own pixels and on the page.
 * @typedef {object} Layout
 * @property {number} columns @property {number} rows
 * @property {number} across @property {number} down pixels from one map to the next
 * @property {number} scale page pixels for each canvas pixel
 * @property {number} width @property {number} height of the canvas
 */

/**
 * Lay out `count` maps in a page `room` wide, cells about `cell` wide, `label` page pixels below.
 * @param {Block} block @param {number} count @param {number} room @param {number} cell
 * @param {number} label @returns {Layout}
 */
export function layOut(block, count, room, cell, label) {
  const gap = 10;
  const columns = Math.max(1, Math.min(count || 1, Math.floor((room + gap) / (cell + gap))));
  const scale = Math.max(0.05, (count < columns ? cell : (room + gap) / columns - gap) / block.width);
  const side = Math.min(scale, (1.25 * cell) / block.width);
  const spare = Math.max(1, Math.round(gap / side));
  const below = Math.max(1, Math.ceil(label / side));
  const across = block.width + spare;
  const down = block.height + below;
  const rows = Math.ceil(count / columns);
  return {
    columns,
    rows,
    across,
    down,
    scale: Math.min(side, room / (columns * across - spare)),
    width: Math.max(1, columns * across - spare),
    height: Math.max(1, rows * down),
  };
}

/**
 * Where the names of maps stand, in canvas pixels: below each.
 * @param {Layout} layout @param {number} height of a map @param {string[]} names
 */
export const labelsOf = (layout, height, names) =>
  names.map((text, k) => ({
    x: (k % layout.columns) * layout.across,
    y: Math.floor(k / layout.columns) * layout.down + height,
    room: layout.down - height,
    text,
  }));

/**
 * Paint the maps of `order` into one canvas.
 * @param {HTMLCanvasElement} canvas @param {Block} block @param {number[]} order
 * @param {Layout} layout @param {Look} look @param {"light" | "dark"} theme
 */
export function paint(canvas, block, order, layout, look, theme) {
  canvas.width = layout.width;
  canvas.height = layout.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(layout.width, layout.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels(look.cmap, theme);
  const still = flat(theme);
  const all = extent(block);
  const own = new Uint32Array(256);
  const { height, width } = block;
  order.forEach((c, k) => {
    lookup(block, c, look, colors, still, all, own);
    let at = Math.floor(k / layout.columns) * layout.down * layout.width;
    at += (k % layout.columns) * layout.across;
    let from = c * height * width;
    for (let y = 0; y < height; y++, at += layout.width) {
      for (let x = 0; x < width; x++) words[at + x] = own[block.levels[from++]];
    }
  });
  context.putImageData(image, 0, 0);
}

/**
 * Paint one map of exact values, at its own resolution.
 * @param {HTMLCanvasElement} canvas @param {Float32Array} values @param {number} height
 * @param {number} width @param {[number, number]} ends @param {string} cmap
 * @param {"light" | "dark"} theme
 */
export function paintValues(canvas, values, height, width, ends, cmap, theme) {
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels(cmap, theme);
  const [low, high] = ends;
  const scale = high > low ? (LEVELS - 1) / (high - low) : 0;
  const still = flat(theme);
  for (let i = 0; i < values.length; i++) {
    const at = index(values[i], low, scale);
    words[i] = at < 0 ? still : colors[at];
  }
  context.putImageData(image, 0, 0);
}

/** @param {number} value @param {number} low @param {number} scale */
function index(value, low, scale) {
  if (Number.isNaN(value)) return 253;
  if (value === Infinity) return 254;
  if (value === -Infinity) return 255;
  if (scale === 0) return -1;
  return Math.min(LEVELS - 1, Math.max(0, Math.round((value - low) * scale)));
}

/** A map's finite least and greatest value. @param {ArrayLike<number>} values @returns {[number, number]} */
export function ends(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}

/** Rounding is no structure: the same bound as `convscope._plot.quantize`. */
const NOISE = 4 * 1.1920929e-7;
/** @param {number} low @param {number} high */
export const withoutVariation = (low, high) =>
  high - low <= NOISE * Math.max(Math.abs(low), Math.abs(high));

/** One value stands on the page as a patch, not as a pixel. @param {import("convscope/maps").Block} block */
export function widened(block) {
  if (!isVector(block)) return block;
  const [height, width] = [5, 8];
  const levels = new Uint8Array(block.channels * height * width);
  block.levels.forEach((level, c) => levels.fill(level, c * height * width, (c + 1) * height * width));
  return { ...block, height, width, levels };
}

/**
 * How alike each channel's map is to that of channel `to`: the correlation over positions, 1 … −1; null
 * where one of the two has no variation. Levels will do: each channel's scale drops out.
 * @param {Block} block @param {number} to @returns {(number | null)[]}
 */
export function likeness(block, to) {
  const size = block.height * block.width;
  const rows = Array.from({ length: block.channels }, (_, c) => {
    const row = Float64Array.from(block.levels.subarray(c * size, (c + 1) * size));
    const mean = row.reduce((sum, v) => sum + v, 0) / size;
    let norm = 0;
    for (let i = 0; i < size; i++) norm += (row[i] -= mean) ** 2;
    return block.states[c] === "live" && norm > 0 ? row.map((v) => v / Math.sqrt(norm)) : null;
  });
  const own = rows[to];
  return rows.map((row) => (own && row ? row.reduce((sum, v, i) => sum + v * own[i], 0) : null));
}
