/** Colour tables: the same 256 triples as `convscope.figures.colours` (a test compares them). */

const PACKED = {
  viridis:
    "RAFURAJVRANXRQVYRQZaRQhbRglcRgteRgxfRg5hRw9iRxFjRxJlRxRmRxVnRxZpRxhqSBlrSBpsSBxuSB1vSB5wSCBx" +
    "SCFySCJzSCN0RyV1RyZ2Ryd3Ryh4Ryp5Ryt6Ryx7Ri18Ri98RjB9RjF+RTJ/RTR/RTWARTaBRDeBRDmCQzqDQzuDQzyE" +
    "Qj2EQj6FQkCFQUGGQUKGQEOHQESHP0WHP0eIPkiIPkmJPUqJPUuJPUyJPE2KPE6KO1CKO1GKOlKLOlOLOVSLOVWLOFaL" +
    "OFeMN1iMN1mMNlqMNluMNVyMNV2MNF6NNF+NM2CNM2GNMmKNMmONMWSNMWWNMWaNMGeNMGiNL2mNL2qNLmuOLmyOLm2O" +
    "LW6OLW+OLHCOLHGOLHKOK3OOK3SOKnWOKnaOKneOKXiOKXmOKHqOKHqOKHuOJ3yOJ32OJ36OJn+OJoCOJoGOJYKOJYON" +
    "JISNJIWNJIaNI4eNI4iNI4mNIomNIoqNIouNIYyNIY2MIY6MII+MIJCMIJGMH5KMH5OLH5SLH5WLH5aLHpeKHpiKHpmK" +
    "HpmKHpqJHpuJHpyJHp2IHp6IHp+IHqCHH6GHH6KGH6OGIKSFIKWFIaaFIaeEIqeEI6iDI6mCJKqCJauBJqyBJ62AKK5/" +
    "Ka9/KrB+K7F9LLF9LrJ8L7N7MLR6MrV6M7Z5Nbd4Nrh3OLl2Obl2O7p1Pbt0PrxzQL1yQr5xRL5wRb9vR8BuScFtS8Js" +
    "TcJrT8NpUcRoU8VnVcZmV8ZlWcdkW8hiXslhYMlgYspfZMtdZ8xcacxba81Zbc5YcM5Wcs9VdNBUd9BSedFRfNJPftJO" +
    "gdNMg9NLhtRJiNVHi9VGjdZEkNZDktdBldc/l9g+mtg8ndk6n9k4oto3pdo1p9szqtsyrdwwr9wust0std0rt90put4n" +
    "vd4mv98kwt8ixd8hx+AfyuAezeAdz+Ec0uEb1OEa1+IZ2uIY3OIY3+MY4eMY5OMY5+QZ6eQZ7OQa7uUb8eUc8+Ue9uYf" +
    "+OYh+uYi/eck",
  magma:
    "AAADAAAEAAAGAQAHAQEJAQELAgINAgIPAwMRBAMTBAQVBQQXBgUZBwUbCAYdCQcfCgciCwgkDAkmDQooDgoqDwssEAwv" +
    "EQwxEg0zFA01FQ44Fg46Fw88GA8/GhBBGxBEHBBGHhBJHxFLIBFNIhFQIxFSJRFVJhFXKBFZKhFcKxFeLRBgLxBiMBBl" +
    "MhBnNBBoNQ9qNw9sOQ9uOw9vPA9xPg9yQA9zQg90Qw91RQ92Rw93SBB4ShB5SxB5TRF6TxF7UBJ7UhJ8UxN8VRN9VxR9" +
    "WBV+WhV+WxZ+XRd+Xhd/YBh/YRh/Yxl/ZRqAZhqAaBuAaRyAaxyAbB2Abh6Bbx6BcR+Bcx+BdCCBdiGBdyGBeSKBeiKB" +
    "fCOBfiSBfySBgSWBgiWBhCaBhSaBhyeBiSiBiiiBjCmAjSmAjyqAkSqAkiuAlCuAlSyAlyx/mS1/mi1/nC5/ni5+ny9+" +
    "oS9+ozB+pDB9pjF9pzF9qTJ8qzN8rDN7rjR7sDR7sTV6szV6tTZ5tjZ5uDd4uTd4uzh3vTl3vjl2wDp1wjp1wzt0xTx0" +
    "xjxzyD1yyj5yyz5xzT9wzkBw0EFv0UJu00Jt1ENt1kRs10Vr2UZq2kdp3Ehp3Ulo3kpn4Etm4Uxm4k1l5E5k5VBj5lFi" +
    "51Ji6FRh6lVg61Zg7Fhf7Vlf7lte7l1d715d8GBd8WFc8mNc82Vc82db9Ghb9Wpb9Wxb9m5b9nBb93Fb93Nc+HVc+Hdc" +
    "+Xlc+Xtd+X1d+n9e+oBe+oJf+4Rg+4Zg+4hh+4pi/Ixj/I5j/JBk/JJl/JNm/ZVn/Zdo/Zlp/Ztq/Z1r/Z9s/aFu/aJv" +
    "/aRw/qZx/qhz/qp0/qx1/q52/q94/rF5/rN7/rV8/rd9/rl//ruA/ryC/r6D/sCF/sKG/sSI/saJ/seL/smN/suO/c2Q" +
    "/c+S/dGT/dKV/dSX/daY/dia/dqc/dyd/d2f/d+h/eGj/OOl/OWm/Oao/Oiq/Oqs/Oyu/O6w/PCx/PGz/PO1/PW3+/e5" +
    "+/m7+/q9+/y/",
  signed:
    "Bz+LB0CNB0GPCEORB0STB0WUCEeWCEiYCUqaCUubCkydCk6fCk+hClCiC1KkC1OmC1WoC1apDFerDFmtDVquDVywDV2y" +
    "Dl60DmC1DmG3D2O5D2S7D2a8D2e+EGjAEGrCEGvDEG3FEW7HEXDIEXHKEnPMEnTOE3bPE3fRE3jTFHrVFHvWFH3YFX7a" +
    "FYDcFYHdFYPfFoThFobiFofkFonmForoF4zpGI7rGI/tGJHuGZLwGZTyGZX0Gpf1HJj3Hpr4IZv5JZ36Kp77L6D8NKH8" +
    "OaP8PqT8Q6b8SKf8TKj8UKr8VKv9WK39XK79X7D9Y7H9ZrL9arT9bbX9cLf9c7j9drr9erv9fb39gL79g7/9hsH9iML9" +
    "i8T9jsX9kcf9lMj9l8n9mcv9nMz+n87+os/+pNH+p9L+qtP+rdX+r9b+stj+tdn+t9r+utz+vd3+v9/+wuD+xeH+x+P+" +
    "yuT+zeb+0Of90+j91+r82uv83ez74e365e/56PD37PH28PL18/Pz8/Pz9fHv9u/r9+3n+Ovj+enf+efb+uXY++PU++HR" +
    "/N/N/N3J/dvG/dnD/de//dW8/tO4/tG1/s+y/s2v/sus/smp/sel/sWi/sOf/sGc/r6Z/ryW/rqT/riQ/raO/rSL/bKI" +
    "/bCF/a6C/KyA/Kp9/Kh6+6Z4+6R1+6Jy+qBw+p5t+Zxr+Zpp+Jhm+JZk95Rh95Jf9pBd9o5a9YxY9IpW9IhU84ZS8oRQ" +
    "8oJN8YBL8H5J73xH73pF7nhD7XZB7HRA63I+6nA86W466Ww46Go252g15mYz5WQx5GIw42Au4l4s4Vwr31op3lgo3VYm" +
    "3FQl21Ij2lAi2U4h10wf1koe1Ugd1EYb00Ma0UEZ0D8Yzz0WzTsVzDkUyzcTyTUSyDMRxjAQxS4PxCwOwioNwScMvyUL" +
    "viMKvCAJux0IuRsIuBgHthUHtBMGshAGsA4GrgwGrAoGqgkHqAgHpQgIowgIoAcJngcJnAcKmQcKlwcLlAcLkgcLkAYL" +
    "jgYMiwUMiQUM",
};

/** Levels 0 … 252 are values; 253 is NaN, 254 is +∞, 255 is −∞. */
export const LEVELS = 253;
const RESERVED = { 253: [255, 0, 255], 254: [0, 255, 255], 255: [0, 255, 0] };
const FLAT = { light: [209, 209, 210], dark: [63, 65, 69] };

export const CMAPS = ["viridis", "magma", "grey", "signed"];

/** @type {Map<string, Uint8Array>} */
const unpacked = new Map();

/** @param {string} name @returns {Uint8Array} 256 × 3 */
export function table(name) {
  let found = unpacked.get(name);
  if (!found) {
    found = name in PACKED
      ? Uint8Array.from(atob(PACKED[/** @type {"viridis"} */ (name)]), (c) => c.charCodeAt(0))
      : Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
    unpacked.set(name, found);
  }
  return found;
}

/** @param {number[]} rgb */
const pack = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/**
 * The 256 pixels that indices stand for, as little-endian RGBA words.
 * @param {string} cmap @param {"light" | "dark"} theme @returns {Uint32Array}
 */
export function pixels(cmap, theme) {
  const colours = table(cmap);
  const words = new Uint32Array(256);
  for (let i = 0; i < LEVELS; i++) {
    const at = Math.round((i / (LEVELS - 1)) * 255) * 3;
    words[i] = pack([colours[at], colours[at + 1], colours[at + 2]]);
  }
  for (const [index, rgb] of Object.entries(RESERVED)) words[Number(index)] = pack(rgb);
  return words;
}

/** The pixel of a map without variation: no colour of any table. @param {"light" | "dark"} theme */
export const flat = (theme) => pack(FLAT[theme]);

/** @param {string} cmap a CSS gradient of it, for legends */
export function gradient(cmap) {
  const colours = table(cmap);
  const stops = Array.from({ length: 17 }, (_, i) => {
    const at = Math.round((i / 16) * 255) * 3;
    return `rgb(${colours[at]} ${colours[at + 1]} ${colours[at + 2]})`;
  });
  return `linear-gradient(90deg,${stops.join(",")})`;
}
