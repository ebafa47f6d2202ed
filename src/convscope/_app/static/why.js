/** Why this answer: where in the picture a class, or a unit, comes from. */

import { choice, ramp, stating } from "convscope/controls";
import { pixels } from "convscope/colors";
import { fill, h, notice, number, percent } from "convscope/dom";
import { ask, follow, over, progress } from "convscope/jobs";
import { input, json, session } from "convscope/model";
import { source } from "convscope/source";
import { go, theme, view } from "convscope/state";

const MOST = 32; // single pixels of a photograph cannot be told apart

/** @typedef {{values: Float32Array, height: number, width: number}} Map_ */

/** @param {any} answer @returns {Map_} */
function unpacked(answer) {
  const bytes = Uint8Array.from(atob(answer.values), (c) => c.charCodeAt(0));
  return { values: new Float32Array(bytes.buffer), height: answer.height, width: answer.width };
}

/** Means over blocks where there are more than `MOST` to a side. @param {Map_} map @returns {Map_} */
function coarse(map) {
  const factor = Math.max(map.height, map.width) / MOST;
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

/** Signed colors that fade where a map is near zero. @param {HTMLCanvasElement} canvas @param {Map_} map @param {number} most */
function paint(canvas, map, most) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(map.width, map.height);
  const words = new Uint32Array(image.data.buffer);
  const colors = pixels("signed", theme());
  map.values.forEach((value, i) => {
    const share = most > 0 ? Math.max(-1, Math.min(1, value / most)) : 0;
    words[i] =
      (colors[Math.round((share + 1) * 126)] & 0xffffff) | (Math.round(230 * Math.abs(share)) << 24);
  });
  context.putImageData(image, 0, 0);
}

/**
 * The panel. @param {HTMLElement} room @param {any} [unit] {layer, channel}: of a channel's screen
 * @returns a screen's parts
 */
export function why(room, unit) {
  const one = input(view.input);
  const { can, classes, title } = session.model;
  if (!source.live || !can.attribution?.length) {
    room.append(
      notice(
        "Attribution needs the live model.",
        session.model.exported || !source.live
          ? "Start it with convscope serve, and open the same address there."
          : "And captum: pip install 'convscope[captum]'.",
      ),
    );
    return {};
  }
  if (!one) {
    room.append(notice("No picture is under the microscope.", "Drop one anywhere on this page."));
    return {};
  }
  const canvas = h("canvas");
  const [controls, words, legend] = [h("div.row.tools"), h("div.words"), h("div.legend")];
  const plate = h(
    "div.plate.still-cursor",
    { style: { "aspect-ratio": `${one.seen[1]}/${one.seen[0]}` } },
    h(`img${Math.max(...one.seen) <= 96 ? ".pixels" : ""}`, {
      src: `api/inputs/${one.id}/image?view=model`,
      alt: `${one.name}, as the model sees it`,
    }),
    canvas,
  );
  room.append(controls, legend, h("div.why", null, plate, words));
  /** @type {any} */ let drawn = null;
  let turn = 0;
  /** @type {() => void} */ let stop = () => {};

  async function tools() {
    const answer = await json(`api/inputs/${one?.id}/predictions`).catch(() => ({ predictions: [] }));
    const first = answer.predictions.map((/** @type {any} */ p) => [
      ` ${p.index}`,
      `${p.class} ${percent(p.probability)}`,
    ]);
    const rest = (classes ?? []).map((/** @type {string} */ name, /** @type {number} */ k) => [
      ` ${k}`,
      name,
    ]);
    const options = {
      ...Object.fromEntries(unit ? [["unit", "this unit"]] : []),
      "": "the answer",
      ...Object.fromEntries([...first, ...rest.filter(([k]) => !first.some(([f]) => f === k))]),
    };
    // a leading blank keeps the order: plain numbers as keys would come first
    const now = /^\d/.test(view.target) ? ` ${view.target}` : target();
    const focused = document.activeElement?.id;
    fill(
      controls,
      choice("Explain", options, now, (to) => go({ target: to.trim() }, true), "target"),
      choice(
        "Method",
        Object.fromEntries(can.attribution.map((/** @type {any} */ one) => [one.name, one.title])),
        method().name,
        (name) => go({ method: name }, true),
        "method",
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  /** A class's number, "unit" or the answer. */
  const target = () => (view.target === "unit" && !unit ? "" : view.target);

  /** The chosen method, as the server describes it; the first where none or an unknown one is chosen. */
  const method = () =>
    can.attribution.find((/** @type {any} */ one) => one.name === view.method) ?? can.attribution[0];

  /** What is asked, as a query. */
  const query = () =>
    new URLSearchParams({
      method: method().name,
      ...(/^\d/.test(target()) ? { target: target() } : {}),
      ...(target() === "unit" ? { layer: unit.layer.index, channel: unit.channel } : {}),
    }).toString();

  /** A slow method first as a job. @param {number} own */
  async function computed(own) {
    const whole = (/** @type {string} */ text) => (/^\d/.test(text) ? Number(text) : null);
    const of = target() === "unit" ? { layer: unit.layer.index, channel: unit.channel } : {};
    const job = await ask({
      kind: "attribute",
      input: one?.id,
      method: method().name,
      target: whole(target()),
      ...of,
    });
    return new Promise((resume, fail) => {
      const tell = (/** @type {any} */ now) => {
        if (own !== turn) return resume(false);
        if (now.state === "done") return resume(true);
        if (now.state === "failed") return fail(new Error(now.detail));
        fill(words, progress(now));
        if (over(now)) resume(false);
      };
      stop = follow(job, tell);
      tell(job);
    });
  }

  async function look() {
    const own = ++turn;
    stop();
    plate.classList.add("stale");
    const busy = window.setTimeout(() => own === turn && fill(words, h("p.busy", null, "Looking …")), 150);
    const asked = query();
    try {
      if (!method().single_pass && !(await computed(own))) return;
      const answer = await json(`api/inputs/${one?.id}/attribution?${asked}`);
      if (own !== turn) return;
      const map = unpacked(answer);
      drawn = { answer, map, shown: coarse(map), asked };
      draw();
    } catch (error) {
      if (own !== turn) return;
      drawn = null;
      canvas.width = 0;
      fill(legend);
      fill(words, notice("This cannot be explained here.", /** @type {Error} */ (error).message));
    } finally {
      window.clearTimeout(busy);
    }
  }

  function draw() {
    const { answer, map, shown } = drawn;
    const most = Math.max(...shown.values.map(Math.abs));
    plate.classList.remove("stale");
    paint(canvas, shown, most);
    canvas.dataset.most = String(most);
    fill(
      legend,
      ramp(number(-most), number(most), "signed"),
      h("span", null, `red speaks for ${answer.target}, blue against it; clear is near 0`),
      h(
        "span",
        null,
        `${stating(method().needs_layer ? answer.layer : "", one?.name)} · ${answer.title}${map !== shown ? `, means over blocks, ${shown.height}×${shown.width} of ${map.height}×${map.width}` : `, ${map.height}×${map.width}`}`,
      ),
    );
    fill(
      words,
      h("h2", null, answer.target),
      h(
        "dl.numbers",
        null,
        h("div", null, h("dt", null, "Score"), h("dd", null, number(answer.score))),
        answer.probability !== null &&
          h("div", null, h("dt", null, "Probability"), h("dd", null, percent(answer.probability))),
      ),
      h("p", null, `${answer.sentence}.`),
      h(
        "p.small.soft",
        null,
        method().needs_layer ? `Computed at layer ${answer.layer}.` : "",
        method().uses_baseline ? `Baseline: ${answer.baseline}.` : "",
      ),
    );
  }

  return {
    /** @param {any} now @param {any} before */
    update(now, before) {
      void tools();
      if (!drawn || !before || now.target !== before.target || now.method !== before.method) void look();
      else draw();
      return true;
    },
    close: () => {
      turn++;
      stop();
    },
    picture: () => (drawn ? flattened(plate, canvas) : null),
    numbers: () => drawn && `api/inputs/${one.id}/attribution.npz?${drawn.asked}`,
    saying: () => ({
      title: `${title} · ${one.name} · ${drawn.answer.title}`,
      line: `red speaks for ${drawn.answer.target}, blue against it, ±${number(Number(canvas.dataset.most))}`,
      cmap: "signed",
    }),
  };
}

/** The picture with the map over it. @param {HTMLElement} plate @param {HTMLCanvasElement} map */
function flattened(plate, map) {
  const image = /** @type {HTMLImageElement} */ (plate.querySelector("img"));
  const times = Math.max(1, Math.ceil(448 / Math.max(image.naturalWidth, image.naturalHeight)));
  const out = h("canvas", { width: image.naturalWidth * times, height: image.naturalHeight * times });
  const pen = out.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, 0, 0, out.width, out.height);
  pen.drawImage(map, 0, 0, out.width, out.height);
  return out;
}
