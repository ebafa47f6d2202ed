/** The bar at the top, and keyboard shortcuts. */

import { CMAPS } from "convscope/colors";
import { fill, h, announce } from "convscope/dom";
import { download, saveDialog } from "convscope/download";
import { dialog } from "convscope/upload";
import { input, session } from "convscope/api";
import {
  go,
  embedded,
  store,
  stored,
  link,
  onchange,
  ontheme,
  theme,
  toggleTheme,
  view,
} from "convscope/state";

const SHORTCUTS = [
  [["↑", "↓", "←", "→"], "Move through channels, or over a map (with Shift, five at a time)"],
  [["Enter"], "Open the channel; on a map, pin the position"],
  [["Esc"], "Back: position, channel, layer"],
  [["[", "]"], "Previous or next layer"],
  [["<", ">"], "Previous or next channel"],
  [[",", "."], "Previous or next image"],
  [["l"], "Go to the list of layers"],
  [["g"], "Go to the maps"],
  [["/"], "Find channels (or a layer)"],
  [["s"], "Next sort order"],
  [["x"], "Only inactive and constant channels"],
  [["n"], "Range: channel, layer, fixed"],
  [["m"], "Next color map"],
  [["o"], "Show or hide the map over the image"],
  [["v"], "Preprocessed input or original image"],
  [["u"], "Choose an image"],
  [["b"], "Compare"],
  [["w"], "Attribution of the prediction"],
  [["h"], "Channel health"],
  [["p"], "Save this view as PNG"],
  [["P"], "… as SVG"],
  [["d"], "… as arrays (NPZ)"],
  [["y"], "Copy the link to this view"],
  [["t"], "Light or dark theme"],
  [["?"], "List of shortcuts"],
];

const LOGO = () =>
  h(
    "svg",
    { viewBox: "0 0 16 16", "aria-hidden": "true" },
    h("rect", { width: 16, height: 16, rx: 4, fill: "var(--mark)" }),
    h("circle", { cx: 7, cy: 7, r: 3.4, fill: "none", stroke: "var(--paper)", "stroke-width": 1.6 }),
    h("path", {
      d: "m9.6 9.6 3 3",
      stroke: "var(--paper)",
      "stroke-width": 1.6,
      "stroke-linecap": "round",
    }),
  );

/** The screen on show. @type {() => any} */
let currentScreen = () => ({});

/** @param {() => any} get returns the screen on show */
export function setScreenGetter(get) {
  currentScreen = get;
}

export function bar() {
  const model = session.model;
  const place = /** @type {HTMLElement} */ (document.getElementById("bar"));
  const home = () => link({ screen: "home", layer: null, channel: null, position: null });
  const theming = h(
    "button.button.bare.icon",
    { type: "button", id: "theme", title: "Light or dark theme", onclick: toggleTheme },
    "◐",
  );
  const name = () => {
    theming.setAttribute("aria-label", `Switch to the ${theme() === "dark" ? "light" : "dark"} theme`);
  };
  name();
  ontheme(name);
  const about = [
    model?.title || model?.name,
    model?.atlas && `atlas of ${model.atlas.dataset}`,
    model?.exported && "export",
  ]
    .filter(Boolean)
    .join(" · ");
  const to = {
    home: h("a.button.bare", { href: home() }, "Layers"),
    compare: h(
      "a.button.bare",
      { href: link({ screen: "compare", channel: null, position: null }) },
      "Compare",
    ),
    health: h(
      "a.button.bare",
      { href: link({ screen: "health", layer: null, channel: null, position: null }) },
      "Health",
    ),
  };
  const mark = () => {
    to.home.setAttribute("href", home());
    to.compare.setAttribute("href", link({ screen: "compare", channel: null, position: null }));
    to.health.setAttribute("href", link({ screen: "health", layer: null, channel: null, position: null }));
    const on = view.screen === "compare" || view.screen === "health" ? view.screen : "home";
    for (const [screen, item] of Object.entries(to))
      screen === on ? item.setAttribute("aria-current", "page") : item.removeAttribute("aria-current");
  };
  mark();
  onchange(mark);
  fill(
    place,
    h(
      "button.button.bare.icon",
      { type: "button", id: "menu", "aria-label": "Layers", onclick: menu },
      "☰",
    ),
    h("a.brand", { href: home(), "aria-label": "convscope" }, LOGO(), h("span", null, "convscope")),
    about && h("span.about", { title: about }, about),
    h("nav", { "aria-label": "Screens" }, Object.values(to)),
    h(
      "button.button.bare",
      { type: "button", id: "save", onclick: () => saveDialog(currentScreen) },
      "Save",
    ),
    theming,
    h(
      "button.button.bare.icon",
      { type: "button", "aria-label": "Keyboard shortcuts", onclick: help },
      "?",
    ),
  );
}

function menu(/** @type {Event} */ event) {
  event.stopPropagation();
  document.body.classList.toggle("menu");
  const close = (/** @type {Event} */ e) => {
    if (/** @type {HTMLElement} */ (e.target).closest?.("#tree")) return;
    document.body.classList.remove("menu");
    document.removeEventListener("click", close);
  };
  document.addEventListener("click", close);
}

export function help() {
  const off = stored("keys") === "off";
  dialog("Keyboard shortcuts", [
    h(
      "dl.keys",
      { style: { "margin-top": "1rem" } },
      SHORTCUTS.map(([keys, what]) => [
        h(
          "dt",
          null,
          /** @type {string[]} */ (keys).map((key) => [h("kbd", null, key), " "]),
        ),
        h("dd", null, what),
      ]),
    ),
    h(
      "label.control",
      { style: { "margin-top": "1.2rem" } },
      h("input", {
        type: "checkbox",
        checked: !off,
        onchange: (/** @type {any} */ e) => store("keys", e.target.checked ? "on" : "off"),
      }),
      "Use single letters as shortcuts",
    ),
    h(
      "p.small.soft",
      { style: { "margin-top": ".8rem" } },
      `convscope ${session.model?.version ?? ""}. The address of this page stores the view: ` +
        "copy it to share the view.",
    ),
  ]);
}

/** @param {any[]} list @param {any} now @param {number} step */
const cycle = (list, now, step) => list[(list.indexOf(now) + step + list.length) % list.length];

/** @param {number} step */
function otherLayer(step) {
  const open = session.layers.filter((layer) => layer.has_maps || layer.in_atlas);
  const at = open.findIndex((layer) => layer.path === view.layer);
  const next =
    at < 0 ? open[step > 0 ? 0 : open.length - 1] : open[Math.max(0, Math.min(open.length - 1, at + step))];
  if (next)
    go({
      screen: view.screen === "compare" ? "compare" : "layer",
      layer: next.path,
      channel: null,
      position: null,
    });
}

/** @param {number} step */
function otherInput(step) {
  const next = cycle(session.inputs, input(view.input), step);
  if (next) go({ input: next.id });
}

/** @param {number} step */
function otherChannel(step) {
  const count = session.byPath.get(view.layer ?? "")?.shape?.[0] ?? 0;
  const next = (view.channel ?? -1) + step;
  if (view.screen === "channel" && next >= 0 && next < count) go({ channel: next, position: null });
}

function back() {
  if (document.body.classList.contains("menu")) document.body.classList.remove("menu");
  else if (view.position) go({ position: null }, true);
  else if (view.screen === "channel") go({ screen: "layer", channel: null });
  else if (view.screen !== "home") go({ screen: "home", layer: null });
}

/** @type {Record<string, () => void>} */
const KEYS = {
  "?": help,
  "[": () => otherLayer(-1),
  "]": () => otherLayer(1),
  ",": () => otherInput(-1),
  ".": () => otherInput(1),
  "<": () => otherChannel(-1),
  ">": () => otherChannel(1),
  "/": () =>
    (
      document.getElementById("find") ??
      /** @type {HTMLElement | null} */ (document.querySelector("#tree input"))
    )?.focus(),
  s: () => {
    const names = [...document.querySelectorAll("#sort option")].map((o) => /** @type {any} */ (o).value);
    if (names.length) {
      go({ sort: cycle(names, view.sort, 1) }, true);
      announce(`Order: ${view.sort}`);
    }
  },
  x: () => go({ inactive: !view.inactive }, true),
  n: () => {
    const range = cycle(["channel", "layer", "fixed"], view.range, 1);
    go({ range }, true);
    announce(`Range: ${range}`);
  },
  m: () => {
    const cmap = cycle(CMAPS, view.cmap, 1);
    go({ cmap }, true);
    announce(`Colors: ${cmap}`);
  },
  v: () => go({ stage: view.stage === "original" ? "preprocessed" : "original" }, true),
  u: () => document.getElementById("choose")?.click(),
  b: () => {
    const other = cycle(session.inputs, input(view.input), 1);
    go({
      screen: "compare",
      other: view.other || (other?.id !== view.input ? other?.id : "") || "",
      channel: null,
      position: null,
    });
  },
  h: () => go({ screen: "health", channel: null, position: null }),
  w: () => go({ screen: "home", tab: "attribution", layer: null, channel: null, position: null }),
  p: () => void download(currentScreen(), "png"),
  P: () => void download(currentScreen(), "svg"),
  d: () => void download(currentScreen(), "npz"),
  y: () =>
    embedded
      ? announce("This page is embedded in another and has no address.")
      : void navigator.clipboard?.writeText(location.href).then(
          () => announce("Link copied."),
          () => announce("Copy the link from the address bar."),
        ),
  t: toggleTheme,
  l: () =>
    /** @type {HTMLElement | null} */ (
      document.querySelector("#tree a[aria-current]") ?? document.querySelector("#tree a")
    )?.focus(),
  g: () => currentScreen().focus?.(),
};

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (target.closest("input:not([type=checkbox]):not([type=range]), select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (target.closest("#tree") && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      const links = [...document.querySelectorAll("#tree li:not([hidden]) a")];
      const next = /** @type {HTMLElement | undefined} */ (
        links[
          links.indexOf(/** @type {any} */ (target.closest("a"))) + (event.key === "ArrowDown" ? 1 : -1)
        ]
      );
      event.preventDefault();
      return next?.focus();
    }
    if (event.key === "Escape") return back();
    if (event.key.length === 1 && stored("keys") === "off" && event.key !== "?") return;
    if (currentScreen().key?.(event.key)) return;
    const action = KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
