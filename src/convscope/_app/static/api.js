/** Data from the server, decoded and cached, and the session that the screens share. */

import { source } from "convscope/source";

/**
 * @typedef {object} Layer
 * @property {number} index @property {string} path @property {string} kind
 * @property {number[] | null} shape @property {number} depth
 * @property {boolean} container @property {boolean} function @property {string[]} families
 * @property {number} parameters @property {boolean} has_maps
 * @property {boolean} has_filters @property {boolean} in_atlas @property {string} receptive_field
 * @property {string} refusal
 *
 * @typedef {object} Input
 * @property {string} id @property {string} name
 * @property {[number, number]} original_size @property {[number, number]} input_size
 * @property {[number, number]} scale @property {[number, number]} offset
 * @property {string[]} preprocessing
 *
 * @typedef {object} Field
 * @property {boolean} known @property {string} description @property {[number, number]} input_size
 * @property {[number, number][]} rows @property {[number, number][]} columns
 * @property {null | {rows: [number, number][], columns: [number, number][]}} exact
 *
 * @typedef {import("convscope/maps").Block} Block
 */

const STATES = ["varied", "zero", "constant", "nan", "inf"];

/** Cached responses; the least recently used go first beyond `MAX_BYTES`. */
const cache = new Map();
const MAX_BYTES = 96 << 20;
let cachedBytes = 0;

/**
 * @template T @param {string} key @param {() => Promise<T>} make @param {(value: T) => number} [size]
 * @returns {Promise<T>}
 */
export function cached(key, make, size = () => 256) {
  const found = cache.get(key);
  if (found) {
    cache.delete(key);
    cache.set(key, found);
    return found.promise;
  }
  const entry = { promise: make(), bytes: 0 };
  cache.set(key, entry);
  entry.promise.then(
    (value) => {
      entry.bytes = size(value);
      cachedBytes += entry.bytes;
      for (const [oldest, old] of cache) {
        if (cachedBytes <= MAX_BYTES) break;
        if (old === entry) continue;
        cachedBytes -= old.bytes;
        cache.delete(oldest);
      }
    },
    () => cache.delete(key),
  );
  return entry.promise;
}

/** @param {string} path */
export const json = (path) => cached(path, () => source.fetchJson(path));

/** @param {ArrayBuffer} buffer @param {string} magic @param {string} path */
function header(buffer, magic, path) {
  const found = String.fromCharCode(...new Uint8Array(buffer, 0, Math.min(4, buffer.byteLength)));
  if (found !== magic) throw new Error(`${path}: not ${magic} but ${JSON.stringify(found)}.`);
  return new DataView(buffer);
}

/** @param {ArrayBuffer} buffer @param {string} path @returns {Block} */
export function decodeMaps(buffer, path) {
  const view = header(buffer, "CSM1", path);
  const [channels, height, width, fullH, fullW] = [4, 8, 12, 16, 20].map((at) => view.getUint32(at, true));
  const size = 24 + 13 * channels + channels * height * width;
  if (buffer.byteLength !== size) throw new Error(`${path}: ${buffer.byteLength} bytes, not ${size}.`);
  const floats = (/** @type {number} */ k) => new Float32Array(buffer, 24 + 4 * channels * k, channels);
  const states = new Uint8Array(buffer, 24 + 12 * channels, channels);
  return {
    channels,
    height,
    width,
    full: [fullH, fullW],
    low: floats(0),
    high: floats(1),
    mean: floats(2),
    states: Array.from(states, (state) => STATES[state] ?? "varied"),
    levels: new Uint8Array(buffer, 24 + 13 * channels),
  };
}

/**
 * Exact floats. @typedef {object} Floats
 * @property {[number, number, number, number]} shape
 * @property {number} flags @property {Float32Array} values
 *
 * @param {ArrayBuffer} buffer @param {string} path @returns {Floats}
 */
function decodeFloats(buffer, path) {
  const view = header(buffer, "CSF1", path);
  const [n, c, h, w, flags] = [4, 8, 12, 16, 20].map((at) => view.getUint32(at, true));
  return { shape: [n, c, h, w], flags, values: new Float32Array(buffer, 24, n * c * h * w) };
}

/** @param {Block} block */
const blockBytes = (block) => block.levels.byteLength + 16 * block.channels;

/**
 * All channels of a layer, at most 56 pixels a side.
 * @param {string} input @param {number} layer @param {number} [model] 1: the second network
 */
export function maps(input, layer, model = 0) {
  const path = `api/inputs/${input}/maps/${layer}?max_side=56${model ? "&model=1" : ""}`;
  return cached(path, async () => decodeMaps(await source.fetchBytes(path), path), blockBytes);
}

/** @param {string} path @returns {Promise<Floats>} */
function floats(path) {
  return cached(
    path,
    async () => decodeFloats(await source.fetchBytes(path), path),
    (found) => found.values.byteLength,
  );
}

/**
 * One map: exact where the model is running, else from its 8-bit levels (`exact` is false).
 * @typedef {object} OneMap @property {Float32Array} values @property {boolean} exact
 * @property {number} height @property {number} width @property {[number, number]} full
 *
 * @param {string} input @param {number} layer @param {number} channel @returns {Promise<OneMap>}
 */
export async function oneMap(input, layer, channel) {
  if (session.model.features.exact) {
    const { shape, values } = await floats(`api/inputs/${input}/values/${layer}?channel=${channel}`);
    return { values, height: shape[2], width: shape[3], exact: true, full: [shape[2], shape[3]] };
  }
  const block = await maps(input, layer);
  const { height, width } = block;
  const scale = (block.high[channel] - block.low[channel]) / 252;
  const values = Float32Array.from(
    block.levels.subarray(channel * height * width, (channel + 1) * height * width),
    (level) => (level > 252 ? [NaN, Infinity, -Infinity][level - 253] : block.low[channel] + level * scale),
  );
  return { values, height, width, exact: false, full: block.full };
}

/**
 * Every channel at one position.
 * @param {string} input @param {number} layer @param {number} y @param {number} x
 */
export async function atPosition(input, layer, y, x) {
  if (session.model.features.exact) {
    return (await floats(`api/inputs/${input}/values/${layer}?y=${y}&x=${x}`)).values;
  }
  const block = await maps(input, layer);
  const [fullH, fullW] = block.full;
  const row = Math.min(block.height - 1, Math.floor((y * block.height) / fullH));
  const column = Math.min(block.width - 1, Math.floor((x * block.width) / fullW));
  return Float32Array.from({ length: block.channels }, (_, c) => {
    const level = block.levels[(c * block.height + row) * block.width + column];
    return block.low[c] + (level * (block.high[c] - block.low[c])) / 252;
  });
}

/** @param {number} layer */
export const allFilters = (layer) => floats(`api/filters/${layer}`);
/** @param {number} layer @param {number} channel */
export async function filtersOf(layer, channel) {
  if (session.source.live) return floats(`api/filters/${layer}?channel=${channel}`);
  const all = await allFilters(layer);
  const [n, c, h, w] = all.shape;
  if (channel >= n) throw new Error("This page contains only the layer's first filters.");
  const size = c * h * w;
  return {
    ...all,
    shape: /** @type {[number, number, number, number]} */ ([1, c, h, w]),
    values: all.values.subarray(channel * size, (channel + 1) * size),
  };
}

/**
 * The mean map of each layer, small.
 * @param {string} input
 * @typedef {object} Thumbnail @property {number} height @property {number} width
 * @property {number} low @property {number} high @property {Uint8Array} levels
 * @returns {Promise<Map<number, Thumbnail>>}
 */
export function thumbnails(input) {
  const path = `api/inputs/${input}/thumbnails`;
  return cached(
    path,
    async () => {
      const buffer = await source.fetchBytes(path);
      const view = header(buffer, "CST1", path);
      const count = view.getUint32(4, true);
      const found = new Map();
      let at = 8 + 20 * count;
      for (let k = 0; k < count; k++) {
        const from = 8 + 20 * k;
        const [layer, height, width] = [0, 4, 8].map((o) => view.getUint32(from + o, true));
        const [low, high] = [12, 16].map((o) => view.getFloat32(from + o, true));
        found.set(layer, { height, width, low, high, levels: new Uint8Array(buffer, at, height * width) });
        at += height * width;
      }
      return found;
    },
    () => 1 << 16,
  );
}

/** What the screens share. */
export const session = {
  source,
  /** @type {any} */ model: null,
  /** @type {Layer[]} */ layers: [],
  /** @type {Map<string, Layer>} */ byPath: new Map(),
  /** @type {Input[]} */ inputs: [],
  /** @type {string[]} */ demos: [],
  /** The network to compare with. @type {null | {model: any, layers: Layer[]}} */ other: null,
};

/** The second network, once it is loaded; null where there is none. */
export async function otherNetwork() {
  if (!session.model.other) return null;
  while (!session.other) {
    const model = await source.fetchJson("api/model?model=1");
    if (model.state === "failed") throw new Error(model.error);
    if (model.state === "ready")
      session.other = { model, layers: (await source.fetchJson("api/layers?model=1")).layers };
    else await new Promise((resume) => setTimeout(resume, 300));
  }
  return session.other;
}

/** @param {any} listing of `api/layers` */
export function setLayers(listing) {
  session.layers = listing.layers;
  session.byPath = new Map(session.layers.map((layer) => [layer.path, layer]));
}

/** @param {string} id */
export const input = (id) => session.inputs.find((one) => one.id === id) ?? null;

/** @param {Input} one */
export function addInput(one) {
  session.inputs = [...session.inputs.filter((other) => other.id !== one.id), one];
}

/** The size to request for an image, as a query, where the network takes any size. */
export function sizeQuery() {
  const sizes = session.model.input?.size ? [] : (session.model.input?.sizes ?? []);
  return sizes.length ? `&size=${sizes[0]}` : "";
}
