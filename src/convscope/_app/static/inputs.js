/** Bringing pictures in: drop, paste, choose, camera, the demo pictures, the atlas's. */

import { fill, h, notice, say } from "convscope/dom";
import { addInput, json, session, side } from "convscope/model";
import { send, source } from "convscope/source";
import { go, link, view } from "convscope/state";

/** @param {string} query @param {Blob | null} [body] */
async function bring(query, body = null) {
  say("Looking at the picture …");
  try {
    const one = await send(`api/inputs?${query}${side()}`, body);
    addInput(one);
    say(`${one.name} is under the microscope.`);
    go({ input: one.id, screen: view.screen === "health" ? "home" : view.screen });
  } catch (error) {
    say(/** @type {Error} */ (error).message);
  }
}

/** @param {File | Blob | null | undefined} file @param {string} [name] */
function take(file, name) {
  if (!file) return;
  if (!session.model?.can?.upload)
    return say("This page is an export: new pictures need the live app, convscope serve.");
  if (file.type && !file.type.startsWith("image/"))
    return say(`${name ?? "That"} is no picture. Give a PNG, JPEG or WebP file.`);
  void bring(`name=${encodeURIComponent(name ?? /** @type {File} */ (file).name ?? "pasted.png")}`, file);
}

export function takePictures() {
  let depth = 0;
  const over = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth++;
    over(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) over(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    take(event.dataTransfer?.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) take(file, file.name || "pasted.png");
  });
}

/** Where pictures come in, in words. */
export function addBox() {
  if (!session.model.can?.upload) {
    return h(
      "p.small.soft.add",
      null,
      session.model.exported
        ? "This page is an export and holds these pictures only. For pictures of your own: convscope serve."
        : "",
    );
  }
  const file = h("input", {
    type: "file",
    accept: "image/*",
    hidden: true,
    id: "file",
    onchange: (/** @type {any} */ e) => {
      take(e.target.files[0]);
      e.target.value = "";
    },
  });
  return h(
    "div.drop.add",
    null,
    h("span.hint", null, "Drop or paste a picture anywhere, or"),
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

/** The pictures at hand: those of this session, then the demo ones. */
export async function strip() {
  const own = await Promise.all(
    session.inputs.map(async (one) => {
      const src = await source.imageUrl(`api/inputs/${one.id}/image?view=model`).catch(() => "");
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
  const demos = session.model.can?.upload ? session.demos.filter((name) => !names.has(name)) : [];
  if (!own.length && !demos.length) return null;
  return h(
    "div.strip",
    null,
    own.length > 0 && [
      h("h3", { style: { "margin-bottom": ".4rem" } }, "Pictures"),
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
            { type: "button", onclick: () => bring(`demo=${encodeURIComponent(name)}`) },
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
      "div.row.spread",
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
        "button.button.first",
        {
          type: "button",
          style: { "margin-top": ".75rem" },
          onclick: () => {
            const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
            canvas.getContext("2d").drawImage(video, 0, 0);
            canvas.toBlob((/** @type {Blob} */ blob) => take(blob, "camera.png"), "image/png");
            box.close();
          },
        },
        "Take the picture",
      ),
    );
  } catch {
    fill(
      place,
      notice(
        "No camera can be used.",
        "Allow it in the browser's settings for this page, or choose a file instead.",
      ),
    );
  }
}

async function fromAtlas() {
  const place = h("div", { style: { "margin-top": "1rem" } }, h("p.busy", null, "Looking …"));
  const box = dialog("From the dataset", place);
  try {
    const found = await json("api/atlas/images?start=0&count=48");
    if (!found.images.length) throw new Error("The atlas keeps no thumbnails.");
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
                  void bring(`atlas=${one.image}`);
                },
              },
              h("img", { alt: "", src: await source.imageUrl(`api/atlas/images/${one.image}`) }),
            ),
          ),
        ),
      ),
    );
  } catch (error) {
    fill(place, notice("No pictures to choose from.", /** @type {Error} */ (error).message));
  }
}
