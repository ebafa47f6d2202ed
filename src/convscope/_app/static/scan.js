/** A scan of the dataset that the app was started with. */

import { fill, h, notice, plural } from "convscope/dom";
import { submit, follow, ended, progress } from "convscope/jobs";
import { session } from "convscope/api";
import { source } from "convscope/source";

/** @param {HTMLElement} parent @returns {() => void} stops listening */
export function scanPanel(parent) {
  const { dataset } = session.model;
  const body = h("div");
  parent.append(
    h(
      "section.scan",
      { "aria-label": "Scan" },
      h("h2", null, `Scan ${dataset.name}`),
      h(
        "p.small.soft",
        null,
        `${plural(dataset.images, "image")}: statistics and dataset examples of every channel of every ` +
          "convolution. " +
          (dataset.saved
            ? "The atlas is written to the folder that was named."
            : "The atlas is deleted when the server ends; to keep it, name a folder: " +
              "convscope serve ATLAS --data …"),
      ),
      body,
    ),
  );
  let stop = () => {};
  /** @param {any} job */
  function show(job) {
    const preview =
      job.previews > 0 &&
      !ended(job) &&
      h(
        "figure.preview",
        null,
        h("img", { src: `api/jobs/${job.id}/image?n=${job.previews}`, alt: "The images scanned last" }),
        h("figcaption.small.soft", null, "Scanned last"),
      );
    fill(
      body,
      job.state === "done" ? h("p", null, `${job.result.sentence}. `) : progress(job, "Image"),
      preview,
      ended(job) && job.state !== "done" && start("Continue"),
      job.state === "done" &&
        h(
          "button.button.primary",
          { type: "button", id: "scanned", onclick: () => location.reload() },
          "Show the results",
        ),
    );
  }
  /** @param {any} job */
  function watch(job) {
    show(job);
    stop = follow(job, show);
  }
  const start = (/** @type {string} */ text) =>
    h(
      "button.button.primary",
      {
        type: "button",
        id: "scan",
        onclick: async () => {
          try {
            watch(await submit({ kind: "scan" }));
          } catch (error) {
            body.append(notice("The scan cannot start.", /** @type {Error} */ (error).message));
          }
        },
      },
      text,
    );
  fill(body, start("Scan"));
  source.fetchJson("api/jobs").then(
    (all) => {
      const last = all.jobs.filter((/** @type {any} */ job) => job.kind === "scan").at(-1);
      if (last) watch(last);
    },
    () => {},
  );
  return () => stop();
}
