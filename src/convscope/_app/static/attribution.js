/** Attribution of a class, or of a unit, to the positions of the input image. */

import { choice, ramp, describe } from "convscope/controls";
import { pixels } from "convscope/colors";
import { fill, h, notice, number, percent } from "convscope/dom";
import { submit, follow, ended, progress } from "convscope/jobs";
import { input, json, session } from "convscope/api";
import { source } from "convscope/source";
import { go, view } from "convscope/state";

const MAX_SIDE = 32; // single pixels of a photograph cannot be distinguished

/** @typedef {{values: Float32Array, height: number, width: number}} Map_ */

/** @param {any} result @returns {Map_} */
function decode(result) {
  const bytes = Uint8Array.from(atob(result.values), (c) => c.charCodeAt(0));
  return { values: new Float32Array(bytes.buffer), height: result.height, width: result.width };
}

/** Means over blocks where a side is longer than `MAX_SIDE`. @param {Map_} map @returns {Map_} */
function blockMeans(map) {
  const factor = Math.max(map.height, map.width) / MAX_SIDE;
  if (factor <= 1) return map;
  const [height, width] = [Math.round(map.height / factor), Math.round(map.width / factor)];
  const [sums, counts] = [new Float32Array(height * width), new Float32Array(height * width)];
  map.values.forEach((value, i) => {
    const at =
      Math.min(height - 1, Math.floor(Math.floor(i / map.width) / factor)) * width +
      Math.min(width - 1, Math.floor((i % map.width) / factor));
    sums[at] += value;
    counts[at]++;
  });
  return { values: sums.map((sum, i) => sum / counts[i]), height, width };
}

/**
 * Signed colors, transparent near zero.
 * @param {HTMLCanvasElement} canvas @param {Map_} map @param {number} maxAbs
 */
function paint(canvas, map, maxAbs) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(map.width, map.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels("signed");
  map.values.forEach((value, i) => {
    const share = maxAbs > 0 ? Math.max(-1, Math.min(1, value / maxAbs)) : 0;
    words[i] =
      (colors[Math.round((share + 1) * 126)] & 0xffffff) | (Math.round(230 * Math.abs(share)) << 24);
  });
  context.putImageData(image, 0, 0);
}

/**
 * The panel. @param {HTMLElement} parent @param {any} [unit] {layer, channel}: of a channel's screen
 * @returns a screen's parts
 */
export function attribution(parent, unit) {
  const one = input(view.input);
  const { features, classes, title } = session.model;
  if (!source.live || !features.attribution?.length) {
    parent.append(
      notice(
        "Attribution needs the running model.",
        session.model.exported || !source.live
          ? "Start it with convscope serve, and open the same address there."
          : "Install captum: pip install 'convscope[captum]'.",
      ),
    );
    return {};
  }
  if (!one) {
    parent.append(notice("There is no input image.", "Drop one anywhere on this page."));
    return {};
  }
  const canvas = h("canvas");
  const [controls, words, legend] = [h("div.row.tools"), h("div.words"), h("div.legend")];
  const plate = h(
    "div.plate",
    { style: { "aspect-ratio": `${one.input_size[1]}/${one.input_size[0]}` } },
    h(`img${Math.max(...one.input_size) <= 96 ? ".pixels" : ""}`, {
      src: `api/inputs/${one.id}/image?stage=preprocessed`,
      alt: `${one.name}, preprocessed`,
    }),
    canvas,
  );
  parent.append(controls, legend, h("div.attribution", null, plate, words));
  /** @type {any} */ let drawn = null;
  let turn = 0;
  /** @type {() => void} */ let stop = () => {};

  async function tools() {
    const result = await json(`api/inputs/${one?.id}/predictions`).catch(() => ({ predictions: [] }));
    const first = result.predictions.map((/** @type {any} */ p) => [
      ` ${p.index}`,
      `${p.class} ${percent(p.probability)}`,
    ]);
    const rest = (classes ?? []).map((/** @type {string} */ name, /** @type {number} */ k) => [
      ` ${k}`,
      name,
    ]);
    const options = {
      ...Object.fromEntries(unit ? [["unit", "this unit"]] : []),
      "": "the predicted class",
      ...Object.fromEntries([...first, ...rest.filter(([k]) => !first.some(([f]) => f === k))]),
    };
    // a leading blank keeps the order: plain numbers as keys would come first
    const now = /^\d/.test(view.target) ? ` ${view.target}` : target();
    const focused = document.activeElement?.id;
    fill(
      controls,
      choice("Target", options, now, (to) => go({ target: to.trim() }, true), "target"),
      choice(
        "Method",
        Object.fromEntries(features.attribution.map((/** @type {any} */ one) => [one.name, one.title])),
        method().name,
        (name) => go({ method: name }, true),
        "method",
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  /** The index of a class, "unit", or nothing: the predicted class. */
  const target = () => (view.target === "unit" && !unit ? "" : view.target);

  /** The chosen method, as the server describes it; the first where none or an unknown one is chosen. */
  const method = () =>
    features.attribution.find((/** @type {any} */ one) => one.name === view.method) ??
    features.attribution[0];

  /** Method and target as a query. */
  const query = () =>
    new URLSearchParams({
      method: method().name,
      ...(/^\d/.test(target()) ? { target: target() } : {}),
      ...(target() === "unit" ? { layer: unit.layer.index, channel: unit.channel } : {}),
    }).toString();

  /** Run a slow method as a job. @param {number} own */
  async function runJob(own) {
    const whole = (/** @type {string} */ text) => (/^\d/.test(text) ? Number(text) : null);
    const of = target() === "unit" ? { layer: unit.layer.index, channel: unit.channel } : {};
    const job = await submit({
      kind: "attribute",
      input: one?.id,
      method: method().name,
      target: whole(target()),
      ...of,
    });
    return new Promise((resume, fail) => {
      const onUpdate = (/** @type {any} */ now) => {
        if (own !== turn) return resume(false);
        if (now.state === "done") return resume(true);
        if (now.state === "failed") return fail(new Error(now.message));
        fill(words, progress(now));
        if (ended(now)) resume(false);
      };
      stop = follow(job, onUpdate);
      onUpdate(job);
    });
  }

  async function compute() {
    const own = ++turn;
    stop();
    plate.classList.add("stale");
    const busy = window.setTimeout(() => own === turn && fill(words, h("p.busy", null, "Loading …")), 150);
    const currentQuery = query();
    try {
      if (!method().single_pass && !(await runJob(own))) return;
      const result = await json(`api/inputs/${one?.id}/attribution?${currentQuery}`);
      if (own !== turn) return;
      const map = decode(result);
      drawn = { result, map, shown: blockMeans(map), currentQuery };
      draw();
    } catch (error) {
      if (own !== turn) return;
      drawn = null;
      canvas.width = 0;
      fill(legend);
      fill(words, notice("The attribution cannot be computed.", /** @type {Error} */ (error).message));
    } finally {
      window.clearTimeout(busy);
    }
  }

  function draw() {
    const { result, map, shown } = drawn;
    const maxAbs = Math.max(...shown.values.map(Math.abs));
    plate.classList.remove("stale");
    paint(canvas, shown, maxAbs);
    canvas.dataset.maxAbs = String(maxAbs);
    fill(
      legend,
      ramp(number(-maxAbs), number(maxAbs), "signed"),
      h("span", null, `red raises ${result.target}, blue lowers it; transparent: near 0`),
      h(
        "span",
        null,
        `${describe(method().needs_layer ? result.layer : "", one?.name)} · ${result.title}, ` +
          (map !== shown ? `block means, ${shown.height}×${shown.width} of ` : "") +
          `${map.height}×${map.width}`,
      ),
    );
    fill(
      words,
      h("h2", null, result.target),
      h(
        "dl.numbers",
        null,
        h("div", null, h("dt", null, "Score"), h("dd", null, number(result.score))),
        result.probability !== null &&
          h("div", null, h("dt", null, "Probability"), h("dd", null, percent(result.probability))),
      ),
      h("p", null, `${result.sentence}.`),
      h(
        "p.small.soft",
        null,
        method().needs_layer ? `Computed at layer ${result.layer}.` : "",
        method().uses_baseline ? `Baseline: ${result.baseline}.` : "",
      ),
    );
  }

  return {
    /** @param {any} now @param {any} before */
    update(now, before) {
      void tools();
      if (!drawn || !before || now.target !== before.target || now.method !== before.method) void compute();
      else draw();
      return true;
    },
    close: () => {
      turn++;
      stop();
    },
    canvas: () => (drawn ? composite(plate, canvas) : null),
    npz: () => drawn && `api/inputs/${one.id}/attribution.npz?${drawn.currentQuery}`,
    caption: () => ({
      title: `${title} · ${one.name} · ${drawn.result.title}`,
      line: `red raises ${drawn.result.target}, blue lowers it, ±${number(Number(canvas.dataset.maxAbs))}`,
      cmap: "signed",
    }),
  };
}

/** The image with the map over it. @param {HTMLElement} plate @param {HTMLCanvasElement} map */
function composite(plate, map) {
  const image = /** @type {HTMLImageElement} */ (plate.querySelector("img"));
  const times = Math.max(1, Math.ceil(448 / Math.max(image.naturalWidth, image.naturalHeight)));
  const out = h("canvas", { width: image.naturalWidth * times, height: image.naturalHeight * times });
  const pen = out.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, 0, 0, out.width, out.height);
  pen.drawImage(map, 0, 0, out.width, out.height);
  return out;
}
