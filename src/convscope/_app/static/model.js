/** What is asked of the server, decoded and remembered: every request of the app is made here. */

import { source } from "convscope/source";

/**
 * @typedef {object} Layer
 * @property {number} index @property {string} path @property {string} kind
 * @property {number[] | null} shape @property {number} depth
 * @property {boolean} container @property {boolean} function @property {string[]} families
 * @property {number} parameters @property {boolean} maps @property {boolean} kernel
 * @property {boolean} atlas @property {string} field
 *
 * @typedef {object} Input
 * @property {string} id @property {string} name
 * @property {[number, number]} original @property {[number, number]} seen
 * @property {[number, number]} scale @property {[number, number]} offset
 * @property {string[]} lines
 *
 * @typedef {object} Field
 * @property {boolean} known @property {string} text @property {[number, number]} image
 * @property {[number, number][]} rows @property {[number, number][]} columns
 * @property {null | {rows: [number, number][], columns: [number, number][]}} exact
 *
 * @typedef {import("convscope/maps").Block} Block
 */

const STATES = ["live", "zero", "constant", "nan", "inf"];

/** Answers kept, oldest out first where they hold more than `bound` bytes. */
const kept = new Map();
const BOUND = 96 << 20;
let held = 0;

/**
 * @template T @param {string} key @param {() => Promise<T>} make @param {(value: T) => number} [weigh]
 * @returns {Promise<T>}
 */
export function remember(key, make, weigh = () => 256) {
  const found = kept.get(key);
  if (found) {
    kept.delete(key);
    kept.set(key, found);
    return found.promise;
  }
  const entry = { promise: make(), weight: 0 };
  kept.set(key, entry);
  entry.promise.then(
    (value) => {
      entry.weight = weigh(value);
      held += entry.weight;
      for (const [oldest, old] of kept) {
        if (held <= BOUND) break;
        if (old === entry) continue;
        held -= old.weight;
        kept.delete(oldest);
      }
    },
    () => kept.delete(key),
  );
  return entry.promise;
}

/** @param {string} path */
export const json = (path) => remember(path, () => source.fetchJson(path));

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
    states: Array.from(states, (state) => STATES[state] ?? "live"),
    levels: new Uint8Array(buffer, 24 + 13 * channels),
  };
}

/**
 * Exact floats. @typedef {{shape: [number, number, number, number], flags: number, values: Float32Array}} Floats
 * @param {ArrayBuffer} buffer @param {string} path @returns {Floats}
 */
function decodeFloats(buffer, path) {
  const view = header(buffer, "CSF1", path);
  const [n, c, h, w, flags] = [4, 8, 12, 16, 20].map((at) => view.getUint32(at, true));
  return { shape: [n, c, h, w], flags, values: new Float32Array(buffer, 24, n * c * h * w) };
}

/** @param {Block} block */
const weight = (block) => block.levels.byteLength + 16 * block.channels;

/** All channels of a layer, at most 56 a side. @param {string} input @param {number} layer @param {number} [m] the second network: 1 */
export function maps(input, layer, m = 0) {
  const path = `api/inputs/${input}/maps/${layer}?max=56${m ? "&m=1" : ""}`;
  return remember(path, async () => decodeMaps(await source.fetchBytes(path), path), weight);
}

/** @param {string} path @returns {Promise<Floats>} */
function floats(path) {
  return remember(
    path,
    async () => decodeFloats(await source.fetchBytes(path), path),
    (found) => found.values.byteLength,
  );
}

/**
 * One map: exact where the model can be asked, else from its levels, and then it says so.
 * @typedef {{values: Float32Array, height: number, width: number, exact: boolean, full: [number, number]}} OneMap
 * @param {string} input @param {number} layer @param {number} channel @returns {Promise<OneMap>}
 */
export async function oneMap(input, layer, channel) {
  if (session.model.can.exact) {
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

/** Every channel at one position. @param {string} input @param {number} layer @param {number} y @param {number} x */
export async function atPosition(input, layer, y, x) {
  if (session.model.can.exact) {
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
export const kernels = (layer) => floats(`api/kernels/${layer}`);
/** @param {number} layer @param {number} channel */
export async function kernel(layer, channel) {
  if (session.source.live) return floats(`api/kernels/${layer}?channel=${channel}`);
  const all = await kernels(layer);
  const [n, c, h, w] = all.shape;
  if (channel >= n) throw new Error("This page holds only the layer's first filters.");
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
 * @returns {Promise<Map<number, {height: number, width: number, low: number, high: number, levels: Uint8Array}>>}
 */
export function thumbnails(input) {
  const path = `api/inputs/${input}/thumbnails`;
  return remember(
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

/** What the app is about. */
export const session = {
  source,
  /** @type {any} */ model: null,
  /** @type {Layer[]} */ layers: [],
  /** @type {Map<string, Layer>} */ byPath: new Map(),
  /** @type {Input[]} */ inputs: [],
  /** @type {string[]} */ demos: [],
  /** The network that it is compared with. @type {null | {model: any, layers: Layer[]}} */ other: null,
};

/** The second network, as soon as it is loaded; null where there is none. */
export async function other() {
  if (!session.model.other) return null;
  while (!session.other) {
    const model = await source.fetchJson("api/model?m=1");
    if (model.state === "failed") throw new Error(model.detail);
    if (model.state === "ready")
      session.other = { model, layers: (await source.fetchJson("api/layers?m=1")).layers };
    else await new Promise((resume) => setTimeout(resume, 300));
  }
  return session.other;
}

/** @param {any} answer of `api/layers` */
export function setLayers(answer) {
  session.layers = answer.layers;
  session.byPath = new Map(session.layers.map((layer) => [layer.path, layer]));
}

/** @param {string} id */
export const input = (id) => session.inputs.find((one) => one.id === id) ?? null;

/** @param {Input} one */
export function addInput(one) {
  session.inputs = [...session.inputs.filter((other) => other.id !== one.id), one];
}

/** The side that pictures are brought to, where the network leaves a choice. */
export function side() {
  const sizes = session.model.input?.size ? [] : (session.model.input?.sizes ?? []);
  return sizes.length ? `&size=${sizes[0]}` : "";
}
