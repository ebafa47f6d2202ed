/** Optimized images of units, as jobs with previews. */

import { fill, h, notice, plural } from "convscope/dom";
import { submit, follow, ended, progress } from "convscope/jobs";
import { maps, session } from "convscope/api";
import { source } from "convscope/source";
import { link, view } from "convscope/state";

/** @param {any} job */
function status(job) {
  if (job.state !== "done") return progress(job);
  const facts = job.result ?? {};
  return [
    h("p", null, facts.sentence),
    facts.dead && h("p.warn", null, "The channel stayed inactive: it may be dead."),
    h(
      "details",
      null,
      h("summary", null, "Settings"),
      h(
        "ul.provenance",
        null,
        (facts.lines ?? []).map((/** @type {string} */ line) => h("li", null, line)),
        h(
          "li",
          null,
          `seed ${facts.seed}, ${plural(facts.steps ?? 0, "step")}, ${(facts.size ?? []).join("×")}`,
        ),
      ),
    ),
  ];
}

/** @param {any} job @param {string} [title] */
function result(job, title) {
  const ready = job.state === "done" || job.previews > 0;
  const image = ready
    ? h("img.shot", {
        src: `api/jobs/${job.id}/image?n=${job.state === "done" ? "final" : job.previews}`,
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
      status(job),
    ),
  );
}

/** @param {any} layer @param {number} channel @param {number} sign */
const task = (layer, channel, sign) => ({
  kind: "maximize",
  layer: layer.index,
  channel,
  sign,
  steps: 128,
  size: null,
  seed: 0,
});

/**
 * The optimized images of one unit. @param {HTMLElement} parent @param {any} layer @param {number} c
 * @returns {() => void} stops listening
 */
export function optimize(parent, layer, c) {
  const body = h("div");
  const section = h(
    "section.panel",
    null,
    h("h2", null, "Optimized image"),
    h(
      "p.small.soft",
      null,
      "Pixels optimized by gradient ascent to maximize the activation of this channel. It shows what " +
        "can activate the channel, not typical inputs: compare it with dataset examples.",
    ),
    body,
  );
  parent.append(section);
  if (!source.live || !session.model.features?.jobs) {
    fill(
      body,
      notice(
        "This needs the running model.",
        "Start it with convscope serve, and open the same address there.",
      ),
    );
    return () => {};
  }
  /** @type {Map<number, any>} */ const jobs = new Map();
  /** @type {(() => void)[]} */ const stops = [];
  function draw() {
    const busy = [...jobs.values()].some((job) => !ended(job));
    const focused = document.activeElement?.id;
    fill(
      body,
      h(
        "div.pair",
        null,
        [1, -1].filter((sign) => jobs.has(sign)).map((sign) => result(jobs.get(sign))),
      ),
      h(
        "div.row",
        { style: { "margin-top": jobs.size ? "1rem" : 0 } },
        !jobs.has(1) &&
          h(
            "button.button.primary",
            { type: "button", id: "optimize", onclick: () => begin(1) },
            "Optimize",
          ),
        !jobs.has(-1) &&
          h(
            "button.button",
            { type: "button", id: "optimize-least", disabled: busy, onclick: () => begin(-1) },
            "Minimize",
          ),
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }
  /** @param {any} job */
  function show(job) {
    jobs.set(job.sign, job);
    draw();
  }
  /** @param {number} sign */
  async function begin(sign) {
    try {
      const job = await submit(task(layer, c, sign));
      show(job);
      stops.push(follow(job, show));
    } catch (error) {
      body.append(notice("The optimization cannot start.", /** @type {Error} */ (error).message));
    }
  }
  draw();
  source.fetchJson("api/jobs").then(
    (all) => {
      for (const job of all.jobs) {
        if (job.kind !== "maximize" || job.layer !== layer.index || job.channel !== c || jobs.has(job.sign))
          continue;
        show(job);
        stops.push(follow(job, show));
      }
    },
    () => {},
  );
  return () => stops.forEach((stop) => stop());
}

/**
 * The tab of a layer: its optimized images, and a button for more.
 * @param {HTMLElement} parent @param {any} layer
 */
export async function optimizedTab(parent, layer) {
  if (!source.live || !session.model.features?.jobs) {
    parent.append(
      notice(
        "Optimized images need the running model.",
        "Start it with convscope serve, and open the same address there.",
      ),
    );
    return {};
  }
  /** @type {(() => void)[]} */ const stops = [];
  const list = h("div.pair");
  /** @type {Map<string, HTMLElement>} */ const places = new Map();
  /** @param {any} job */
  function show(job) {
    const made = h(
      "div",
      null,
      result(job, `${job.sign < 0 ? "−" : "+"} channel ${job.channel}`),
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
      const count = layer.shape?.[0] ?? 1;
      const order = Array.from({ length: count }, (_, c) => c).sort((a, b) =>
        block ? block.high[b] - block.high[a] : a - b,
      );
      for (const channel of order.slice(0, 6)) {
        const job = await submit(task(layer, channel, 1));
        show(job);
        stops.push(follow(job, show));
      }
    } catch (error) {
      parent.append(notice("No more optimizations can start now.", /** @type {Error} */ (error).message));
    }
  }
  const start = h(
    "button.button.primary",
    { type: "button", onclick: begin },
    view.input ? "Optimize the six most active on this image" : "Optimize the first six",
  );
  const empty = notice(
    "There are no optimized images of this layer yet.",
    "Optimize the most active channels here, or open a channel and optimize it there. " +
      "Each takes seconds to a minute.",
  );
  parent.append(h("div.row.tools", null, start), empty, list);
  const all = await source.fetchJson("api/jobs");
  for (const job of all.jobs.filter(
    (/** @type {any} */ job) => job.kind === "maximize" && job.layer === layer.index,
  )) {
    show(job);
    stops.push(follow(job, show));
  }
  return { close: () => stops.forEach((stop) => stop()) };
}
