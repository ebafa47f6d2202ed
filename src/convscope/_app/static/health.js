/** Channel health: findings on the channels of the atlas, with links to the units. */

import { fill, h, notice, number, plural } from "convscope/dom";
import { json, session } from "convscope/api";
import { link } from "convscope/state";
import { scanPanel } from "convscope/scan";

/** @param {string} address */
function unit(address) {
  const at = address.lastIndexOf(":");
  return h(
    "a.unit",
    {
      href: link({
        screen: "channel",
        layer: address.slice(0, at),
        channel: Number(address.slice(at + 1)),
        position: null,
      }),
    },
    address,
  );
}

/** @param {HTMLElement} parent */
export async function health(parent) {
  parent.append(h("h1", null, "Channel health"));
  if (!session.model.atlas || session.model.features?.health === false) {
    if (session.model.dataset && session.model.features?.jobs) {
      parent.append(
        notice("Channel health needs an atlas.", "There is none yet. Scan the dataset to make one."),
      );
      return { close: scanPanel(parent) };
    }
    parent.append(
      notice("Channel health needs an atlas.", [
        "Scan a dataset, then open the app on it: ",
        h("br"),
        h("code", null, "convscope scan photos/ -o atlas"),
        h("br"),
        h("code", null, "convscope serve atlas"),
        h("br"),
        "or scan it from the app: ",
        h("code", null, "convscope serve --data photos/"),
      ]),
    );
    return {};
  }
  const found = await json("api/atlas/health");
  const { atlas } = session.model;
  parent.append(
    h(
      "p.facts",
      null,
      h(
        "span",
        null,
        `${plural(found.channels, "channel")} on ${plural(found.images, "image")} from ${atlas.dataset}`,
      ),
      h("span", null, atlas.model),
    ),
  );
  const kinds = Object.keys(found.titles).filter(
    (kind) => found.findings.some((/** @type {any} */ f) => f.kind === kind) || found.counts[kind],
  );
  if (!found.findings.length) {
    parent.append(
      notice("There are no findings.", "No channel is dead, saturated or a duplicate on this dataset."),
    );
    return {};
  }
  let chosen = "";
  const filters = h("div.filters", { role: "group", "aria-label": "Kinds of findings" });
  const list = h("div");
  parent.append(filters, list);
  function draw() {
    fill(
      filters,
      h(
        "button.button",
        {
          type: "button",
          "aria-pressed": String(!chosen),
          onclick: () => {
            chosen = "";
            draw();
          },
        },
        "All",
      ),
      kinds.map((kind) =>
        h(
          "button.button",
          {
            type: "button",
            "aria-pressed": String(chosen === kind),
            onclick: () => {
              chosen = kind;
              draw();
            },
          },
          found.titles[kind],
          h("b", null, found.counts[kind]),
        ),
      ),
    );
    fill(
      list,
      found.findings
        .filter((/** @type {any} */ f) => !chosen || f.kind === chosen)
        .slice(0, 120)
        .map((/** @type {any} */ f) =>
          h(
            "article.finding",
            null,
            h(
              "h2",
              null,
              found.titles[f.kind] ?? f.kind,
              f.layer && h("span.soft.small", null, "  "),
              f.layer &&
                h(
                  "a.small",
                  {
                    href: link({
                      screen: "layer",
                      layer: f.layer,
                      channel: null,
                      position: null,
                      tab: "maps",
                    }),
                    style: { "font-weight": 400 },
                  },
                  f.layer,
                ),
            ),
            h("p", null, f.sentence),
            f.advice && h("p.soft", null, f.advice),
            f.measure &&
              f.value !== null &&
              f.value !== undefined &&
              h("p.small.soft", null, `${f.measure}: ${number(f.value)}`),
            f.units?.length > 0 &&
              h(
                "ul.units",
                null,
                f.units.slice(0, 24).map((/** @type {string} */ address) => h("li", null, unit(address))),
                f.units.length > 24 && h("li.small.soft", null, `and ${f.units.length - 24} more`),
              ),
          ),
        ),
      found.not_assessed?.length > 0 &&
        h(
          "p.small.soft",
          { style: { "margin-top": "1.5rem" } },
          `Not assessed: ${found.not_assessed.join("; ")}`,
        ),
    );
  }
  draw();
  return {};
}
