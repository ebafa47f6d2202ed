/** The app: opens the session, and shows the screen that the address names. */

import { compare } from "convscope/compare";
import { point } from "convscope/cursor";
import { fill, h, notice } from "convscope/dom";
import { channel } from "convscope/channel";
import { health } from "convscope/health";
import { home } from "convscope/home";
import { takePictures } from "convscope/inputs";
import { bar, listenToKeys } from "convscope/keys";
import { layer } from "convscope/layer";
import { addInput, input, json, session, setLayers, side } from "convscope/model";
import { send, source } from "convscope/source";
import { specimen } from "convscope/specimen";
import { go, kept, onchange, ontheme, view } from "convscope/state";
import { tree } from "convscope/tree";

/**
 * A screen on show. `update` redraws where only the coloring, order or position changed, and says
 * whether it could; `close` lets go of listeners; `picture` is what a download holds.
 * @typedef {object} Shown
 * @property {(view: any, before: any) => boolean} [update]
 * @property {() => void} [close]
 * @property {() => HTMLCanvasElement | null} [picture]
 * @property {() => {x: number, y: number, room: number, text: string}[]} [labels] names on it
 * @property {(key: string) => boolean} [key]
 * @property {() => void} [focus]
 */

const SCREENS = { home, layer, channel, compare, health };
const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** @type {Shown} */
let shown = {};
let turn = 0;

export const current = () => shown;

/** @param {unknown} error @param {Element} place */
export function fail(error, place) {
  const detail = error instanceof Error ? error.message : String(error);
  const box = notice(
    "This cannot be shown.",
    detail,
    h("button.button", { type: "button", onclick: () => show(true) }, "Try again"),
  );
  box.classList.add("error");
  fill(place, h("h1", null, "Not here"), box);
}

/** Show the screen of the address anew. */
async function show(fresh = false) {
  const own = ++turn;
  shown.close?.();
  shown = {};
  point(null);
  if (fresh) main.scrollTop = 0;
  const focused = main.contains(document.activeElement) ? document.activeElement?.id : "";
  title();
  let slow = 0;
  try {
    // a screen draws into a room of its own, so that a slow one cannot draw over the next
    const room = h("div");
    slow = window.setTimeout(() => own === turn && fill(main, h("p.busy", null, "Looking …")), 120);
    const made = await SCREENS[view.screen](room);
    window.clearTimeout(slow);
    if (own !== turn) return made.close?.();
    shown = made;
    fill(main, room);
    shown.update?.(view, null);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  } catch (error) {
    window.clearTimeout(slow);
    if (own === turn) fail(error, main);
  }
  document.documentElement.dataset.ready = String(own);
}

function title() {
  const what =
    view.screen === "home"
      ? ""
      : view.screen === "layer"
        ? view.layer
        : view.screen === "channel"
          ? `${view.layer}:${view.channel}`
          : view.screen;
  document.title = [what, session.model?.title, "convscope"].filter(Boolean).join(" · ");
}

/** @param {any} now @param {any} before */
function changed(now, before) {
  const same = ["screen", "layer", "channel", "input", "other", "tab", "with", "to"].every(
    (k) => now[k] === before[k],
  );
  title();
  if (same && shown.update?.(now, before)) return;
  void show(["screen", "layer", "channel", "tab"].some((k) => now[k] !== before[k]));
}

/** Wait until the model can be asked. */
async function opened() {
  for (;;) {
    const model = await source.fetchJson("api/model");
    if (model.state !== "loading") return model;
    fill(main, h("p.busy", null, `Loading ${model.title || model.name || "the model"} …`));
    session.model ??= model;
    bar();
    await new Promise((resume) => setTimeout(resume, 300));
  }
}

/** The pictures of this session; the first demo picture where there is none yet. */
async function pictures() {
  if (!session.model.input && !session.model.exported) return;
  const answer = await json("api/inputs");
  session.inputs = answer.inputs;
  session.demos = answer.demos ?? [];
  if (!session.inputs.length && session.model.can.upload && session.demos.length) {
    addInput(await send(`api/inputs?demo=${encodeURIComponent(session.demos[0])}${side()}`));
  }
  const first = session.inputs[0]?.id ?? "";
  const change = /** @type {any} */ ({});
  if (!input(view.input)) change.input = first;
  if (view.other && !input(view.other)) change.other = "";
  if (change.input || change.other === "") go(change, true);
}

async function start() {
  const theme = kept("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  bar();
  try {
    session.model = await opened();
    if (session.model.state === "failed") throw new Error(session.model.detail);
    setLayers(await source.fetchJson("api/layers"));
    await pictures();
  } catch (error) {
    fail(error, main);
    bar();
    return;
  }
  bar();
  tree();
  specimen();
  takePictures();
  listenToKeys();
  onchange(changed);
  ontheme(() => shown.update?.(view, null));
  document.getElementById("skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  await show(true);
}

void start();
