
// The shop: identity, buying, orders.

const PHASES = {
  upcoming: say("即将开始", "Upcoming"), live: say("进行中", "Live"), paused: say("暂停", "Paused"), ended: say("已结束", "Ended"),
};
const STATES = {
  upcoming: say("未开始", "Not started"), on_sale: say("有货", "In stock"), sold_out: say("已抢光", "Sold out"),
  paused: say("暂停中", "Paused"), ended: say("已结束", "Ended"),
};
const STATUSES = {
  queued: say("排队中", "Queued"), pending: say("待支付", "To be paid"), paying: say("支付中", "Payment under way"),
  paid: say("已支付", "Paid"), cancelled: say("已取消", "Cancelled"), expired: say("已过期", "Expired"), refused: say("未成功", "Not placed"),
};
const REFUNDS = {
  due: say("退款处理中", "Refund on its way"), done: say("已退款", "Refunded"), failed: say("退款失败，请联系客服", "Refund failed: please contact us"),
};
const BUY = say("立即抢购", "Buy now");
const READY = say("提前准备", "Get ready");
const POLL = 2000;
// So many challenges are solved for one ticket before the buyer is asked to try again.
const CHALLENGES = 3;
// A status may be so old: a second in caches, and what it takes to get here.
const STATUS_AGE = 3000;

// What a problem means and what to do about it.
function advice(error) {
  if (!(error instanceof Refused)) {
    return error instanceof Advice ? error.message : say(
      "网络不通。请检查网络后再点一次，不会重复下单。",
      "No connection. Check it and press again: that cannot place a second order.",
    );
  }
  const { problem } = error;
  const wait = Math.max(1, error.retryAfter);
  switch (error.code) {
    case "sold_out": return problem.available > 0
      ? say(`只剩 ${problem.available} 件，请减少数量再试。`, `Only ${problem.available} left: choose a smaller quantity.`)
      : say("已抢光。未付款的会重新放出，请留在本页等候。", "Sold out. Units that are not paid for come back: stay on this page.");
    case "limit_reached": return problem.remaining > 0
      ? say(`超过限购，您还可以买 ${problem.remaining} 件。`, `Over the limit: you can still buy ${problem.remaining}.`)
      : say("已达到限购数量，未付款的订单也算在内。请看我的订单。", "You have reached the limit; unpaid orders count. See your orders.");
    case "not_started": return say("还没开始，请等倒计时结束再点。", "Not started yet: press again when the countdown ends.");
    case "ended": return say("活动已结束。已下的订单仍可按时支付。", "The sale has ended. Orders that were placed can still be paid in time.");
    case "paused": return say("活动暂停。请留在本页，恢复后即可购买。", "The sale is paused. Stay on this page: you can buy when it goes on.");
    case "rate_limited": return say(`操作太快，请 ${wait} 秒后再点。`, `Too fast: press again in ${wait} s.`);
    case "busy": case "not_ready": case "unavailable": case "timeout": case "internal":
      return say(`现在人太多，请 ${wait} 秒后再点，不会重复下单。`, `Very busy: press again in ${wait} s. That cannot place a second order.`);
    case "ticket_expired": case "ticket_invalid": return say("购买资格已失效，请再点一次。", "Your ticket is no longer valid: press again.");
    case "ticket_used": return say("您已经下过单，请看我的订单。", "You have ordered already: see your orders.");
    case "key_reused": return say("请先看我的订单，再决定是否重新下单。", "See your orders first, then order anew if you want to.");
    case "challenge_required": return say("验证没有通过，请再点一次并重新验证。", "The check was not passed: press again and solve a new one.");
    case "denied": return say("本次请求没有通过安全检查。请稍后换个网络再试，或联系客服。", "A security check declined this. Try again later from another network, or contact us.");
    case "unauthorized": return say("请先登录再购买。", "Please sign in first.");
    case "forbidden": return say("您的账号不能进行此操作，请联系客服。", "Your account may not do this: please contact us.");
    case "wrong_state": return say("订单状态已改变，请看我的订单。", "The order has changed meanwhile: see your orders.");
    case "not_persisted": return say("订单还在排队，请稍后再点。", "The order is still queued: press again in a moment.");
    case "not_found": return say("找不到了，请刷新本页。", "It is not there any more: please reload this page.");
    default: return say(`没有成功，请稍后再试。编号 ${error.request}`, `This did not work: please try again later. Reference ${error.request}`);
  }
}

// A sentence that already says what to do.
class Advice extends Error {}

// Names this browser, for limits that count devices.
function device() {
  let name = stored("device");
  if (!name) store("device", name = randomText());
  return name;
}

// Identity. The demonstration signs in here; a shop that has an identity provider stores {id, name, token} itself.
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

// Resolves to the session, or to null if the visitor would rather not.
function signIn() {
  const box = one("[data-signin]");
  if (!box) {
    tell(say("请先在商城登录，再回到本页购买。", "Please sign in at the shop first, then come back to buy."));
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
          ? say("编号须为正整数，姓名不超过 120 字。", "The number has to be a positive whole one, the name at most 120 characters.") : advice(problem);
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

function phaseOf(element) {
  const [starts, ends, now] = [Date.parse(element.dataset.starts), Date.parse(element.dataset.ends), serverNow()];
  const byTime = now < starts ? "upcoming" : now < ends ? "live" : "ended";
  // A pause or an early end is the server's word; that the window has begun is the clock's.
  const told = element.dataset.told;
  return told === "ended" || (told === "paused" && byTime !== "ended") ? told : byTime;
}

const MILESTONES = [[300000, say("还有 5 分钟", "5 minutes left")], [60000, say("还有 1 分钟", "1 minute left")], [10000, say("还有 10 秒", "10 seconds left")]];

function tick() {
  const now = serverNow();
  one("[data-clock]").textContent = clockFormat.format(now);
  let moved = false;
  for (const element of all("[data-window]")) {
    const [starts, ends, phase] = [Date.parse(element.dataset.starts), Date.parse(element.dataset.ends), phaseOf(element)];
    if (element.dataset.phase !== phase) {
      if (element.dataset.phase && element.dataset.activity) announce(`${one("h1, h2", element).textContent}: ${PHASES[phase]}`);
      element.dataset.phase = phase;
      one(".phase", element).textContent = PHASES[phase];
      moved = true;
      for (const offer of all("[data-offer]", element)) showState(offer);
    }
    const to = phase === "upcoming" ? starts : phase === "live" ? ends : 0;
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

// What can be bought now comes first.
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
  // The status was read before the start, or has not been read yet.
  return told === "upcoming" || told === "paused" ? "on_sale" : told;
}

function showState(offer) {
  const state = stateOf(offer);
  if (!state) return;
  const before = offer.dataset.state;
  offer.dataset.state = state;
  const ready = Boolean(session() && kept(offer)?.ticket);
  one("[data-state]", offer).textContent = state === "upcoming" && ready ? say("已准备好，开始后即可抢购", "Ready: buy when it starts") : STATES[state];
  const button = one("button", offer);
  button.firstChild.textContent = state === "upcoming" ? READY : BUY;
  if (!offer.dataset.busy) button.disabled = !(state === "on_sale" || (state === "upcoming" && !ready));
  if (before === "sold_out" && state === "on_sale") {
    announce(say(`又有货了：${nameOf(offer)}`, `In stock again: ${nameOf(offer)}`));
    const result = one("[data-result]", offer);
    if (!result.classList.contains("bought")) result.replaceChildren();
  }
}

const nameOf = (offer) => one("button .unseen", offer).textContent.trim();

// Whether the server counts by another window than this page: an operator has moved it.
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
    } catch { /* The next round asks again. */ }
    const starts = Date.parse(section.dataset.starts) - serverNow();
    // Long before the start and after the end there is little to see; in between a crowd must not ask in step.
    const calm = starts > 60000 || section.dataset.phase === "ended" || document.hidden;
    await pause(jitter(calm ? 10 * POLL : POLL));
  }
}

// Buying.
//
// The ticket and the key of one order are kept until it is known what became of it, for all tabs of this browser: a click
// after lost answers, after a reload or in another tab asks for the same order again, and cannot make a second one.

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

// Runs for one tab of this browser at a time.
async function alone(name, work) {
  // Without a secure context there are no locks; then the shared key alone keeps two tabs from ordering twice.
  if (!navigator.locks) return work();
  return navigator.locks.request(name, { ifAvailable: true }, (lock) => {
    if (!lock) throw new Advice(say("另一个标签页正在下单，请看那边。", "Another tab is placing this order: look there."));
    return work();
  });
}

function work(challenge) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(root.dataset.solver);
    worker.onmessage = ({ data }) => { worker.terminate(); resolve(data.solution); };
    worker.onerror = () => { worker.terminate(); reject(new Advice(say("您的浏览器无法完成验证，请升级浏览器或换一个再试。", "Your browser cannot do this check: please update it or use another one."))); };
    worker.postMessage(challenge);
  });
}

async function solve(offer, challenge, isAgain) {
  if (challenge.kind === "none") return undefined;
  if (challenge.kind === "proof_of_work") {
    report(offer, say("正在验证您的设备，请稍候…", "Checking your device, please wait…"));
    return work(challenge.proof_of_work);
  }
  const title = isAgain ? say("不对，请看新的图片再试", "That was not it: here is another one") : say("请输入图中的字符", "Type what you see");
  const answer = await ask(title, say("确定", "Continue"), say("取消", "Cancel"), (form, finish) => {
    form.append(made("img", "", { src: challenge.quiz.image, alt: say("验证图片；看不清可用下面的按钮", "Picture of the check; if you cannot read it, use the button below") }));
    const label = made("label", say(`${challenge.quiz.length} 个字符`, `${challenge.quiz.length} characters`));
    label.append(made("input", "", { 
      name: "text", required: true, maxLength: challenge.quiz.length, autocomplete: "off", autocapitalize: "off", spellcheck: false,
      inputMode: /^\d+$/.test(challenge.quiz.alphabet) ? "numeric" : "text",
    }));
    form.append(label);
    if (challenge.proof_of_work) {
      const other = made("button", say("看不清：让设备代我验证（最长一分钟）", "I cannot read it: let my device work instead (up to a minute)"), { type: "button", className: "quiet" });
      other.addEventListener("click", () => finish({ device: true }));
      form.append(other);
    }
  }, (form) => ({ text: form.elements.text.value.trim() }));
  if (!answer) throw new Advice(say("没有完成验证。想购买时请再点一次。", "The check was not solved. Press again when you want to buy."));
  if (!answer.device) return answer;
  report(offer, say("设备正在验证，最长一分钟，请留在本页…", "Your device is working, up to a minute; please stay on this page…"));
  return work(challenge.proof_of_work);
}

// Solutions that were found before the ticket could be asked for.
const solved = new WeakMap();
const waiting = (offer) => () => report(offer, say("人很多，正在排队，请不要离开…", "Busy, waiting in line; please stay…"));

// What a ticket is asked for with, after a challenge was solved.
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

// The ticket of the next order, fetched if there is none.
async function prepared(offer, headers) {
  const attempt = kept(offer);
  if (attempt) return attempt;
  report(offer, say("正在获取购买资格…", "Getting your ticket…"));
  const { ticket, expires_at } = await fetchTicket(offer, headers);
  const begun = { ticket, expires_at, key: randomText() };
  store(attemptOf(offer), begun);
  return begun;
}

// Refusals that use up neither ticket nor key.
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
    report(offer, say("已排上队，正在确认…", "In the queue, being confirmed…"));
    now = await insist(() => mine("GET", `/v1/orders/${order.order_id}`, { headers: { prefer: "wait=10" } }));
  }
  if (now.status === "refused") throw new Advice(say("没有抢到，没有扣款。可以再试一次。", "It did not work out and nothing was charged. You can try again."));
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

// Before the start: whatever can be done now need not be done in the crowd.
async function getReady(offer) {
  const headers = { "flashsale-device": device() };
  for (;;) {
    try {
      await prepared(offer, headers);
      report(offer, say("已准备好。开始后按钮会亮起。", "You are ready. The button will light up at the start."));
      return;
    } catch (error) {
      if (error.code !== "not_started" || !error.retryAfter) throw error;
      if (!solved.has(offer)) {
        // Challenges are given out earlier than tickets, if at all.
        try { solved.set(offer, await proof(offer, headers)); } catch (early) {
          if (!["not_started", "not_found"].includes(early.code)) throw early;
        }
      }
      const soonest = serverNow() + error.retryAfter * 1000;
      // Not all at once, and well before the start.
      const at = soonest + Math.random() * Math.max(0, Date.parse(error.problem.starts_at) - soonest) / 2;
      const time = clockFormat.format(at);
      report(offer, say(`${time} 自动为您获取购买资格，请留在本页。`, `Your ticket is fetched at ${time}: stay on this page.`));
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
  const line = made("p", say("抢到了！请按时支付。", "Yours! Please pay in time. "));
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
      return `${product.name} · ${sku.name}`;
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
  card.append(made("p", say(`${order.quantity} 件，共 ${money(order.amount)}`, `Quantity ${order.quantity}, ${money(order.amount)} in total`)));
  if (order.refund) card.append(made("p", `${REFUNDS[order.refund.status]} ${money(order.refund.amount)}`));
  card.append(made("p", say(`订单号 ${order.order_id}`, `Order ${order.order_id}`), { className: "hint digits" }));
  if (["pending", "paying"].includes(order.status)) {
    const buttons = made("p", "", { className: "buttons" });
    const pay = made("button", say("去支付", "Pay"), { type: "button" });
    pay.dataset.pay = "";
    pay.addEventListener("click", () => act(pay, () => goAndPay(order)));
    const cancel = made("button", say("取消订单", "Cancel"), { type: "button", className: "quiet" });
    cancel.dataset.cancel = "";
    cancel.addEventListener("click", async () => {
      const sure = await ask(say("取消这个订单？名额会让给别人。", "Cancel this order? Somebody else gets the unit."), say("取消订单", "Cancel the order"), say("保留", "Keep it"));
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
    empty.textContent = say("登录后可以看到您的订单。", "Sign in to see your orders.");
    area.setAttribute("aria-busy", "false");
    return;
  }
  const { items, next } = await mine("GET", "/v1/orders?limit=20");
  open = items.some(isOpen);
  area.setAttribute("aria-busy", "false");
  const known = new Set(items.map((item) => item.order_id));
  const whole = [...items, ...earlier.filter((item) => !known.has(item.order_id))];
  if (!earlier.length) [more.hidden, more.dataset.next] = [!next, next || ""];
  // Unchanged orders keep their buttons: one that is being pressed must not be replaced.
  if (JSON.stringify(whole) === shown) return;
  const before = new Map(all("[data-order]", list).map((card) => [card.dataset.order, card]));
  const texts = new Map((shown ? JSON.parse(shown) : []).map((item) => [item.order_id, JSON.stringify(item)]));
  const cards = await Promise.all(whole.map((item) =>
    texts.get(item.order_id) === JSON.stringify(item) && before.get(item.order_id) || orderCard(item)));
  list.replaceChildren(...cards);
  empty.hidden = cards.length > 0;
  empty.textContent = say("还没有订单。", "No orders yet.");
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

// The sandbox's pay page.
async function settle(section, button) {
  const buttons = all("button", section);
  if (button.disabled) return;
  for (const each of buttons) each.disabled = true;
  try {
    await insist(() => call("POST", `/sandbox/payments/${section.dataset.payment}/${button.dataset.report}`));
    store("orders changed", serverNow());
    location.assign(section.dataset.back);
  } catch (error) {
    const place = one("[data-error]", section);
    place.textContent = advice(error);
    place.hidden = false;
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
// What another tab does shows here.
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
