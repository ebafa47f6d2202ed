/** The color maps and marks of `convscope._plot.colors`, read from the JSON that stands in the page. */

const COLORS = JSON.parse(document.getElementById("convscope-colors")?.textContent ?? "{}");

/** Levels 0 … 252 are values; 253 is NaN, 254 is +∞, 255 is −∞. */
export const LEVELS = 253;
const MARKS = { 253: COLORS.marks.nan, 254: COLORS.marks["+inf"], 255: COLORS.marks["-inf"] };

export const CMAPS = Object.keys(COLORS.maps);

/** @param {number[]} rgb @returns {string} as CSS writes it */
export const css = (rgb) => `rgb(${rgb.join(" ")})`;

/** The colors that mark what is no number, as CSS writes them. */
export const MARK_COLORS = {
  nan: css(COLORS.marks.nan),
  posInf: css(COLORS.marks["+inf"]),
  negInf: css(COLORS.marks["-inf"]),
};

/** Background and text of a saved image. @param {"light" | "dark"} theme */
export const paperAndInk = (theme) => [
  css(COLORS.themes[theme].background),
  css(COLORS.themes[theme].text),
];

/** @type {Map<string, Uint8Array>} */
const unpacked = new Map();

/** @param {string} name @returns {Uint8Array} 256 × 3 */
export function table(name) {
  let found = unpacked.get(name);
  if (!found) {
    found = Uint8Array.from(atob(COLORS.maps[name].join("")), (c) => c.charCodeAt(0));
    unpacked.set(name, found);
  }
  return found;
}

/** @param {number[]} rgb */
const pack = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/**
 * The 256 pixels that indices stand for, as little-endian RGBA words.
 * @param {string} cmap @returns {Uint32Array}
 */
export function pixels(cmap) {
  const colors = table(cmap);
  const words = new Uint32Array(256);
  for (let i = 0; i < LEVELS; i++) {
    const at = Math.round((i / (LEVELS - 1)) * 255) * 3;
    words[i] = pack([colors[at], colors[at + 1], colors[at + 2]]);
  }
  for (const [index, rgb] of Object.entries(MARKS)) words[Number(index)] = pack(rgb);
  return words;
}

/** Share of the text color in the gray of a map without variation: two of the palette's ten steps. */
const FLAT_SHARE = 0.2;

/** The pixel of a map without variation: no color of any map. @param {"light" | "dark"} theme */
export function flat(theme) {
  const { background, text } = COLORS.themes[theme];
  return pack(
    background.map((/** @type {number} */ v, /** @type {number} */ i) =>
      Math.round(v + FLAT_SHARE * (text[i] - v)),
    ),
  );
}

/** @param {string} cmap a CSS gradient of it, for legends */
export function gradient(cmap) {
  const colors = table(cmap);
  const stops = Array.from({ length: 17 }, (_, i) => {
    const at = Math.round((i / 16) * 255) * 3;
    return `rgb(${colors[at]} ${colors[at + 1]} ${colors[at + 2]})`;
  });
  return `linear-gradient(90deg,${stops.join(",")})`;
}
