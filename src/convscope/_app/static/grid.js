/**
 * A grid of cells over one canvas, for pointer, keyboard and screen readers. Only rows near the
 * window are mounted.
 */

import { h } from "convscope/dom";

/**
 * @typedef {object} Cells
 * @property {string} name label for screen readers
 * @property {number} count
 * @property {import("convscope/maps").Layout} layout
 * @property {number} cellHeight of what is drawn, in canvas pixels
 * @property {number} cellWidth
 * @property {(k: number) => {href: string, text: string, label: any, flat?: boolean}} cell
 * @property {(k: number, y: number, x: number) => void} [hover] position in the cell, 0 … 1
 * @property {() => void} [leave]
 */

/**
 * @param {HTMLCanvasElement | null} canvas @param {Cells} cells
 * @returns {{element: HTMLElement, focus: (k?: number) => void, close: () => void}}
 */
export function grid(canvas, cells) {
  const { layout, count } = cells;
  const scale = layout.scale;
  const element = h("div.grid", {
    role: "grid",
    "aria-label": cells.name,
    "aria-rowcount": layout.rows,
    "aria-colcount": layout.columns,
    style: { height: `${layout.height * scale}px` },
  });
  if (canvas) {
    canvas.style.width = `${layout.width * scale}px`;
    canvas.style.height = `${layout.height * scale}px`;
    canvas.setAttribute("role", "presentation");
    element.append(canvas);
  }
  let active = 0;
  /** @type {Map<number, HTMLElement>} */
  const mounted = new Map();

  /** @param {number} row */
  function build(row) {
    const first = row * layout.columns;
    const children = [];
    for (let k = first; k < Math.min(count, first + layout.columns); k++) {
      const { href, text, label, flat } = cells.cell(k);
      const left = (k - first) * layout.across * scale;
      const link = h(
        `a.cell${flat ? ".flat" : ""}`,
        {
          href,
          "aria-label": text,
          title: text,
          "data-k": k,
          tabindex: k === active ? 0 : -1,
          style: {
            left: `${left}px`,
            top: `${row * layout.down * scale}px`,
            width: `${cells.cellWidth * scale}px`,
          },
        },
        h("span.frame", { style: { height: `${cells.cellHeight * scale}px` } }),
        h("span.label", null, label),
      );
      children.push(h("div", { role: "gridcell", "aria-colindex": k - first + 1 }, link));
    }
    return h("div", { role: "row", "aria-rowindex": row + 1 }, children);
  }

  function mount() {
    if (!element.isConnected) return;
    const top = element.getBoundingClientRect().top;
    const pitch = Math.max(1, layout.down * scale);
    const from = Math.max(0, Math.floor((-top - 400) / pitch));
    const to = Math.min(layout.rows - 1, Math.ceil((innerHeight - top + 400) / pitch));
    const own = Math.floor(active / layout.columns);
    for (const [row, node] of mounted) {
      if ((row < from || row > to) && row !== own) {
        node.remove();
        mounted.delete(row);
      }
    }
    const wanted = [own];
    for (let row = from; row <= to; row++) wanted.push(row);
    for (const row of wanted) {
      if (mounted.has(row) || row >= layout.rows) continue;
      const node = build(row);
      mounted.set(row, node);
      const next = [...mounted.keys()].filter((r) => r > row).sort((a, b) => a - b)[0];
      element.insertBefore(node, next === undefined ? null : (mounted.get(next) ?? null));
    }
  }

  /** @param {number} k */
  function focus(k = active) {
    const next = Math.max(0, Math.min(count - 1, k));
    element.querySelector(`[data-k="${active}"]`)?.setAttribute("tabindex", "-1");
    active = next;
    mount();
    const link = /** @type {HTMLElement | null} */ (element.querySelector(`[data-k="${next}"]`));
    link?.setAttribute("tabindex", "0");
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block: "nearest" });
  }

  element.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const at = Number(
      /** @type {HTMLElement} */ (event.target).closest("[data-k]")?.getAttribute("data-k") ?? -1,
    );
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = layout.columns * Math.max(1, Math.floor(innerHeight / (layout.down * scale)) - 1);
    const next = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: at + layout.columns,
      ArrowUp: at - layout.columns,
      PageDown: Math.min(count - 1, at + page),
      PageUp: Math.max(0, at - page),
      Home: 0,
      End: count - 1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (next >= 0 && next < count) focus(next);
  });
  element.addEventListener("focusin", (/** @type {FocusEvent} */ event) => {
    const k = /** @type {HTMLElement} */ (event.target).closest("[data-k]")?.getAttribute("data-k");
    if (k) active = Number(k);
  });
  if (cells.hover) {
    element.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      const link = /** @type {HTMLElement | null} */ (
        /** @type {HTMLElement} */ (event.target).closest("[data-k]")
      );
      if (!link) return;
      const box = link.getBoundingClientRect();
      const y = (event.clientY - box.top) / (cells.cellHeight * scale);
      const x = (event.clientX - box.left) / (cells.cellWidth * scale);
      if (y < 1 && x < 1) cells.hover?.(Number(link.dataset.k), Math.max(0, y), Math.max(0, x));
    });
    element.addEventListener("pointerleave", () => cells.leave?.());
  }
  let waiting = 0;
  const later = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(mount);
  };
  document.addEventListener("scroll", later, { capture: true, passive: true });
  addEventListener("resize", later);
  later();
  return {
    element,
    focus,
    close() {
      document.removeEventListener("scroll", later, { capture: true });
      removeEventListener("resize", later);
    },
  };
}
