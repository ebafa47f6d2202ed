/** Adding input images: drop, paste, file, camera, demo images, images of the atlas; dialogs. */

import { fill, h, notice, announce } from "convscope/dom";
import { addInput, json, session, sizeQuery } from "convscope/api";
import { send, source } from "convscope/source";
import { go, link, view } from "convscope/state";

/** @param {string} query @param {Blob | null} [body] */
async function addImage(query, body = null) {
  announce("Loading the image …");
  try {
    const one = await send(`api/inputs?${query}${sizeQuery()}`, body);
    addInput(one);
    announce(`${one.name} is the input image.`);
    go({ input: one.id, screen: view.screen === "health" ? "home" : view.screen });
  } catch (error) {
    announce(/** @type {Error} */ (error).message);
  }
}

/** @param {File | Blob | null | undefined} file @param {string} [name] */
function addFile(file, name) {
  if (!file) return;
  if (!session.model?.features?.upload)
    return announce("This page is an export: other images need the running app, convscope serve.");
  if (file.type && !file.type.startsWith("image/"))
    return announce(`${name ?? "This file"} is not an image. Choose a PNG, JPEG or WebP file.`);
  void addImage(
    `name=${encodeURIComponent(name ?? /** @type {File} */ (file).name ?? "pasted.png")}`,
    file,
  );
}

export function listenForImages() {
  let depth = 0;
  const highlight = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth++;
    highlight(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) highlight(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    highlight(false);
    addFile(event.dataTransfer?.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) addFile(file, file.name || "pasted.png");
  });
}

/** Ways to add an image. */
export function uploadBox() {
  if (!session.model.features?.upload) {
    return h(
      "p.small.soft.add",
      null,
      session.model.exported
        ? "This page is an export with these images only. For your own images: convscope serve."
        : "",
    );
  }
  const file = h("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    id: "file",
    onchange: (/** @type {any} */ e) => {
      addFile(e.target.files[0]);
      e.target.value = "";
    },
  });
  return h(
    "div.drop.add",
    null,
    h("span.hint", null, "Drop or paste an image anywhere, or"),
    h(
      "div.row",
      null,
      h("button.button", { type: "button", id: "choose", onclick: () => file.click() }, "Choose a file"),
      navigator.mediaDevices && h("button.button", { type: "button", onclick: camera }, "Camera"),
      session.model.atlas && h("button.button", { type: "button", onclick: fromAtlas }, "From the dataset"),
    ),
    file,
  );
}

/** The images to choose from: those of this session, then the demo images. */
export async function imageStrip() {
  const own = await Promise.all(
    session.inputs.map(async (one) => {
      const src = await source.imageUrl(`api/inputs/${one.id}/image?stage=preprocessed`).catch(() => "");
      return h(
        "a",
        {
          href: link({ input: one.id }),
          title: one.name,
          "aria-label": one.name,
          "aria-current": one.id === view.input ? "true" : null,
        },
        src && h("img", { src, alt: "" }),
      );
    }),
  );
  const names = new Set(session.inputs.map((one) => one.name.replace(/\..*$/, "")));
  const demos = session.model.features?.upload ? session.demos.filter((name) => !names.has(name)) : [];
  if (!own.length && !demos.length) return null;
  return h(
    "div.strip",
    null,
    own.length > 0 && [
      h("h3", { style: { "margin-bottom": ".4rem" } }, "Images"),
      h("div.thumbs", null, own),
    ],
    demos.length > 0 &&
      h(
        "div.row",
        { style: { "margin-top": own.length ? ".6rem" : 0, gap: ".35rem" } },
        h("span.small.soft", null, "Demo"),
        demos.map((name) =>
          h(
            "button.unit",
            { type: "button", onclick: () => addImage(`demo=${encodeURIComponent(name)}`) },
            name,
          ),
        ),
      ),
  );
}

/** @param {string} heading @param {any} content */
export function dialog(heading, content) {
  const box = h(
    "dialog",
    { "aria-label": heading },
    h(
      "div.row.between",
      null,
      h("h2", { style: { margin: 0 } }, heading),
      h("button.button.bare", { type: "button", onclick: () => box.close() }, "Close"),
    ),
    content,
  );
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (/** @type {Event} */ event) => event.target === box && box.close());
  document.body.append(box);
  box.showModal();
  return box;
}

async function camera() {
  const video = h("video", { autoplay: true, muted: true, playsinline: true });
  const place = h("div", { style: { "margin-top": "1rem" } }, video);
  const box = dialog("Camera", place);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    box.addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()));
    video.srcObject = stream;
    place.append(
      h(
        "button.button.primary",
        {
          type: "button",
          style: { "margin-top": ".75rem" },
          onclick: () => {
            const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
            canvas.getContext("2d").drawImage(video, 0, 0);
            canvas.toBlob((/** @type {Blob} */ blob) => addFile(blob, "camera.png"), "image/png");
            box.close();
          },
        },
        "Take a photo",
      ),
    );
  } catch {
    fill(
      place,
      notice(
        "No camera is available.",
        "Allow it in the browser's settings for this page, or choose a file instead.",
      ),
    );
  }
}

async function fromAtlas() {
  const place = h("div", { style: { "margin-top": "1rem" } }, h("p.busy", null, "Loading …"));
  const box = dialog("From the dataset", place);
  try {
    const found = await json("api/atlas/images?start=0&count=48");
    if (!found.images.length) throw new Error("The atlas has no thumbnails.");
    fill(
      place,
      h(
        "div.thumbs",
        null,
        await Promise.all(
          found.images.map(async (/** @type {any} */ one) =>
            h(
              "button",
              {
                type: "button",
                title: one.label ? `${one.id} (${one.label})` : one.id,
                "aria-label": one.id,
                onclick: () => {
                  box.close();
                  void addImage(`atlas=${one.index}`);
                },
              },
              h("img", { alt: "", src: await source.imageUrl(`api/atlas/images/${one.index}`) }),
            ),
          ),
        ),
      ),
    );
  } catch (error) {
    fill(place, notice("There are no images to choose from.", /** @type {Error} */ (error).message));
  }
}
