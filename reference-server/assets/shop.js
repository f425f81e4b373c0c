
// The shop: identity, buying, orders.

const PHASES = {
  upcoming: say("即将开始", "Upcoming"), live: say("进行中", "Live"), paused: say("已暂停", "Paused"), ended: say("已结束", "Ended"),
};
const STATES = {
  upcoming: say("未开始", "Not started"), on_sale: say("有货", "In stock"), sold_out: say("已抢光", "Sold out"),
  paused: say("已暂停", "Paused"), ended: say("已结束", "Ended"),
};
const STATUSES = {
  queued: say("排队中", "Queued"), pending: say("待支付", "Awaiting payment"), paying: say("支付中", "Payment in progress"),
  paid: say("已支付", "Paid"), cancelled: say("已取消", "Cancelled"), expired: say("已超时", "Expired"), refused: say("下单失败", "Not accepted"),
};
const REFUNDS = {
  due: say("退款中", "Refund in progress"), done: say("已退款", "Refunded"), failed: say("退款失败（请联系客服）", "Refund failed (please contact us)"),
};
const DISPUTES = {
  open: say("银行正在处理您的争议", "Your bank is deciding on your dispute"), won: say("争议已结束，款项不退", "The dispute is over; the payment stands"), lost: say("争议已结束，款项已退回", "The dispute is over; the money went back"),
};
const BUY = say("立即抢购", "Buy now");
const READY = say("提前准备", "Get ready");
const POLL = 2000;
// How many challenges are solved for one ticket before the buyer has to try again.
const CHALLENGES = 3;
// The greatest age of a status in ms: one second in caches, plus its transfer.
const STATUS_AGE = 3000;

// Tells the buyer what an error means and what to do.
function advice(error) {
  if (!(error instanceof Refused)) {
    return error instanceof Advice ? error.message : say(
      "网络连接失败，请检查网络后重试，不会重复下单。",
      "No connection. Check your network and try again; you will not order twice.",
    );
  }
  const { problem } = error;
  const wait = Math.max(1, error.retryAfter);
  switch (error.code) {
    case "sold_out": return problem.available > 0
      ? say(`仅剩 ${problem.available} 件，请减少购买数量。`, `Only ${problem.available} left. Please choose a smaller quantity.`)
      : say("已抢光。如有未支付订单释放库存，可继续抢购，请留在本页等候。", "Sold out. Units from unpaid orders may become available again: stay on this page.");
    case "limit_reached": return problem.remaining > 0
      ? say(`超出限购数量，您还可购买 ${problem.remaining} 件。`, `That exceeds the limit. You can still buy ${problem.remaining}.`)
      : say("已达到限购数量（含未支付订单），请查看“我的订单”。", "You have reached the limit. Unpaid orders count too; see My orders.");
    case "not_started": return say("活动尚未开始，请等倒计时结束后再抢。", "Not started yet. Try again when the countdown ends.");
    case "ended": return say("活动已结束，已提交的订单仍可在时限内支付。", "The sale has ended. Orders you have placed can still be paid in time.");
    case "paused": return say("活动已暂停，请留在本页，恢复后即可购买。", "The sale is paused. Stay on this page to buy when it resumes.");
    case "rate_limited": return say(`操作过于频繁，请 ${wait} 秒后再试。`, `Too many attempts. Try again in ${wait} s.`);
    case "busy": case "not_ready": case "unavailable": case "timeout": case "internal":
      return say(`当前人数较多，请 ${wait} 秒后再试，不会重复下单。`, `We are very busy. Try again in ${wait} s; you will not order twice.`);
    case "ticket_expired": case "ticket_invalid": return say("购买资格已失效，请重试。", "Your ticket is no longer valid. Please try again.");
    case "ticket_used": return say("您已下单，请查看“我的订单”。", "You have already ordered. See My orders.");
    case "key_reused": return say("请先查看“我的订单”，再决定是否重新下单。", "Check My orders before you order again.");
    case "challenge_required": return say("验证未通过，请重试。", "Verification failed. Please try again.");
    case "denied": return say("未通过安全验证，请稍后更换网络再试，或联系客服。", "A security check blocked this request. Try again later on another network, or contact us.");
    case "unauthorized": return say("请先登录。", "Please sign in first.");
    case "forbidden": return say("您的账号无权进行此操作，请联系客服。", "Your account is not allowed to do this. Please contact us.");
    case "wrong_state": return say("订单状态已更新，请查看“我的订单”。", "The order has changed. See My orders.");
    case "not_persisted": return say("订单仍在排队，请稍后再试。", "The order is still queued. Try again in a moment.");
    case "not_found": return say("内容不存在或已下架，请刷新本页。", "This is no longer available. Please reload the page.");
    default: return say(`操作失败，请稍后再试。错误编号：${error.request}`, `Something went wrong. Please try again later. Reference: ${error.request}`);
  }
}

// An error whose message already tells the buyer what to do.
class Advice extends Error {}

// Returns the id of this browser, for limits per device.
function device() {
  let name = stored("device");
  if (!name) store("device", name = randomText());
  return name;
}

// Identity. The demo signs in here; a shop with its own identity provider stores {id, name, token} itself.
const session = () => stored("session");

async function mine(method, path, options = {}) {
  try {
    return await call(method, path, { ...options, token: session()?.token });
  } catch (error) {
    if (error.status === 401) signOut();
    throw error;
  }
}

function showWho() {
  const who = session();
  const [name, enter] = [one("[data-who]"), one("[data-enter]")];
  name.textContent = who ? who.name : "";
  name.hidden = !who;
  one("[data-leave]").hidden = !who;
  if (enter) enter.hidden = Boolean(who);
  for (const element of all("[data-stranger]")) element.hidden = Boolean(who);
}

function signOut() {
  store("session", null);
  showWho();
  wakeAll();
}

// Resolves to the session, or to null if the visitor cancels.
function signIn() {
  const box = one("[data-signin]");
  if (!box) {
    tell(say("请先登录商城，再返回本页购买。", "Please sign in to the shop first, then return to this page to buy."));
    return Promise.resolve(null);
  }
  return new Promise((resolve) => {
    const form = one("form", box);
    const error = one("[data-error]", box);
    error.hidden = true;
    form.onsubmit = async (event) => {
      event.preventDefault();
      const button = one("button", form);
      if (button.disabled) return;
      button.disabled = true;
      try {
        const [id, name] = [form.elements.user_id.value, form.elements.user_name.value];
        const { token } = await insist(() => call("POST", "/v1/sessions", { body: { user_id: id, user_name: name } }));
        store("session", { id, name, token });
        box.close();
      } catch (problem) {
        error.textContent = problem.code === "invalid_request"
          ? say("用户 ID 不超过 255 个字节，姓名不超过 120 个字符。", "The user ID must have at most 255 bytes, and the name at most 120 characters.") : advice(problem);
        error.hidden = false;
      } finally {
        button.disabled = false;
      }
    };
    box.onclose = () => { showWho(); wakeAll(); resolve(session()); };
    box.showModal();
  });
}

// Time.

// A window that ends on this day has no end.
const NO_END = Date.parse("9999-12-31");

function phaseOf(element) {
  const [starts, ends, now] = [Date.parse(element.dataset.starts), Date.parse(element.dataset.ends), serverNow()];
  const byTime = now < starts ? "upcoming" : now < ends ? "live" : "ended";
  // The server reports a pause or an early end; the clock decides whether the window has begun.
  const told = element.dataset.told;
  return told === "ended" || (told === "paused" && byTime !== "ended") ? told : byTime;
}

const MILESTONES = [[300000, say("距开始还有 5 分钟", "5 minutes to go")], [60000, say("距开始还有 1 分钟", "1 minute to go")], [10000, say("距开始还有 10 秒", "10 seconds to go")]];

function tick() {
  const now = serverNow();
  one("[data-clock]").textContent = clockFormat.format(now);
  let moved = false;
  for (const element of all("[data-window]")) {
    const [starts, ends, phase] = [Date.parse(element.dataset.starts), Date.parse(element.dataset.ends), phaseOf(element)];
    if (element.dataset.phase !== phase) {
      if (element.dataset.phase && element.dataset.activity) announce(`${apart(one("h1, h2", element).textContent)}: ${PHASES[phase]}`);
      element.dataset.phase = phase;
      one(".phase", element).textContent = PHASES[phase];
      moved = true;
      for (const offer of all("[data-offer]", element)) showState(offer);
    }
    const to = phase === "upcoming" ? starts : phase === "live" && ends < NO_END ? ends : 0;
    const text = !to ? "" : phase === "upcoming" ? say(`距开始 ${span(to - now)}`, `starts in ${span(to - now)}`) : say(`距结束 ${span(to - now)}`, `ends in ${span(to - now)}`);
    const countdown = one("[data-countdown]", element);
    if (countdown.textContent !== text) countdown.textContent = text;
    if (phase === "upcoming" && element.dataset.activity) {
      const passed = MILESTONES.filter(([ms]) => to - now <= ms).at(-1);
      if (passed && element.dataset.milestone !== String(passed[0])) {
        element.dataset.milestone = passed[0];
        announce(passed[1]);
      }
    }
  }
  if (moved) sortSales();
  for (const element of all("[data-until]")) {
    element.textContent = say(`剩余 ${span(Date.parse(element.dataset.until) - now)}`, `${span(Date.parse(element.dataset.until) - now)} left`);
  }
}

// Moves sales that are live to the front.
function sortSales() {
  const list = one("[data-sales]");
  if (!list) return;
  const order = ["live", "paused", "upcoming", "ended"];
  const items = [...list.children];
  const sorted = [...items].sort((a, b) => order.indexOf(a.dataset.phase) - order.indexOf(b.dataset.phase));
  if (sorted.some((item, at) => item !== items[at])) list.append(...sorted);
}

// The state of stock.

function stateOf(offer) {
  const phase = offer.closest("[data-window]").dataset.phase;
  if (phase !== "live") return phase;
  const told = offer.dataset.told;
  // A live sale that the status reports as upcoming or paused: the status is stale.
  return told === "upcoming" || told === "paused" ? "on_sale" : told;
}

function showState(offer) {
  const state = stateOf(offer);
  if (!state) return;
  const before = offer.dataset.state;
  offer.dataset.state = state;
  const ready = Boolean(session() && kept(offer)?.ticket);
  one("[data-state]", offer).textContent = state === "upcoming" && ready ? say("已准备好，开始后即可抢购", "Ready. You can buy when the sale starts") : STATES[state];
  const button = one("button", offer);
  button.firstChild.textContent = state === "upcoming" ? READY : BUY;
  if (!offer.dataset.busy) button.disabled = !(state === "on_sale" || (state === "upcoming" && !ready));
  if (before === "sold_out" && state === "on_sale") {
    announce(say(`又有货了：${nameOf(offer)}`, `Back in stock: ${nameOf(offer)}`));
    const result = one("[data-result]", offer);
    if (!result.classList.contains("bought")) result.replaceChildren();
  }
}

const nameOf = (offer) => one("button .unseen", offer).textContent.trim();

// Whether an operator has moved the window since this page was rendered.
function hasMoved(section, phase) {
  const [now, starts, ends] = [serverNow(), Date.parse(section.dataset.starts), Date.parse(section.dataset.ends)];
  if (phase === "upcoming") return now > starts + STATUS_AGE;
  if (phase === "live") return now < starts - STATUS_AGE || now > ends + STATUS_AGE;
  return false;
}

async function readWindow(section) {
  const { starts_at, ends_at } = await call("GET", `/v1/activities/${section.dataset.activity}`);
  [section.dataset.starts, section.dataset.ends] = [starts_at, ends_at];
  for (const [at, element] of all("[data-moment]", section).entries()) {
    element.dateTime = [starts_at, ends_at][at];
    element.textContent = momentFormat.format(new Date(element.dateTime));
  }
}

async function followStatus(section) {
  for (;;) {
    try {
      const status = await call("GET", `/v1/activities/${section.dataset.activity}/status`);
      if (hasMoved(section, status.phase)) await readWindow(section);
      section.dataset.told = status.phase;
      for (const { sku_id, state } of status.offers) {
        const offer = one(`[data-offer="${sku_id}"]`, section);
        if (offer) offer.dataset.told = state;
      }
      tick();
      for (const offer of all("[data-offer]", section)) showState(offer);
    } catch { /* Retried in the next round. */ }
    const starts = Date.parse(section.dataset.starts) - serverNow();
    // Poll slowly long before the start and after the end. Jitter keeps clients from polling in step.
    const calm = starts > 60000 || section.dataset.phase === "ended" || document.hidden;
    await pause(jitter(calm ? 10 * POLL : POLL));
  }
}

// Buying.
//
// The ticket and key of an order are stored, for all tabs of this browser, until its outcome is known. A click after a
// lost response, after a reload or in another tab repeats the same order and cannot place a second one.

const attemptOf = (offer) => `attempt ${session()?.id} ${offer.closest("[data-activity]").dataset.activity} ${offer.dataset.offer}`;

function kept(offer) {
  const attempt = stored(attemptOf(offer));
  if (attempt && !attempt.quantity && Date.parse(attempt.expires_at) < serverNow()) {
    store(attemptOf(offer), null);
    return null;
  }
  return attempt;
}

const pathOf = (offer) => `/v1/activities/${offer.closest("[data-activity]").dataset.activity}/offers/${offer.dataset.offer}`;

function report(offer, text, ...more) {
  const result = one("[data-result]", offer);
  result.classList.remove("bought");
  result.replaceChildren(made("p", text), ...more);
}

// Runs `work` in at most one tab of this browser at a time.
async function alone(name, work) {
  // Web Locks need a secure context. Without them, the shared key still prevents a second order.
  if (!navigator.locks) return work();
  return navigator.locks.request(name, { ifAvailable: true }, (lock) => {
    if (!lock) throw new Advice(say("另一个标签页正在下单，请前往该标签页查看。", "This order is being placed in another tab. Please check there."));
    return work();
  });
}

function work(challenge) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(root.dataset.solver);
    worker.onmessage = ({ data }) => { worker.terminate(); resolve(data.solution); };
    worker.onerror = () => { worker.terminate(); reject(new Advice(say("您的浏览器无法完成验证，请升级或更换浏览器后再试。", "Your browser cannot complete this check. Please update it or use another one."))); };
    worker.postMessage(challenge);
  });
}

async function solve(offer, challenge, isAgain) {
  if (challenge.kind === "none") return undefined;
  if (challenge.kind === "proof_of_work") {
    report(offer, say("正在验证您的设备，请稍候…", "Checking your device, please wait…"));
    return work(challenge.proof_of_work);
  }
  const title = isAgain ? say("输入有误，请按新图片重新输入", "That was not correct. Try this one") : say("请输入图中的字符", "Type the characters you see");
  const answer = await ask(title, say("确定", "Continue"), say("取消", "Cancel"), (form, finish) => {
    form.append(made("img", "", { src: challenge.quiz.image, alt: say("验证码图片；如看不清，可使用下方按钮", "Verification picture. If you cannot read it, use the button below") }));
    const label = made("label", say(`${challenge.quiz.length} 个字符`, `${challenge.quiz.length} characters`));
    label.append(made("input", "", { 
      name: "text", required: true, maxLength: challenge.quiz.length, autocomplete: "off", autocapitalize: "off", spellcheck: false,
      inputMode: /^\d+$/.test(challenge.quiz.alphabet) ? "numeric" : "text",
    }));
    form.append(label);
    if (challenge.proof_of_work) {
      const other = made("button", say("看不清？改由设备自动验证（最长 1 分钟）", "Can’t read it? Let your device do the check (up to a minute)"), { type: "button", className: "quiet" });
      other.addEventListener("click", () => finish({ device: true }));
      form.append(other);
    }
  }, (form) => ({ text: form.elements.text.value.trim() }));
  if (!answer) throw new Advice(say("验证未完成，如需购买请重试。", "The check was not completed. Try again when you want to buy."));
  if (!answer.device) return answer;
  report(offer, say("设备验证中，最长需要 1 分钟，请留在本页…", "Your device is doing the check. This takes up to a minute; please stay on this page…"));
  return work(challenge.proof_of_work);
}

// Solutions that were found before tickets are issued.
const solved = new WeakMap();
const waiting = (offer) => () => report(offer, say("当前人数较多，正在排队，请勿离开…", "It is busy and you are in line. Please stay on this page…"));

// Solves a challenge; returns the body of the ticket request.
async function proof(offer, headers, isAgain = false) {
  const challenge = await insist(() => mine("POST", `${pathOf(offer)}/challenge`, { body: {}, headers }), waiting(offer));
  const solution = await solve(offer, challenge, isAgain);
  return solution === undefined ? {} : { challenge_id: challenge.challenge_id, solution };
}

async function fetchTicket(offer, headers) {
  for (let tries = 0; ; tries += 1) {
    const body = solved.get(offer) || {};
    try {
      const ticket = await insist(() => mine("POST", `${pathOf(offer)}/ticket`, { body, headers }), waiting(offer));
      solved.delete(offer);
      return ticket;
    } catch (error) {
      if (error.code !== "challenge_required" || tries === CHALLENGES) throw error;
      const isAgain = Boolean(body.solution);
      solved.delete(offer);
      solved.set(offer, await proof(offer, headers, isAgain));
    }
  }
}

// Returns the stored attempt at an order, or starts one with a new ticket.
async function prepared(offer, headers) {
  const attempt = kept(offer);
  if (attempt) return attempt;
  report(offer, say("正在获取购买资格…", "Getting your ticket…"));
  const { ticket, expires_at } = await fetchTicket(offer, headers);
  const begun = { ticket, expires_at, key: randomText() };
  store(attemptOf(offer), begun);
  return begun;
}

// Refusals after which ticket and key can be used again.
const KEEPS = ["sold_out", "paused", "not_started", "limit_reached"];

async function place(offer, quantity) {
  const headers = { "flashsale-device": device() };
  for (let round = 1; ; round += 1) {
    const name = attemptOf(offer);
    const attempt = await prepared(offer, headers);
    attempt.quantity ??= quantity;
    store(name, attempt);
    report(offer, say("正在下单…", "Placing your order…"));
    try {
      const order = await insist(() => mine("POST", `/v1/orders/${attempt.ticket}`, {
        body: { quantity: attempt.quantity }, headers: { ...headers, "idempotency-key": attempt.key },
      }), waiting(offer));
      store(name, null);
      return order;
    } catch (error) {
      if (KEEPS.includes(error.code)) store(name, { ...attempt, quantity: undefined });
      else if (isDefinite(error)) store(name, null);
      if (!["ticket_expired", "ticket_invalid"].includes(error.code) || round === 2) throw error;
    }
  }
}

async function settled(offer, order) {
  let now = order;
  while (now.status === "queued") {
    report(offer, say("已进入队列，正在确认…", "Your order is queued and being confirmed…"));
    now = await insist(() => mine("GET", `/v1/orders/${order.order_id}`, { headers: { prefer: "wait=10" } }));
  }
  if (now.status === "refused") throw new Advice(say("很遗憾，没有抢到，未产生扣款。您可以再试一次。", "Your order was not accepted and you were not charged. You can try again."));
  return now;
}

async function buy(offer) {
  if (offer.dataset.busy) return;
  const button = one("button", offer);
  offer.dataset.busy = "yes";
  button.disabled = true;
  try {
    if (!session() && !await signIn()) return;
    const isEarly = offer.dataset.state === "upcoming";
    await alone(attemptOf(offer), async () => {
      if (isEarly) await getReady(offer);
      else showOrder(offer, await settled(offer, await place(offer, Number(one("select", offer)?.value || 1))));
    });
  } catch (error) {
    const more = ["limit_reached", "ticket_used", "key_reused", "wrong_state"].includes(error.code) ? [ordersLink()] : [];
    report(offer, advice(error), ...more);
  } finally {
    delete offer.dataset.busy;
    showState(offer);
  }
}

// Gets the ticket before the start, to spread the load.
async function getReady(offer) {
  const headers = { "flashsale-device": device() };
  for (;;) {
    try {
      await prepared(offer, headers);
      report(offer, say("已准备好，活动开始后即可点击抢购。", "You are ready. The button is enabled when the sale starts."));
      return;
    } catch (error) {
      if (error.code !== "not_started" || !error.retryAfter) throw error;
      if (!solved.has(offer)) {
        // Challenges are issued earlier than tickets, if at all.
        try { solved.set(offer, await proof(offer, headers)); } catch (early) {
          if (!["not_started", "not_found"].includes(early.code)) throw early;
        }
      }
      const soonest = serverNow() + error.retryAfter * 1000;
      // Spread clients over the first half of the time until the start.
      const at = soonest + Math.random() * Math.max(0, Date.parse(error.problem.starts_at) - soonest) / 2;
      const time = clockFormat.format(at);
      report(offer, say(`将于 ${time} 自动获取购买资格，请留在本页。`, `Your ticket will be fetched at ${time}. Stay on this page.`));
      while (serverNow() < at) await pause(at - serverNow());
    }
  }
}

const ordersLink = () => made("a", say("我的订单", "My orders"), { href: one("[data-orders-link]").href });

function showOrder(offer, order) {
  store("orders changed", serverNow());
  const pay = made("button", say("去支付", "Pay"), { type: "button" });
  pay.addEventListener("click", () => act(pay, () => goAndPay(order)));
  const left = made("span", "", { className: "digits" });
  const line = made("p", say("抢到了！请尽快支付。", "Got it! Please pay in time. "));
  if (order.reserved_until) {
    left.dataset.until = order.reserved_until;
    line.append(left);
  }
  const buttons = made("p", "", { className: "buttons" });
  buttons.append(pay, ordersLink());
  const result = one("[data-result]", offer);
  result.classList.add("bought");
  result.replaceChildren(line, buttons);
  tick();
  pay.focus({ preventScroll: true });
  result.scrollIntoView({ block: "nearest" });
}

async function goAndPay(order) {
  const payment = await mine("POST", `/v1/orders/${order.order_id}/payment`);
  const address = new URL(payment.pay_url, API || location.origin);
  if (payment.provider === "sandbox") {
    address.searchParams.set("lang", isChinese ? "zh" : "en");
    if (API) address.searchParams.set("back", one("[data-orders-link]").href);
  }
  location.assign(address);
}

async function act(button, action) {
  if (button.disabled) return;
  button.disabled = true;
  try {
    await insist(action);
  } catch (error) {
    tell(advice(error));
  } finally {
    button.disabled = false;
  }
}

// Orders.

const names = new Map();
function skuName(id) {
  if (!names.has(id)) {
    names.set(id, (async () => {
      const sku = await call("GET", `/v1/skus/${id}`);
      const product = await call("GET", `/v1/products/${sku.product_id}`);
      return `${apart(product.name)} · ${apart(sku.name)}`;
    })().catch(() => { names.delete(id); return `SKU ${id}`; }));
  }
  return names.get(id);
}

const isOpen = (order) => ["queued", "pending", "paying"].includes(order.status) || order.refund?.status === "due";

async function orderCard(order) {
  const card = made("li", "", { className: "card order" });
  card.dataset.status = order.status;
  card.dataset.order = order.order_id;
  card.append(made("h2", await skuName(order.sku_id)));
  const line = made("p");
  line.append(made("span", STATUSES[order.status] || order.status, { className: "state" }));
  card.append(line);
  const until = order.status === "paying" && order.payment ? order.payment.deadline : order.reserved_until;
  if (until && ["pending", "paying"].includes(order.status)) {
    const left = made("span", "", { className: "digits" });
    left.dataset.until = until;
    line.append(" ", left);
  }
  card.append(made("p", say(`共 ${order.quantity} 件，合计 ${money(order.amount)}`, `Quantity: ${order.quantity}, total: ${money(order.amount)}`)));
  const captures = order.captures || [], refunds = order.refunds || [];
  // One payment of the whole amount is what "paid" says already.
  if (captures.length > 1 || order.status !== "paid") {
    for (const { amount } of captures) card.append(made("p", say(`已收到 ${money(amount)}`, `Received: ${money(amount)}`)));
  }
  for (const { status, amount } of refunds) card.append(made("p", `${REFUNDS[status]} ${money(amount)}`));
  if (order.dispute) card.append(made("p", DISPUTES[order.dispute]));
  card.append(made("p", say(`订单号：${order.order_id}`, `Order ${order.order_id}`), { className: "hint digits" }));
  if (["pending", "paying"].includes(order.status)) {
    const buttons = made("p", "", { className: "buttons" });
    const pay = made("button", say("去支付", "Pay"), { type: "button" });
    pay.dataset.pay = "";
    pay.addEventListener("click", () => act(pay, () => goAndPay(order)));
    const cancel = made("button", say("取消订单", "Cancel"), { type: "button", className: "quiet" });
    cancel.dataset.cancel = "";
    cancel.addEventListener("click", async () => {
      const sure = await ask(say("确定取消该订单？取消后，商品将释放给其他买家。", "Cancel this order? Other buyers can then buy the item."), say("取消订单", "Cancel order"), say("暂不取消", "Keep order"));
      if (!sure) return;
      await act(cancel, async () => {
        await mine("POST", `/v1/orders/${order.order_id}/cancel`);
        store("orders changed", serverNow());
        await showOrders();
      });
    });
    buttons.append(pay, cancel);
    card.append(buttons);
  }
  return card;
}

let shown = "";
let earlier = [];
let open = false;
async function showOrders() {
  const area = one("[data-orders]");
  const [list, empty, more] = [one("[data-list]", area), one("[data-empty]", area), one("[data-more]", area)];
  if (!session()) {
    list.replaceChildren();
    [shown, earlier, more.hidden, empty.hidden] = ["", [], true, false];
    empty.textContent = say("登录后可查看您的订单。", "Sign in to see your orders.");
    area.setAttribute("aria-busy", "false");
    return;
  }
  const { items, next } = await mine("GET", "/v1/orders?limit=20");
  open = items.some(isOpen);
  area.setAttribute("aria-busy", "false");
  const known = new Set(items.map((item) => item.order_id));
  const whole = [...items, ...earlier.filter((item) => !known.has(item.order_id))];
  if (!earlier.length) [more.hidden, more.dataset.next] = [!next, next || ""];
  // Unchanged orders keep their cards, so that a button is not replaced while it is being pressed.
  if (JSON.stringify(whole) === shown) return;
  const before = new Map(all("[data-order]", list).map((card) => [card.dataset.order, card]));
  const texts = new Map((shown ? JSON.parse(shown) : []).map((item) => [item.order_id, JSON.stringify(item)]));
  const cards = await Promise.all(whole.map((item) =>
    texts.get(item.order_id) === JSON.stringify(item) && before.get(item.order_id) || orderCard(item)));
  list.replaceChildren(...cards);
  empty.hidden = cards.length > 0;
  empty.textContent = say("暂无订单。", "No orders yet.");
  shown = JSON.stringify(whole);
  tick();
}

async function followOrders() {
  for (;;) {
    try { if (!document.hidden) await showOrders(); } catch (error) {
      if (!shown) one("[data-empty]").textContent = advice(error);
    }
    await pause(jitter(open ? POLL : 10 * POLL));
  }
}

async function showEarlier(more) {
  await act(more, async () => {
    const { items, next } = await mine("GET", `/v1/orders?limit=20&after=${encodeURIComponent(more.dataset.next)}`);
    earlier.push(...items);
    [more.hidden, more.dataset.next] = [!next, next || ""];
    await showOrders();
  });
}

// The payment page of the sandbox.
async function settle(section, button) {
  const buttons = all("button", section);
  if (button.disabled) return;
  for (const each of buttons) each.disabled = true;
  try {
    await insist(() => call("POST", `/sandbox/payments/${section.dataset.payment}/${button.dataset.report}`));
    store("orders changed", serverNow());
    location.assign(section.dataset.back);
  } catch (error) {
    const message = one("[data-error]", section);
    message.textContent = advice(error);
    message.hidden = false;
    for (const each of buttons) each.disabled = false;
  }
}

showWho();
one("[data-leave]").addEventListener("click", signOut);
one("[data-enter]")?.addEventListener("click", signIn);
one("[data-signin] [data-close]")?.addEventListener("click", (event) => event.target.closest("dialog").close());
for (const element of all("[data-moment]")) element.textContent = momentFormat.format(new Date(element.dateTime));
for (const offer of all("[data-offer]")) {
  one("form", offer).addEventListener("submit", (event) => {
    event.preventDefault();
    buy(offer);
  });
}
for (const section of all("[data-payment]")) {
  for (const button of all("[data-report]", section)) button.addEventListener("click", () => settle(section, button));
}
for (const more of all("[data-more]")) more.addEventListener("click", () => showEarlier(more));
// Shows changes made in other tabs.
addEventListener("storage", ({ key }) => {
  if (key === "session") showWho();
  for (const offer of all("[data-offer]")) showState(offer);
  if (["session", "orders changed"].includes(key)) wakeAll();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) setClock().catch(() => {}); });
addEventListener("pageshow", ({ persisted }) => { if (persisted) wakeAll(); });
tick();
setClock().catch(() => {}).then(() => {
  tick();
  setInterval(tick, 250);
  setInterval(() => setClock().catch(() => {}), 300000);
  for (const section of all("[data-activity]")) followStatus(section);
  if (one("[data-orders]")) followOrders();
});
