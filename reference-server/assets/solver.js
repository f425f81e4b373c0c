// Solves a proof of work: scrypt (RFC 7914) with SHA-256 (FIPS 180-4), in a worker so that the page stays responsive.
// Send it the `proof_of_work` of a challenge as a message; it replies { solution: { counter, derived_key } }.
// Self-contained: WebCrypto has no scrypt, and is not available on pages without TLS.
"use strict";

const K = new Uint32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);

function sha256(bytes) {
  const state = new Uint32Array([
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  ]);
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 0x20000000));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const w = new Uint32Array(64);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i += 1) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i += 1) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const t1 = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const t2 = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
  }
  const digest = new Uint8Array(32);
  const out = new DataView(digest.buffer);
  state.forEach((word, i) => out.setUint32(4 * i, word));
  return digest;
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function hmac(key, message) {
  const block = new Uint8Array(64);
  block.set(key.length > 64 ? sha256(key) : key);
  const inner = sha256(joined(block.map((byte) => byte ^ 0x36), message));
  return sha256(joined(block.map((byte) => byte ^ 0x5c), inner));
}

// PBKDF2 with one iteration, as scrypt uses it.
function pbkdf2(password, salt, length) {
  const key = new Uint8Array(length);
  const number = new Uint8Array(4);
  for (let block = 1, at = 0; at < length; block += 1, at += 32) {
    new DataView(number.buffer).setUint32(0, block);
    key.set(hmac(password, joined(salt, number)).subarray(0, length - at), at);
  }
  return key;
}

// Applies Salsa20/8 to the 16 words of `x`, in place.
function salsa(x) {
  let x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3], x4 = x[4], x5 = x[5], x6 = x[6], x7 = x[7];
  let x8 = x[8], x9 = x[9], xa = x[10], xb = x[11], xc = x[12], xd = x[13], xe = x[14], xf = x[15];
  let t;
  for (let round = 0; round < 8; round += 2) {
    t = x0 + xc; x4 ^= (t << 7) | (t >>> 25); t = x4 + x0; x8 ^= (t << 9) | (t >>> 23);
    t = x8 + x4; xc ^= (t << 13) | (t >>> 19); t = xc + x8; x0 ^= (t << 18) | (t >>> 14);
    t = x5 + x1; x9 ^= (t << 7) | (t >>> 25); t = x9 + x5; xd ^= (t << 9) | (t >>> 23);
    t = xd + x9; x1 ^= (t << 13) | (t >>> 19); t = x1 + xd; x5 ^= (t << 18) | (t >>> 14);
    t = xa + x6; xe ^= (t << 7) | (t >>> 25); t = xe + xa; x2 ^= (t << 9) | (t >>> 23);
    t = x2 + xe; x6 ^= (t << 13) | (t >>> 19); t = x6 + x2; xa ^= (t << 18) | (t >>> 14);
    t = xf + xb; x3 ^= (t << 7) | (t >>> 25); t = x3 + xf; x7 ^= (t << 9) | (t >>> 23);
    t = x7 + x3; xb ^= (t << 13) | (t >>> 19); t = xb + x7; xf ^= (t << 18) | (t >>> 14);
    t = x0 + x3; x1 ^= (t << 7) | (t >>> 25); t = x1 + x0; x2 ^= (t << 9) | (t >>> 23);
    t = x2 + x1; x3 ^= (t << 13) | (t >>> 19); t = x3 + x2; x0 ^= (t << 18) | (t >>> 14);
    t = x5 + x4; x6 ^= (t << 7) | (t >>> 25); t = x6 + x5; x7 ^= (t << 9) | (t >>> 23);
    t = x7 + x6; x4 ^= (t << 13) | (t >>> 19); t = x4 + x7; x5 ^= (t << 18) | (t >>> 14);
    t = xa + x9; xb ^= (t << 7) | (t >>> 25); t = xb + xa; x8 ^= (t << 9) | (t >>> 23);
    t = x8 + xb; x9 ^= (t << 13) | (t >>> 19); t = x9 + x8; xa ^= (t << 18) | (t >>> 14);
    t = xf + xe; xc ^= (t << 7) | (t >>> 25); t = xc + xf; xd ^= (t << 9) | (t >>> 23);
    t = xd + xc; xe ^= (t << 13) | (t >>> 19); t = xe + xd; xf ^= (t << 18) | (t >>> 14);
  }
  x[0] += x0; x[1] += x1; x[2] += x2; x[3] += x3; x[4] += x4; x[5] += x5; x[6] += x6; x[7] += x7;
  x[8] += x8; x[9] += x9; x[10] += xa; x[11] += xb; x[12] += xc; x[13] += xd; x[14] += xe; x[15] += xf;
}

// scryptBlockMix from `from` to `to`: 2r blocks of 16 words, even blocks first, then odd ones.
function mixBlocks(from, to, r, x) {
  x.set(from.subarray((2 * r - 1) * 16));
  for (let i = 0; i < 2 * r; i += 1) {
    for (let j = 0; j < 16; j += 1) x[j] ^= from[i * 16 + j];
    salsa(x);
    to.set(x, ((i >> 1) + (i & 1) * r) * 16);
  }
}

function mixMemory(bytes, cost, r, memory) {
  const words = 32 * r;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let now = new Uint32Array(words), next = new Uint32Array(words);
  const x = new Uint32Array(16);
  for (let i = 0; i < words; i += 1) now[i] = view.getUint32(4 * i, true);
  for (let i = 0; i < cost; i += 1) {
    memory.set(now, i * words);
    mixBlocks(now, next, r, x);
    [now, next] = [next, now];
  }
  for (let i = 0; i < cost; i += 1) {
    const at = (now[words - 16] & (cost - 1)) * words;
    for (let j = 0; j < words; j += 1) now[j] ^= memory[at + j];
    mixBlocks(now, next, r, x);
    [now, next] = [next, now];
  }
  for (let i = 0; i < words; i += 1) view.setUint32(4 * i, now[i], true);
}

// `memory` has 32 · cost · r words and can be reused between calls.
function scrypt(password, salt, cost, r, p, length, memory = new Uint32Array(32 * cost * r)) {
  const blocks = pbkdf2(password, salt, 128 * r * p);
  for (let i = 0; i < p; i += 1) mixMemory(blocks.subarray(i * 128 * r, (i + 1) * 128 * r), cost, r, memory);
  return pbkdf2(password, blocks, length);
}

const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));

function solve(work) {
  if (work.algorithm !== "SCRYPT") throw new Error(`unsupported algorithm: ${work.algorithm}`);
  const { cost, memory_cost: r, parallelism: p, key_length: length, key_prefix: prefix } = work;
  const nonce = fromHex(work.nonce);
  const salt = fromHex(work.salt);
  const password = joined(nonce, new Uint8Array(4));
  const memory = new Uint32Array(32 * cost * r);
  for (let counter = 0; counter <= 0xffffffff; counter += 1) {
    new DataView(password.buffer).setUint32(nonce.length, counter);
    const key = toHex(scrypt(password, salt, cost, r, p, length, memory));
    if (key.startsWith(prefix)) return { counter, derived_key: key };
  }
  throw new Error("no counter solves the challenge");
}

if (typeof module !== "undefined") module.exports = { scrypt, sha256, solve };
else self.onmessage = ({ data }) => self.postMessage({ solution: solve(data) });
