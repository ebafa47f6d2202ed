/** What a channel follows and ignores: its sensitivity, where it was measured, or measured now. */

import { fill, h, notice } from "convscope/dom";
import { ask, follow, over, progress } from "convscope/jobs";
import { session } from "convscope/model";
import { source } from "convscope/source";
import { bars } from "convscope/specimen";

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
 * @param {HTMLElement} room @param {any} layer @param {number} c
 * @returns {() => void} stops listening
 */
export function felt(room, layer, c) {
  const body = h("div");
  room.append(
    h(
      "section.part",
      null,
      h("h2", null, "Sensitivity"),
      h(
        "p.small.soft",
        null,
        "Pictures changed in one way at a time. 1: the change never matters to this channel; 0: it matters as much as another picture.",
      ),
      body,
    ),
  );
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
  let stop = () => {};
  async function draw() {
    const found = await source.fetchJson(`api/sensitivity/${layer.index}/channels/${c}`);
    if (!found.measured) {
      return fill(
        body,
        h(
          "div.row",
          null,
          h("button.button.first", { type: "button", id: "measure", onclick: begin }, "Measure this layer"),
          h(
            "span.small.soft",
            null,
            `Not measured yet. On ${found.on}; takes a few seconds to some minutes, for all channels of the layer.`,
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
            h("h3", null, "Share of its variance that each factor of the drawn shapes brings"),
            rows(found.factors),
          ),
      ),
      h(
        "p.prov",
        { style: { "margin-top": ".9rem" } },
        `Measured on ${found.on}; a channel's answer is the mean of its map.`,
      ),
    );
  }
  /** @param {any} job */
  function tell(job) {
    fill(body, progress(job, "Picture"));
    if (job.state === "done") void draw();
    else if (over(job))
      body.append(h("button.button", { type: "button", id: "measure", onclick: begin }, "Measure again"));
  }
  async function begin() {
    try {
      const job = await ask({ kind: "sensitivity", layer: layer.index });
      tell(job);
      stop = follow(job, tell);
    } catch (error) {
      body.append(notice("This cannot be measured now.", /** @type {Error} */ (error).message));
    }
  }
  draw().catch((error) => fill(body, notice("This cannot be measured here.", error.message)));
  return () => stop();
}
