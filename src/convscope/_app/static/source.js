/**
 * Where all data comes from: the live server, or the page itself (an export, read from a disk,
 * where nothing can be fetched). The rest of the app does not know which.
 */

/** An answer that says what is wrong, in words for people. */
export class Problem extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * @typedef {object} Source
 * @property {boolean} live
 * @property {(path: string) => Promise<any>} fetchJson
 * @property {(path: string) => Promise<ArrayBuffer>} fetchBytes
 * @property {(path: string) => Promise<string>} imageUrl
 */

/** @param {Response} answer */
async function problem(answer) {
  let detail = "";
  try {
    detail = (await answer.json()).detail;
  } catch {
    // not one of our own answers: a proxy, say
  }
  return new Problem(answer.status, detail || `The server answered ${answer.status}.`);
}

/** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
async function ask(path, init) {
  let answer;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (/** @type {any} */ (error)?.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer. Is `convscope serve` still running?");
  }
  if (answer.status === 503) {
    await new Promise((resume) => setTimeout(resume, 400));
    return ask(path, init);
  }
  if (!answer.ok) throw await problem(answer);
  return answer;
}

/** @type {Source} */
const server = {
  live: true,
  fetchJson: async (path) => (await ask(path)).json(),
  fetchBytes: async (path) => (await ask(path)).arrayBuffer(),
  imageUrl: async (path) => path,
};

/** @param {string} text base64 */
const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** @param {Element} index @returns {Source} */
function bundle(index) {
  const { entries } = JSON.parse(index.textContent ?? "{}");
  /** @param {string} path */
  const entry = (path) => {
    const found = entries[path];
    if (!found) throw new Problem(404, "Not in this page: it needs the live model (convscope serve).");
    return found;
  };
  /** @param {{n: number}} found */
  const text = (found) => document.getElementById(`convscope-${found.n}`)?.textContent?.trim() ?? "";
  /** @param {string} path */
  const answer = async (path) => {
    const found = entry(path);
    const bytes = unpack(text(found));
    if (!found.gzip) return new Response(bytes);
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain);
  };
  return {
    live: false,
    fetchJson: async (path) => (await answer(path)).json(),
    fetchBytes: async (path) => (await answer(path)).arrayBuffer(),
    imageUrl: async (path) => {
      const found = entry(path);
      if (!found.gzip) return `data:${found.type};base64,${text(found)}`;
      return URL.createObjectURL(await (await answer(path)).blob());
    },
  };
}

const index = document.getElementById("convscope-index");
/** @type {Source} */
export const source = index ? bundle(index) : server;

/** @param {string} path @param {BodyInit | null} [body] @param {string} [method] */
export async function send(path, body = null, method = "POST") {
  if (!source.live) throw new Problem(404, "Not in this page: it needs the live model (convscope serve).");
  const headers = typeof body === "string" ? { "Content-Type": "application/json" } : undefined;
  return (await ask(path, { method, body, headers })).json();
}
