/** Long work of the server's: asked for, followed as it goes, stopped. */

import { h } from "convscope/dom";
import { send, source } from "convscope/source";

const OVER = ["done", "failed", "cancelled"];

/** @param {any} job */
export const over = (job) => OVER.includes(job.state);

/** @param {any} job @param {(job: any) => void} tell @returns {() => void} stops listening */
export function follow(job, tell) {
  if (over(job)) return () => {};
  const events = new EventSource(`api/jobs/${job.id}/events`);
  events.addEventListener("job", (event) => {
    const now = JSON.parse(/** @type {MessageEvent} */ (event).data);
    if (over(now)) events.close();
    tell(now);
  });
  events.onerror = () => {
    events.close();
    void source.fetchJson(`api/jobs/${job.id}`).then(tell, () => {});
  };
  return () => events.close();
}

/** @param {object} wish @returns {Promise<any>} the job */
export const ask = (wish) => send("api/jobs", JSON.stringify(wish));

/** @param {any} job */
const stop = (job) =>
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
 * How far a job is, in words; nothing where it is done.
 * @param {any} job @param {string} [unit] what it counts
 */
export function progress(job, unit = "Step") {
  if (job.state === "waiting") return [h("p", null, "Waiting for its turn."), stop(job)];
  if (job.state === "running") {
    return [
      h(
        "p",
        null,
        job.of ? `${unit} ${job.done} of ${job.of}` : "Working …",
        job.detail && ` · ${job.detail}`,
      ),
      h("progress", { max: job.of || null, value: job.of ? job.done : null, "aria-label": "Progress" }),
      stop(job),
    ];
  }
  if (job.state === "failed") return [h("p.warn", null, job.detail || "It failed.")];
  if (job.state === "cancelled")
    return [
      h("p", null, job.of ? `Stopped at ${unit.toLowerCase()} ${job.done} of ${job.of}.` : "Stopped."),
    ];
  return [];
}
