/** The position under the pointer: its receptive field is drawn on the input image. */

/**
 * @typedef {object} Cursor
 * @property {number} layer its index @property {number} y @property {number} x
 */

/** @type {Set<(cursor: Cursor | null) => void>} */
const listeners = new Set();

/** @param {(cursor: Cursor | null) => void} listener */
export function onpoint(listener) {
  listeners.add(listener);
}

/** @param {Cursor | null} cursor */
export function point(cursor) {
  for (const listener of listeners) listener(cursor);
}
