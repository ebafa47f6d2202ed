/** The sensitivity of a channel: shown where it was measured, or measured now. */

import { fill, h, notice } from "convscope/dom";
import { submit, follow, ended, progress } from "convscope/jobs";
import { session } from "convscope/api";
import { source } from "convscope/source";
import { bars } from "convscope/input";

/** @param {Record<string, number | null>} shares */
const rows = (shares) =>
  bars(
    Object.entries(shares).map(([name, share]) => [
      name,
      share ?? 0,
      share === null ? "–" : share.toFixed(2),
    ]),
    true,
  );

/**
 * @param {HTMLElement} parent @param {any} layer @param {number} c
 * @returns {() => void} stops listening
 */
export function sensitivity(parent, layer, c) {
  const body = h("div");
  parent.append(
    h(
      "section.panel",
      null,
      h("h2", null, "Sensitivity"),
      h(
        "p.small.soft",
        null,
        "Invariance to one change of the images at a time. 1: the change has no effect on the channel; " +
          "0: as much as another image.",
      ),
      body,
    ),
  );
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
  let stop = () => {};
  async function draw() {
    const found = await source.fetchJson(`api/sensitivity/${layer.index}/channels/${c}`);
    if (!found.measured) {
      return fill(
        body,
        h(
          "div.row",
          null,
          h(
            "button.button.primary",
            { type: "button", id: "measure", onclick: begin },
            "Measure this layer",
          ),
          h(
            "span.small.soft",
            null,
            `Not measured yet. Uses ${found.dataset}; takes seconds to minutes for the whole layer.`,
          ),
        ),
      );
    }
    const factors = Object.keys(found.factors).length > 0;
    fill(
      body,
      h("p", { style: { "margin-bottom": ".9rem" } }, `${found.sentence}.`),
      h(
        "div.pair",
        null,
        h("div", null, h("h3", null, "Invariance to a change"), rows(found.invariance)),
        factors &&
          h(
            "div",
            null,
            h("h3", null, "Variance explained by each factor of the drawn shapes"),
            rows(found.factors),
          ),
      ),
      h(
        "p.provenance",
        { style: { "margin-top": ".9rem" } },
        `Measured on ${found.dataset}; the response of a channel is the mean of its map.`,
      ),
    );
  }
  /** @param {any} job */
  function show(job) {
    fill(body, progress(job, "Image"));
    if (job.state === "done") void draw();
    else if (ended(job))
      body.append(h("button.button", { type: "button", id: "measure", onclick: begin }, "Measure again"));
  }
  async function begin() {
    try {
      const job = await submit({ kind: "sensitivity", layer: layer.index });
      show(job);
      stop = follow(job, show);
    } catch (error) {
      body.append(notice("The measurement cannot start.", /** @type {Error} */ (error).message));
    }
  }
  draw().catch((error) => fill(body, notice("Sensitivity cannot be measured here.", error.message)));
  return () => stop();
}
