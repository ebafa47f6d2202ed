/** A scan of the dataset that the app was started with, begun and followed here. */

import { fill, h, notice, plural } from "convscope/dom";
import { ask, follow, over, progress } from "convscope/jobs";
import { session } from "convscope/model";
import { source } from "convscope/source";

/** @param {HTMLElement} room @returns {() => void} stops listening */
export function survey(room) {
  const { data } = session.model;
  const body = h("div");
  room.append(
    h(
      "section.survey",
      { "aria-label": "Scan" },
      h("h2", null, `Scan ${data.name}`),
      h(
        "p.small.soft",
        null,
        `${plural(data.images, "picture")}: what every channel of every convolution responds to, its statistics and its best images. ${
          data.kept
            ? "What is found is kept in the folder that was named."
            : "What is found is gone when the server ends; to keep it, name a folder: convscope serve ATLAS --data …"
        }`,
      ),
      body,
    ),
  );
  let stop = () => {};
  /** @param {any} job */
  function tell(job) {
    const seen =
      job.preview > 0 &&
      !over(job) &&
      h(
        "figure.seen",
        null,
        h("img", { src: `api/jobs/${job.id}/picture?n=${job.preview}`, alt: "The pictures scanned last" }),
        h("figcaption.small.soft", null, "Scanned last"),
      );
    fill(
      body,
      job.state === "done" ? h("p", null, `${job.result.sentence}. `) : progress(job, "Picture"),
      seen,
      over(job) && job.state !== "done" && start("Go on"),
      job.state === "done" &&
        h(
          "button.button.first",
          { type: "button", id: "scanned", onclick: () => location.reload() },
          "See what it found",
        ),
    );
  }
  /** @param {any} job */
  function attend(job) {
    tell(job);
    stop = follow(job, tell);
  }
  const start = (/** @type {string} */ text) =>
    h(
      "button.button.first",
      {
        type: "button",
        id: "scan",
        onclick: async () => {
          try {
            attend(await ask({ kind: "scan" }));
          } catch (error) {
            body.append(notice("This cannot be scanned now.", /** @type {Error} */ (error).message));
          }
        },
      },
      text,
    );
  fill(body, start("Scan it"));
  source.fetchJson("api/jobs").then(
    (all) => {
      const last = all.jobs.filter((/** @type {any} */ job) => job.kind === "scan").at(-1);
      if (last) attend(last);
    },
    () => {},
  );
  return () => stop();
}
