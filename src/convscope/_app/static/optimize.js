/** Optimized images: what a unit would like to see, as a job with preview and cancel. */

import { fill, h, notice, plural } from "convscope/dom";
import { ask, follow, over, progress } from "convscope/jobs";
import { layerOf } from "convscope/layer";
import { maps, session } from "convscope/model";
import { source } from "convscope/source";
import { link, view } from "convscope/state";

/** @param {any} job */
function words(job) {
  if (job.state !== "done") return progress(job);
  const card = job.result ?? {};
  return [
    h("p", null, card.sentence),
    card.dead && h("p.warn", null, "Nothing makes this channel active: it looks dead."),
    h(
      "details",
      null,
      h("summary", null, "How it was made"),
      h(
        "ul.prov",
        null,
        (card.lines ?? []).map((/** @type {string} */ line) => h("li", null, line)),
        h(
          "li",
          null,
          `seed ${card.seed}, ${plural(card.steps ?? 0, "step")}, ${(card.size ?? []).join("×")}`,
        ),
      ),
    ),
  ];
}

/** @param {any} job @param {string} [title] */
function shot(job, title) {
  const ready = job.state === "done" || job.preview > 0;
  const image = ready
    ? h("img.shot", {
        src: `api/jobs/${job.id}/picture?n=${job.state === "done" ? "final" : job.preview}`,
        alt: `Optimized image, ${job.title}`,
      })
    : h("div.shot", { "aria-hidden": "true" });
  return h(
    "div.optimized",
    null,
    image,
    h(
      "div.words",
      null,
      h(
        "h3",
        { style: { "margin-bottom": ".35rem" } },
        title ?? (job.sign < 0 ? "Least active" : "Most active"),
      ),
      words(job),
    ),
  );
}

/** @param {any} layer @param {number} channel @param {number} sign */
const wish = (layer, channel, sign) => ({
  kind: "maximize",
  layer: layer.index,
  channel,
  sign,
  steps: 128,
  size: null,
  seed: 0,
});

/**
 * The optimized images of one unit. @param {HTMLElement} room @param {any} layer @param {number} c
 * @returns {() => void} stops listening
 */
export function optimize(room, layer, c) {
  const body = h("div");
  const section = h(
    "section.part",
    null,
    h("h2", null, "Optimized image"),
    h(
      "p.small.soft",
      null,
      "Pixels changed by gradient ascent until this channel is as active as it gets. It shows what drives the channel, not what it usually sees: read it beside dataset examples.",
    ),
    body,
  );
  room.append(section);
  if (!source.live || !session.model.can?.jobs) {
    fill(
      body,
      notice(
        "This needs the live model.",
        "Start it with convscope serve, and open the same address there.",
      ),
    );
    return () => {};
  }
  /** @type {Map<number, any>} */ const jobs = new Map();
  /** @type {(() => void)[]} */ const stops = [];
  function draw() {
    const busy = [...jobs.values()].some((job) => !over(job));
    const focused = document.activeElement?.id;
    fill(
      body,
      h(
        "div.pair",
        null,
        [1, -1].filter((sign) => jobs.has(sign)).map((sign) => shot(jobs.get(sign))),
      ),
      h(
        "div.row",
        { style: { "margin-top": jobs.size ? "1rem" : 0 } },
        !jobs.has(1) &&
          h("button.button.first", { type: "button", id: "optimize", onclick: () => begin(1) }, "Optimize"),
        !jobs.has(-1) &&
          h(
            "button.button",
            { type: "button", id: "optimize-least", disabled: busy, onclick: () => begin(-1) },
            "The opposite",
          ),
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }
  /** @param {any} job */
  function tell(job) {
    jobs.set(job.sign, job);
    draw();
  }
  /** @param {number} sign */
  async function begin(sign) {
    try {
      const job = await ask(wish(layer, c, sign));
      tell(job);
      stops.push(follow(job, tell));
    } catch (error) {
      body.append(notice("This cannot be optimized now.", /** @type {Error} */ (error).message));
    }
  }
  draw();
  source.fetchJson("api/jobs").then(
    (all) => {
      for (const job of all.jobs) {
        if (job.kind !== "maximize" || job.layer !== layer.index || job.channel !== c || jobs.has(job.sign))
          continue;
        tell(job);
        stops.push(follow(job, tell));
      }
    },
    () => {},
  );
  return () => stops.forEach((stop) => stop());
}

/** The tab of a layer: all that has been optimized of it, and a start. @param {HTMLElement} room @param {any} layer */
export async function optimizedTab(room, layer) {
  if (!source.live || !session.model.can?.jobs) {
    room.append(
      notice(
        "Optimized images need the live model.",
        "Start it with convscope serve, and open the same address there.",
      ),
    );
    return {};
  }
  /** @type {(() => void)[]} */ const stops = [];
  const list = h("div.pair");
  /** @type {Map<string, HTMLElement>} */ const places = new Map();
  /** @param {any} job */
  function tell(job) {
    const made = h(
      "div",
      null,
      shot(job, `${job.sign < 0 ? "−" : "+"} channel ${job.channel}`),
      h(
        "a.small",
        { href: link({ screen: "channel", channel: job.channel, position: null }) },
        `Channel ${job.channel}`,
      ),
    );
    const old = places.get(job.id);
    if (old) old.replaceWith(made);
    else list.append(made);
    places.set(job.id, made);
    empty.hidden = true;
  }
  async function begin() {
    try {
      const block = view.input ? await maps(view.input, layer.index).catch(() => null) : null;
      const count = layerOf().shape?.[0] ?? 1;
      const order = Array.from({ length: count }, (_, c) => c).sort((a, b) =>
        block ? block.high[b] - block.high[a] : a - b,
      );
      for (const channel of order.slice(0, 6)) {
        const job = await ask(wish(layer, channel, 1));
        tell(job);
        stops.push(follow(job, tell));
      }
    } catch (error) {
      room.append(notice("No more can be optimized now.", /** @type {Error} */ (error).message));
    }
  }
  const start = h(
    "button.button.first",
    { type: "button", onclick: begin },
    view.input ? "Optimize the six strongest on this picture" : "Optimize the first six",
  );
  const empty = notice(
    "Nothing of this layer has been optimized yet.",
    "Begin with the strongest channels here, or open one channel and optimize it there. Each takes seconds to a minute.",
  );
  room.append(h("div.row.tools", null, start), empty, list);
  const all = await source.fetchJson("api/jobs");
  for (const job of all.jobs.filter(
    (/** @type {any} */ job) => job.kind === "maximize" && job.layer === layer.index,
  )) {
    tell(job);
    stops.push(follow(job, tell));
  }
  return { close: () => stops.forEach((stop) => stop()) };
}
