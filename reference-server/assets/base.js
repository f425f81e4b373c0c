// Shared by all pages: languages, elements, API calls, time. Text from the server is never inserted as markup.
"use strict";

const root = document.documentElement;
const API = root.dataset.api || "";
const isChinese = root.lang.startsWith("zh");
const say = (zh, en) => (isChinese ? zh : en);

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const randomText = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const jitter = (ms) => ms * (0.85 + 0.3 * Math.random());

// Sleeps; ends early when the page becomes visible again.
const sleepers = new Set();
function pause(ms) {
  return new Promise((resolve) => {
    const wake = () => { clearTimeout(timer); sleepers.delete(wake); resolve(); };
    const timer = setTimeout(wake, ms);
    sleepers.add(wake);
  });
}
function wakeAll() { for (const wake of [...sleepers]) wake(); }
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) wakeAll();
});

// Isolates a text of people inside another one, so that right-to-left letters and overrides turn nothing else around.
const TURNING = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const apart = (text) => (TURNING.test(text) ? `\u2068${text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "")}\u2069` : text);

function made(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text) element.textContent = text;
  return element;
}

let noticeTimer;
function tell(text) {
  const notice = one("[data-notice]");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { notice.hidden = true; }, 8000);
}

// Announces a change to screen readers.
function announce(text) { one("[data-announce]").textContent = text; }

// Asks in a dialog. `fill` may extend its form. Resolves to `read(form)`, or to null if cancelled.
function ask(title, yes, no, fill = () => {}, read = () => true) {
  return new Promise((resolve) => {
    const box = made("dialog", "", { className: "box" });
    const form = made("form", "", { method: "dialog" });
    const heading = made("h2", title, { id: `box-${randomText()}` });
    box.setAttribute("aria-labelledby", heading.id);
    const buttons = made("p", "", { className: "buttons" });
    const refuse = made("button", no, { type: "button", className: "quiet" });
    refuse.addEventListener("click", () => box.close());
    let answer = null;
    const finish = (value) => { answer = value; box.close(); };
    form.append(heading);
    fill(form, finish);
    buttons.append(made("button", yes), refuse);
    form.append(buttons);
    form.addEventListener("submit", () => { answer = read(form); });
    box.addEventListener("close", () => { box.remove(); resolve(answer); });
    box.append(form);
    document.body.append(box);
    box.showModal();
  });
}

function stored(name) {
  try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }
}
function store(name, value) {
  if (value === null) localStorage.removeItem(name);
  else localStorage.setItem(name, JSON.stringify(value));
}

class Refused extends Error {
  constructor(status, problem, headers) {
    super(problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
    this.code = problem.code;
    this.retryAfter = Number(headers.get("retry-after")) || 0;
    this.request = headers.get("x-request-id") || "";
  }
}

async function call(method, path, { body, headers = {}, token } = {}) {
  const response = await fetch(API + path, {
    method,
    credentials: "omit",
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Refused(response.status, answer, response.headers);
}

// After a definite error nothing was done; after a passing one the outcome may be unknown and a retry may help.
const isDefinite = (error) => error instanceof Refused && error.status < 500 && ![401, 408, 429].includes(error.status);
const isPassing = (error) => !(error instanceof Refused) || error.status >= 500 || [408, 429].includes(error.status);

// Retries a call after passing errors, 5 attempts in all. Only for idempotent calls.
async function insist(attempt, onWait = () => {}) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!isPassing(error) || tries === 5) throw error;
      onWait(error, tries);
      await pause(jitter(1000 * Math.min(Math.max(error.retryAfter || 0, tries / 2), 8)));
    }
  }
}

// Server time, since the device clock may be wrong. Advances with the monotonic clock.
let offset = Date.now() - performance.now();
async function setClock() {
  let best = Infinity;
  for (let round = 0; round < 3 && best > 150; round += 1) {
    const sent = performance.now();
    const { now } = await call("GET", "/v1/time");
    const taken = performance.now() - sent;
    if (taken < best) [best, offset] = [taken, Date.parse(now) + taken / 2 - performance.now()];
  }
}
const serverNow = () => performance.now() + offset;

function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const days = Math.floor(seconds / 86400);
  return (days ? say(`${days} 天 `, `${days} d `) : "") + parts.map((part) => String(part).padStart(2, "0")).join(":");
}

const clockFormat = new Intl.DateTimeFormat(root.lang, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const momentFormat = new Intl.DateTimeFormat(root.lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// The currencies that the server accepts, with their decimal places. Those of browsers differ for some.
const DIGITS = new Map(Array.from((root.dataset.currencies || "").matchAll(/([A-Z]{3})(\d)/g), ([, code, digits]) => [code, Number(digits)]));

function money({ amount, currency }) {
  const digits = DIGITS.get(currency);
  // Only a page of an older server version can lack a currency.
  if (digits === undefined) return say(`${amount} ${currency}（最小货币单位）`, `${amount} ${currency} (minor units)`);
  const format = new Intl.NumberFormat(root.lang, {
    style: "currency", currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
  return format.format(amount / 10 ** digits);
}
