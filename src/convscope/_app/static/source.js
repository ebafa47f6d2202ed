/**
 * Where data comes from: the live server, or the page itself (an export, opened from disk, where
 * nothing can be fetched). The rest of the app need not know which.
 */

/** An error response, with a message for people. */
export class RequestError extends Error {
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

/** @param {Response} response */
async function requestError(response) {
  let detail = "";
  try {
    detail = (await response.json()).detail;
  } catch {
    // not a response of ours: of a proxy, say
  }
  return new RequestError(response.status, detail || `The server returned status ${response.status}.`);
}

/** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
async function request(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (/** @type {any} */ (error)?.name === "AbortError") throw error;
    throw new RequestError(0, "The server does not respond. Is `convscope serve` still running?");
  }
  if (response.status === 503) {
    await new Promise((resume) => setTimeout(resume, 400));
    return request(path, init);
  }
  if (!response.ok) throw await requestError(response);
  return response;
}

/** @type {Source} */
const server = {
  live: true,
  fetchJson: async (path) => (await request(path)).json(),
  fetchBytes: async (path) => (await request(path)).arrayBuffer(),
  imageUrl: async (path) => path,
};

/** @param {string} text base64 */
const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** @param {Element} index @returns {Source} */
function embeddedData(index) {
  const { entries } = JSON.parse(index.textContent ?? "{}");
  /** @param {string} path */
  const entry = (path) => {
    const found = entries[path];
    if (!found)
      throw new RequestError(
        404,
        "Not included in this page: it needs the running model (convscope serve).",
      );
    return found;
  };
  /** @param {{block: number}} found */
  const text = (found) => document.getElementById(`convscope-${found.block}`)?.textContent?.trim() ?? "";
  /** @param {string} path */
  const response = async (path) => {
    const found = entry(path);
    const bytes = unpack(text(found));
    if (!found.gzip) return new Response(bytes);
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain);
  };
  return {
    live: false,
    fetchJson: async (path) => (await response(path)).json(),
    fetchBytes: async (path) => (await response(path)).arrayBuffer(),
    imageUrl: async (path) => {
      const found = entry(path);
      if (!found.gzip) return `data:${found.type};base64,${text(found)}`;
      return URL.createObjectURL(await (await response(path)).blob());
    },
  };
}

const index = document.getElementById("convscope-index");
/** @type {Source} */
export const source = index ? embeddedData(index) : server;

/** @param {string} path @param {BodyInit | null} [body] @param {string} [method] */
export async function send(path, body = null, method = "POST") {
  if (!source.live)
    throw new RequestError(404, "Not included in this page: it needs the running model (convscope serve).");
  const headers = typeof body === "string" ? { "Content-Type": "application/json" } : undefined;
  return (await request(path, { method, body, headers })).json();
}
