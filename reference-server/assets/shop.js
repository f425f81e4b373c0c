// The pages' script: time, sign-in, buying, orders. Text from the server only ever becomes text, never markup.
"use strict";

const PHASES = { upcoming: "即将开始 Upcoming", live: "进行中 Live", paused: "暂停 Paused", ended: "已结束 Ended" };
const STATES = {
  upcoming: "未开始 Not yet", on_sale: "有货 In stock", sold_out: "已抢光 Sold out", paused: "暂停 Paused", ended: "已结束 Ended",
};
const ORDERS = {
  queued: "排队中 Queued", pending: "待支付 To be paid", paying: "支付中 Paying", paid: "已支付 Paid",
  cancelled: "已取消 Cancelled", expired: "已过期 Expired", refused: "未成功 Refused",
};
const REFUNDS = { due: "退款中 Refund on its way", done: "已退款 Refunded", failed: "退款失败 Refund failed" };
const PROBLEMS = {
  sold_out: "已抢光 Sold out", limit_reached: "已达限购数量 Purchase limit reached", not_started: "还没开始 Not started yet",
  ended: "活动已结束 The sale has ended", paused: "活动暂停 The sale is paused", rate_limited: "太快了，请稍等 Too fast, please wait",
  busy: "人太多，请稍后再试 Busy, please try again", not_ready: "请稍后再试 Please try again",
  unavailable: "请稍后再试 Please try again", ticket_expired: "请再点一次 Please try again",
  unauthorized: "请先登录 Please sign in", wrong_state: "订单状态已改变 The order has changed",
};
const POLL = 2000;

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

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
  noticeTimer = setTimeout(() => { notice.hidden = true; }, 6000);
}

function randomText() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Names this browser, for limits that count devices.
function device() {
  let name = localStorage.getItem("device");
  if (!name) localStorage.setItem("device", name = randomText());
  return name;
}

function session() {
  try { return JSON.parse(localStorage.getItem("session")); } catch { return null; }
}

class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(PROBLEMS[problem.code] || problem.title || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code;
    this.retryAfter = retryAfter;
  }
}

async function call(method, path, { body, headers = {} } = {}) {
  const who = session();
  const response = await fetch(path, {
    method,
    headers: {
      ...(who && { authorization: `Bearer ${who.token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) signOut();
  throw new Refused(response.status, answer, Number(response.headers.get("retry-after")) || 1);
}

// Repeats a call whose outcome is not known, or that came at a busy moment. Only for calls that may be repeated.
async function insist(attempt) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      const passing = !(error instanceof Refused) || error.status === 503 || error.code === "rate_limited";
      if (!passing || tries === 5) throw error;
      await pause(1000 * Math.min(error.retryAfter || 1, 5) * (0.7 + 0.6 * Math.random()));
    }
  }
}

// The countdown runs on the server's time: the device's clock may be wrong.
let offset = 0;
async function setClock() {
  let best = Infinity;
  for (let round = 0; round < 3; round += 1) {
    const sent = Date.now();
    const { now } = await call("GET", "/v1/time");
    const taken = Date.now() - sent;
    if (taken < best) [best, offset] = [taken, Date.parse(now) + taken / 2 - Date.now()];
  }
}
const serverNow = () => Date.now() + offset;

function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const days = Math.floor(seconds / 86400);
  return (days ? `${days} d ` : "") + parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function money({ amount, currency }) {
  try {
    const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
    return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch { return `${amount} ${currency}`; }
}

function tick() {
  one("[data-clock]").textContent = new Date(serverNow()).toLocaleTimeString();
  for (const element of all("[data-window]")) {
    const [starts, ends, now] = [Date.parse(element.dataset.starts), Date.parse(element.dataset.ends), serverNow()];
    const byTime = now < starts ? "upcoming" : now < ends ? "live" : "ended";
    const phase = byTime === "live" && element.dataset.phase ? element.dataset.phase : byTime;
    one("[data-phase]", element).textContent = PHASES[phase];
    const left = byTime === "upcoming" ? `距开始 Starts in ${span(starts - now)}`
      : phase === "live" ? `距结束 Ends in ${span(ends - now)}` : "";
    one("[data-countdown]", element).textContent = left;
  }
  for (const element of all("[data-until]")) {
    element.textContent = `剩余 Left ${span(Date.parse(element.dataset.until) - serverNow())}`;
  }
}

// Stock states, fetched a little irregularly so that a crowd does not ask in step.
async function followStatus(section) {
  for (;;) {
    try {
      const status = await call("GET", `/v1/activities/${section.dataset.activity}/status`);
      section.dataset.phase = status.phase;
      for (const { sku_id, state } of status.offers) {
        const form = one(`[data-offer="${sku_id}"]`, section);
        if (!form) continue;
        one("[data-state]", form).textContent = STATES[state];
        form.dataset.state = state;
        if (!form.dataset.busy) one("button", form).disabled = state !== "on_sale";
      }
    } catch { /* The next round asks again. */ }
    const starts = Date.parse(section.dataset.starts) - serverNow();
    const wait = document.hidden ? 5 * POLL : starts > 0 && starts < POLL ? starts : POLL;
    await pause(wait * (1 + 0.3 * Math.random()));
  }
}

// A ticket and the key of one order, kept until it is known what became of it: a click after lost answers asks for the
// same order again, and cannot make a second one. Kept for the tab, so that a reload does not forget it either.
const attemptOf = (activity, sku) => `attempt ${session()?.id} ${activity} ${sku}`;

function keptAttempt(name) {
  try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; }
}

// What is not known, or said to pass, may have become an order.
function isDefinite(error) {
  return error instanceof Refused && error.status < 500 && ![401, 408, 429].includes(error.status);
}

async function buy(section, form) {
  if (form.dataset.busy) return;
  if (!session()) {
    tell(PROBLEMS.unauthorized);
    one("[data-signin] input")?.focus();
    return;
  }
  const button = one("button", form);
  form.dataset.busy = "yes";
  button.disabled = true;
  const headers = { "flashsale-device": device() };
  const offer = `/v1/activities/${section.dataset.activity}/offers/${form.dataset.offer}`;
  try {
    const name = attemptOf(section.dataset.activity, form.dataset.offer);
    let attempt = keptAttempt(name);
    if (!attempt) {
      const { ticket } = await insist(() => call("POST", `${offer}/ticket`, { body: {}, headers }));
      attempt = { ticket, key: randomText(), quantity: Number(form.elements.quantity.value) };
      sessionStorage.setItem(name, JSON.stringify(attempt));
    }
    headers["idempotency-key"] = attempt.key;
    const body = { quantity: attempt.quantity };
    try {
      await insist(() => call("POST", `/v1/orders/${attempt.ticket}`, { body, headers }));
    } catch (error) {
      if (isDefinite(error)) sessionStorage.removeItem(name);
      throw error;
    }
    sessionStorage.removeItem(name);
    tell("抢到了！请尽快支付 Yours! Please pay in time");
    await showOrders();
    one("[data-orders]").scrollIntoView({ behavior: "smooth", block: "center" });
  } catch (error) {
    tell(error.message);
  } finally {
    delete form.dataset.busy;
    button.disabled = form.dataset.state !== "on_sale";
  }
}

async function act(button, action) {
  if (button.disabled) return;
  button.disabled = true;
  try {
    await insist(action);
  } catch (error) {
    tell(error.message);
  } finally {
    button.disabled = false;
  }
}

const names = new Map();
async function skuName(id) {
  if (!names.has(id)) {
    names.set(id, (async () => {
      const sku = await call("GET", `/v1/skus/${id}`);
      const product = await call("GET", `/v1/products/${sku.product_id}`);
      return `${product.name} · ${sku.name}`;
    })().catch(() => { names.delete(id); return `SKU ${id}`; }));
  }
  return names.get(id);
}

async function orderCard(order) {
  const card = made("li", "", { className: "card" });
  card.append(made("h2", await skuName(order.sku_id)));
  card.append(made("p", `${order.quantity} × · ${money(order.amount)} · № ${order.order_id}`));
  const line = made("p");
  line.append(made("span", ORDERS[order.status] || order.status, { className: "state" }));
  card.append(line);
  const until = order.status === "paying" && order.payment ? order.payment.deadline : order.reserved_until;
  if (until && (order.status === "pending" || order.status === "paying")) {
    const left = made("span", "", { className: "countdown" });
    left.dataset.until = until;
    line.append(" ", left);
  }
  if (order.refund) card.append(made("p", `${REFUNDS[order.refund.status]} ${money(order.refund.amount)}`));
  if (order.status === "pending" || order.status === "paying") {
    const buttons = made("p", "", { className: "buttons" });
    const pay = made("button", "去支付 Pay", { type: "button" });
    pay.addEventListener("click", () => act(pay, async () => {
      const payment = await call("POST", `/v1/orders/${order.order_id}/payment`);
      location.assign(payment.pay_url);
    }));
    const cancel = made("button", "取消 Cancel", { type: "button" });
    cancel.addEventListener("click", () => act(cancel, async () => {
      await call("POST", `/v1/orders/${order.order_id}/cancel`);
      await showOrders();
    }));
    buttons.append(pay, cancel);
    card.append(buttons);
  }
  return card;
}

let shown = "";
async function showOrders() {
  const list = one("[data-orders]");
  if (!list) return;
  if (!session()) {
    list.replaceChildren();
    shown = "";
    return;
  }
  const { items } = await call("GET", "/v1/orders?limit=20");
  // Unchanged orders keep their buttons: one that is being pressed must not be replaced.
  if (JSON.stringify(items) === shown) return;
  const cards = await Promise.all(items.map(orderCard));
  list.replaceChildren(...(cards.length ? cards : [made("li", "还没有订单 No orders yet")]));
  shown = JSON.stringify(items);
  tick();
}

async function followOrders() {
  for (;;) {
    try { if (!document.hidden) await showOrders(); } catch { /* The next round asks again. */ }
    await pause(POLL * (1 + Math.random()));
  }
}

function showWho() {
  const who = session();
  one("[data-who]").textContent = who ? `${who.name} (${who.id})` : "";
  one("[data-leave]").hidden = !who;
  for (const form of all("[data-signin]")) form.hidden = Boolean(who);
}

function signOut() {
  localStorage.removeItem("session");
  showWho();
  showOrders();
}

async function signIn(form) {
  const [id, name] = [form.elements.user_id.value, form.elements.user_name.value];
  await act(one("button", form), async () => {
    const { token } = await call("POST", "/v1/sessions", { body: { user_id: id, user_name: name } });
    localStorage.setItem("session", JSON.stringify({ id, name, token }));
    showWho();
    await showOrders();
  });
}

async function report(buttons, button) {
  for (const each of all("button", buttons)) each.disabled = true;
  try {
    await insist(() => call("POST", `/sandbox/payments/${buttons.dataset.payment}/${button.dataset.report}`));
    location.assign("/");
  } catch (error) {
    tell(error.message);
    for (const each of all("button", buttons)) each.disabled = false;
  }
}

function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action(form);
  });
}

showWho();
one("[data-leave]").addEventListener("click", signOut);
for (const form of all("[data-signin]")) onSubmit(form, signIn);
for (const section of all("[data-activity]")) {
  for (const form of all("[data-offer]", section)) onSubmit(form, () => buy(section, form));
}
for (const buttons of all("[data-payment]")) {
  for (const button of all("button", buttons)) button.addEventListener("click", () => report(buttons, button));
}
setInterval(tick, 250);
tick();
setClock().catch(() => {}).then(() => {
  for (const section of all("[data-activity]")) followStatus(section);
  followOrders();
});
