/** Jobs of the server: submitted, followed, canceled. */

import { h } from "convscope/dom";
import { send, source } from "convscope/source";

const ENDED = ["done", "failed", "canceled"];

/** @param {any} job */
export const ended = (job) => ENDED.includes(job.state);

/** @param {any} job @param {(job: any) => void} onUpdate @returns {() => void} stops listening */
export function follow(job, onUpdate) {
  if (ended(job)) return () => {};
  const events = new EventSource(`api/jobs/${job.id}/events`);
  events.addEventListener("job", (event) => {
    const now = JSON.parse(/** @type {MessageEvent} */ (event).data);
    if (ended(now)) events.close();
    onUpdate(now);
  });
  events.onerror = () => {
    events.close();
    void source.fetchJson(`api/jobs/${job.id}`).then(onUpdate, () => {});
  };
  return () => events.close();
}

/** @param {object} task @returns {Promise<any>} the job */
export const submit = (task) => send("api/jobs", JSON.stringify(task));

/** @param {any} job */
const stopButton = (job) =>
  h(
    "button.button",
    {
      type: "button",
      id: `stop-${job.id}`,
      style: { "margin-top": ".6rem" },
      onclick: () => void send(`api/jobs/${job.id}`, null, "DELETE").catch(() => {}),
    },
    "Stop",
  );

/**
 * The progress of a job, in words; nothing where it is done.
 * @param {any} job @param {string} [unit] what it counts
 */
export function progress(job, unit = "Step") {
  if (job.state === "waiting") return [h("p", null, "Waiting for other jobs."), stopButton(job)];
  if (job.state === "running") {
    return [
      h(
        "p",
        null,
        job.total ? `${unit} ${job.done} of ${job.total}` : "Computing …",
        job.message && ` · ${job.message}`,
      ),
      h("progress", {
        max: job.total || null,
        value: job.total ? job.done : null,
        "aria-label": "Progress",
      }),
      stopButton(job),
    ];
  }
  if (job.state === "failed") return [h("p.warn", null, job.message || "It failed.")];
  if (job.state === "canceled")
    return [
      h(
        "p",
        null,
        job.total ? `Stopped at ${unit.toLowerCase()} ${job.done} of ${job.total}.` : "Stopped.",
      ),
    ];
  return [];
}
