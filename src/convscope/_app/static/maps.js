/**
 * Feature maps as levels, and levels as pixels: one canvas at native resolution for any number of
 * maps, scaled by CSS.
 */

import { LEVELS, flat, pixels } from "convscope/colors";

/**
 * Maps of one layer on one image, as the server sends them: levels 0 … 252 within each channel's own
 * `low … high`, and three reserved ones (NaN, +∞, −∞) above.
 * @typedef {object} Block
 * @property {number} channels
 * @property {number} height @property {number} width as sent
 * @property {[number, number]} full height and width as computed; larger where maps were pooled
 * @property {Float32Array} low @property {Float32Array} high
 * @property {Uint8Array} levels
 * @property {Float32Array} mean each map's mean, exact
 * @property {string[]} states varied, zero, constant, nan, inf
 */

/**
 * The range of the color scale, and the color map.
 * @typedef {{range: "channel" | "layer" | "fixed", cmap: string, low: number, high: number}} Coloring
 */

/** Minimum and maximum of the whole layer. @param {Block} block @returns {[number, number]} */
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
 * The range of the color scale for channel `c`.
 * @param {Block} block @param {number} c @param {Coloring} coloring @param {[number, number]} [all]
 * @returns {[number, number]}
 */
export function span(block, c, coloring, all) {
  let ends = /** @type {[number, number]} */ ([block.low[c], block.high[c]]);
  // one position has no range of its own
  if (coloring.range === "layer" || (coloring.range === "channel" && isVector(block))) {
    ends = all ?? extent(block);
  }
  if (coloring.range === "fixed") ends = [coloring.low, coloring.high];
  if (coloring.cmap !== "signed") return ends;
  const maxAbs = Math.max(Math.abs(ends[0]), Math.abs(ends[1]));
  return [-maxAbs, maxAbs];
}

/** @param {Block} block */
export const isVector = (block) => block.full[0] * block.full[1] === 1;

/** Zero or constant at every position. @param {Block} block @param {number} c */
export const isFlat = (block, c) => block.states[c] === "zero" || block.states[c] === "constant";

/**
 * The pixel of each level of channel `c`, its own levels mapped to the range of the color scale.
 * @param {Block} block @param {number} c @param {Coloring} coloring @param {Uint32Array} colors
 * @param {number} flatPixel the pixel of a flat map
 * @param {[number, number]} all @param {Uint32Array} into
 */
function lookup(block, c, coloring, colors, flatPixel, all, into) {
  const [low, high] = span(block, c, coloring, all);
  const own = block.high[c] - block.low[c];
  const plain = (isFlat(block, c) && coloring.range === "channel" && !isVector(block)) || !(high > low);
  const step = own / (LEVELS - 1);
  const scale = high > low ? (LEVELS - 1) / (high - low) : 0;
  for (let i = 0; i < LEVELS; i++) {
    const level = Math.round((block.low[c] + i * step - low) * scale);
    into[i] = plain ? flatPixel : colors[Math.min(LEVELS - 1, Math.max(0, level))];
  }
  for (let i = LEVELS; i < 256; i++) into[i] = colors[i];
}

/**
 * Where maps are on a canvas, in its own pixels and on the page.
 * @typedef {object} Layout
 * @property {number} columns @property {number} rows
 * @property {number} across @property {number} down pixels from one map to the next
 * @property {number} scale page pixels for each canvas pixel
 * @property {number} width @property {number} height of the canvas
 */

/**
 * Lay out `count` maps in a page `available` pixels wide, cells about `cell` wide, `label` page pixels below.
 * @param {Block} block @param {number} count @param {number} available @param {number} cell
 * @param {number} label @returns {Layout}
 */
export function layOut(block, count, available, cell, label) {
  const gap = 10;
  const columns = Math.max(1, Math.min(count || 1, Math.floor((available + gap) / (cell + gap))));
  const scale = Math.max(0.05, (count < columns ? cell : (available + gap) / columns - gap) / block.width);
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
    scale: Math.min(side, available / (columns * across - spare)),
    width: Math.max(1, columns * across - spare),
    height: Math.max(1, rows * down),
  };
}

/**
 * Where the names of maps are drawn, in canvas pixels: below each.
 * @param {Layout} layout @param {number} height of a map @param {string[]} names
 */
export const labelsOf = (layout, height, names) =>
  names.map((text, k) => ({
    x: (k % layout.columns) * layout.across,
    y: Math.floor(k / layout.columns) * layout.down + height,
    width: layout.down - height,
    text,
  }));

/**
 * Paint the maps of `order` into one canvas.
 * @param {HTMLCanvasElement} canvas @param {Block} block @param {number[]} order
 * @param {Layout} layout @param {Coloring} coloring @param {"light" | "dark"} theme
 */
export function paint(canvas, block, order, layout, coloring, theme) {
  canvas.width = layout.width;
  canvas.height = layout.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(layout.width, layout.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels(coloring.cmap);
  const flatPixel = flat(theme);
  const all = extent(block);
  const own = new Uint32Array(256);
  const { height, width } = block;
  order.forEach((c, k) => {
    lookup(block, c, coloring, colors, flatPixel, all, own);
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
  const colors = pixels(cmap);
  const [low, high] = ends;
  const scale = high > low ? (LEVELS - 1) / (high - low) : 0;
  const flatPixel = flat(theme);
  for (let i = 0; i < values.length; i++) {
    const at = index(values[i], low, scale);
    words[i] = at < 0 ? flatPixel : colors[at];
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

/**
 * Minimum and maximum finite value of a map.
 * @param {ArrayLike<number>} values @returns {[number, number]}
 */
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

/** Differences of rounding are not drawn: the bound of `convscope._plot.quantize`. */
const ROUNDING = 4 * 1.1920929e-7;
/** @param {number} low @param {number} high */
export const isNearlyConstant = (low, high) =>
  high - low <= ROUNDING * Math.max(Math.abs(low), Math.abs(high));

/** A map of one position is drawn as a patch, not as a pixel. @param {Block} block */
export function enlarged(block) {
  if (!isVector(block)) return block;
  const [height, width] = [5, 8];
  const levels = new Uint8Array(block.channels * height * width);
  block.levels.forEach((level, c) => levels.fill(level, c * height * width, (c + 1) * height * width));
  return { ...block, height, width, levels };
}

/**
 * The correlation of each channel's map with that of channel `reference` over positions; null where
 * one of the two is constant. The levels suffice: correlation does not depend on a channel's scale.
 * @param {Block} block @param {number} reference @returns {(number | null)[]}
 */
export function correlations(block, reference) {
  const size = block.height * block.width;
  const rows = Array.from({ length: block.channels }, (_, c) => {
    const row = Float64Array.from(block.levels.subarray(c * size, (c + 1) * size));
    const mean = row.reduce((sum, v) => sum + v, 0) / size;
    let norm = 0;
    for (let i = 0; i < size; i++) norm += (row[i] -= mean) ** 2;
    return block.states[c] === "varied" && norm > 0 ? row.map((v) => v / Math.sqrt(norm)) : null;
  });
  const own = rows[reference];
  return rows.map((row) => (own && row ? row.reduce((sum, v, i) => sum + v * own[i], 0) : null));
}
