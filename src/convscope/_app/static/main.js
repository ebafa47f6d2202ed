/** The app: opens the session, and shows the screen that the address names. */

import { compare } from "convscope/compare";
import { point } from "convscope/cursor";
import { fill, h, notice } from "convscope/dom";
import { channel } from "convscope/channel";
import { health } from "convscope/health";
import { home } from "convscope/home";
import { listenForImages } from "convscope/upload";
import { bar, listenToKeys, setScreenGetter } from "convscope/keys";
import { layer } from "convscope/layer";
import { addInput, input, json, session, setLayers, sizeQuery } from "convscope/api";
import { send, source } from "convscope/source";
import { inputPanel } from "convscope/input";
import { go, stored, onchange, ontheme, view } from "convscope/state";
import { tree } from "convscope/tree";

/**
 * The current screen. `update` redraws where only the coloring, order or position changed, and
 * returns whether it could; `close` removes listeners; `canvas` is what a download holds.
 * @typedef {object} Shown
 * @property {(view: any, before: any) => boolean} [update]
 * @property {() => void} [close]
 * @property {() => HTMLCanvasElement | null} [canvas]
 * @property {() => {x: number, y: number, width: number, text: string}[]} [labels] text on the canvas
 * @property {(key: string) => boolean} [key]
 * @property {() => void} [focus]
 */

const SCREENS = { home, layer, channel, compare, health };
const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** @type {Shown} */
let shown = {};
let turn = 0;

/** @param {unknown} error @param {Element} place */
export function fail(error, place) {
  const detail = error instanceof Error ? error.message : String(error);
  const box = notice(
    "This cannot be shown.",
    detail,
    h("button.button", { type: "button", onclick: () => show(true) }, "Try again"),
  );
  box.classList.add("error");
  fill(place, h("h1", null, "Error"), box);
}

/** Draw the screen of the address again. */
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
    // a screen draws into an element of its own, so that a slow one cannot draw over the next
    const parent = h("div");
    slow = window.setTimeout(() => own === turn && fill(main, h("p.busy", null, "Loading …")), 120);
    const made = await SCREENS[view.screen](parent);
    window.clearTimeout(slow);
    if (own !== turn) return made.close?.();
    shown = made;
    fill(main, parent);
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
  const same = ["screen", "layer", "channel", "input", "other", "tab", "compare", "layerB"].every(
    (k) => now[k] === before[k],
  );
  title();
  if (same && shown.update?.(now, before)) return;
  void show(["screen", "layer", "channel", "tab"].some((k) => now[k] !== before[k]));
}

/** Wait until the model is loaded. */
async function loadedModel() {
  for (;;) {
    const model = await source.fetchJson("api/model");
    if (model.state !== "loading") return model;
    fill(main, h("p.busy", null, `Loading ${model.title || model.name || "the model"} …`));
    session.model ??= model;
    bar();
    await new Promise((resume) => setTimeout(resume, 300));
  }
}

/** Load the list of input images; add the first demo image where there is none yet. */
async function loadInputs() {
  if (!session.model.input && !session.model.exported) return;
  const listing = await json("api/inputs");
  session.inputs = listing.inputs;
  session.demos = listing.demos ?? [];
  if (!session.inputs.length && session.model.features.upload && session.demos.length) {
    addInput(await send(`api/inputs?demo=${encodeURIComponent(session.demos[0])}${sizeQuery()}`));
  }
  const first = session.inputs[0]?.id ?? "";
  const change = /** @type {any} */ ({});
  if (!input(view.input)) change.input = first;
  if (view.other && !input(view.other)) change.other = "";
  if (change.input || change.other === "") go(change, true);
}

async function start() {
  const theme = stored("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  bar();
  try {
    session.model = await loadedModel();
    if (session.model.state === "failed") throw new Error(session.model.error);
    setLayers(await source.fetchJson("api/layers"));
    await loadInputs();
  } catch (error) {
    fail(error, main);
    bar();
    return;
  }
  bar();
  tree();
  inputPanel();
  listenForImages();
  setScreenGetter(() => shown);
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
