
// The operator console, a single page. The fragment of the URL selects the view and never contains a secret.

const KEY = "operations token";
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60000, 3600000, 86400000];
// Seconds that are plotted, and seconds over which rates are averaged.
const [PLOTTED, AVERAGED] = [120, 5];
// The number of SKUs that are suggested; any other id can be typed.
const PROPOSED = 500;

const STATUSES = {
  draft: say("草稿", "Draft"), submitted: say("待审核", "Submitted"), approved: say("审核通过", "Approved"),
  published: say("已发布", "Published"), archived: say("已归档", "Archived"),
};
const PHASES = {
  upcoming: say("即将开始", "Upcoming"), live: say("进行中", "Live"), paused: say("已暂停", "Paused"), ended: say("已结束", "Ended"),
};
const STRATEGIES = {
  pre_deduct: say("下单预扣库存，限时支付", "Hold at order, with a deadline"),
  order_time: say("下单减库存", "Deduct at order"),
  pay_time: say("付款减库存", "Deduct at payment"),
};
const LATE = { refund: say("退款", "Refund"), retake: say("有货则补单，否则退款", "New order if units are left, else refund") };
const ORDER_STATUSES = {
  queued: say("排队中", "Queued"), pending: say("待支付", "Awaiting payment"), paying: say("支付中", "Paying"), paid: say("已支付", "Paid"),
  cancelled: say("已取消", "Cancelled"), expired: say("已超时", "Expired"), refused: say("下单失败", "Refused"),
};
const REFUNDS = { due: say("待退款", "Refund due"), done: say("已退款", "Refunded"), failed: say("退款失败", "Refund failed") };
const SUBJECTS = { user: say("每位用户", "Per user"), device: say("每台设备", "Per device"), address: say("每个 IP 地址", "Per IP address") };
const PER = { offer: say("本商品限购", "in this offer"), activity: say("整场限购", "in the whole activity") };

// The steps in the life cycle of an activity: label, when it is possible, explanation.
const STEPS = {
  submit: [say("提交审核", "Submit for review"), (a) => a.status === "draft", say("审核期间不可修改，驳回后可再次修改。", "It cannot be edited during review, only after a rejection.")],
  approve: [say("通过", "Approve"), (a) => a.status === "submitted", say("审核人不能是创建人。", "The creator of an activity cannot approve it.")],
  reject: [say("驳回", "Reject"), (a) => a.status === "submitted", say("驳回后恢复为草稿。", "It becomes a draft again.")],
  publish: [say("发布", "Publish"), (a) => a.status === "approved", say("发布后买家立即可见，到时间自动开售。", "Buyers can see it at once. Sales start when its window opens.")],
  pause: [say("暂停", "Pause"), (a) => ["upcoming", "live"].includes(a.phase), say("停止接受新订单；已有订单照常支付和到期。", "No new orders are accepted. Existing orders can still be paid and expire as usual.")],
  resume: [say("恢复", "Resume"), (a) => a.phase === "paused", say("恢复接受新订单。", "New orders are accepted again.")],
  end: [say("结束", "End"), (a) => a.status === "published" && a.phase !== "ended", say("结束后无法恢复；已有订单照常支付和到期。", "This cannot be undone. Existing orders can still be paid and expire as usual.")],
  archive: [say("归档", "Archive"), (a) => a.phase === "ended", say("归档后买家不再可见，订单保留。", "Buyers can no longer see it. Its orders are kept.")],
};
const GRAVE = ["end", "archive", "reject"];

// English texts that are empty are the titles that the server sends.
const CODES = {
  invalid_request: say("填写有误", "Invalid input"),
  unauthorized: say("令牌无效或已更换，请重新登录", "The token is not valid, please sign in again"),
  forbidden: say("此令牌没有操作权限", "This token has no permission to do that"),
  not_found: say("内容不存在", "Not found"),
  timeout: say("请求传输超时，请重试", ""),
  too_large: say("内容过长，请精简后重试", ""),
  not_persisted: say("订单仍在排队，请稍后重试", ""),
  wrong_state: say("当前状态不允许此操作，请刷新后查看最新状态", "This is not possible in the current state"),
  version_conflict: say("内容已被他人修改，请查看最新版本后重试", "Somebody else has changed it"),
  insufficient_available: say("可售数量不足，未做更改", "Not enough units are available"),
  key_reused: say("编号已用于其他操作，请关闭对话框后重新填写", ""),
  internal: say("服务器内部错误，请查看服务器日志", ""),
  busy: say("服务器繁忙，未做更改，请稍后重试", ""),
  not_ready: say("服务器尚未就绪，请稍后重试", ""),
  unavailable: say("服务暂不可用，结果可能未知，请稍后重试", ""),
};
// The server explains errors in English. A Chinese text names the request instead, for questions about it.
function advice(error) {
  if (!(error instanceof Refused)) return say("服务器无响应，请重试。", "The server did not respond. Please try again.");
  const { problem } = error;
  const field = problem.field ? say(`（${problem.field}）`, ` (${problem.field})`) : "";
  return say(
    `${CODES[error.code] || "操作失败"}${field}。请求编号：${error.request}`,
    `${CODES[error.code] || problem.title || `HTTP ${error.status}`}${field}. ${problem.detail || ""}`,
  );
}

// The token of the signed-in operator, kept until this tab is closed.
const token = () => sessionStorage.getItem(KEY);
function signOut() {
  sessionStorage.removeItem(KEY);
  known.clear();
  show();
}

async function operate(method, path, body, version, key) {
  const headers = { ...(version !== undefined && { "if-match": `"${version}"` }), ...(key && { "idempotency-key": key }) };
  try {
    return await call(method, path, { body, headers, token: token() });
  } catch (error) {
    if (error.status === 401) signOut();
    throw error;
  }
}

// Fetches all pages of a list, until there are `most` items.
async function listed(path, most) {
  const items = [];
  let after = "";
  do {
    const page = await operate("GET", `${path}${path.includes("?") ? "&" : "?"}limit=100${after && `&after=${encodeURIComponent(after)}`}`);
    items.push(...page.items);
    after = page.next;
  } while (after && items.length < most);
  return items;
}

// A cache of SKUs and products, which rarely change.
const known = new Map();
function learn(path) {
  if (!known.has(path)) known.set(path, operate("GET", path).catch((error) => { known.delete(path); throw error; }));
  return known.get(path);
}
async function skuOf(id) {
  const sku = await learn(`/v1/skus/${id}`);
  const product = await learn(`/v1/products/${sku.product_id}`);
  return { ...sku, title: `${apart(product.name)} · ${apart(sku.name)}` };
}

// Elements.

function part(tag, className, ...children) {
  const element = made(tag, "", className ? { className } : {});
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
function button(text, press, { quiet, name } = {}) {
  const element = made("button", text, { type: "button", ...(quiet && { className: "quiet" }) });
  if (name) element.dataset.act = name;
  element.addEventListener("click", async () => {
    if (element.disabled) return;
    element.disabled = true;
    try { await press(); } catch (error) { tell(advice(error)); } finally { element.disabled = false; }
  });
  return element;
}
function table(caption, heads, rows) {
  const head = part("tr");
  for (const text of heads) head.append(made("th", text, { scope: "col" }));
  const body = part("tbody");
  for (const cells of rows) {
    const row = part("tr");
    for (const [at, cell] of cells.entries()) {
      const box = cell instanceof Node ? part("td", "", cell) : made("td", cell === null || cell === undefined ? "–" : String(cell));
      box.dataset.head = heads[at];
      row.append(box);
    }
    body.append(row);
  }
  const whole = made("table");
  whole.append(made("caption", caption), part("thead", "", head), body);
  return part("div", "wide", whole);
}
const facts = (pairs) => part("dl", "facts", ...pairs.filter(([, value]) => value).flatMap(([name, value]) => {
  const text = made("dd");
  text.append(value);
  return [made("dt", name), text];
}));
function badge(activity) {
  const mark = made("span", PHASES[activity.phase] || STATUSES[activity.status], { className: "badge" });
  mark.dataset.state = activity.phase || activity.status;
  return mark;
}

// Times are entered and shown in the time zone of this device, with its offset from UTC: when clocks are set back, local
// times occur twice.
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const timeFormat = new Intl.DateTimeFormat(root.lang, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "shortOffset",
});
const moment = (text) => (text ? timeFormat.format(new Date(text)) : "–");
const between = (activity) => `${moment(activity.starts_at)} – ${moment(activity.ends_at)}`;

// Offsets and instants are in ms; a local time is the instant at which UTC shows it.
const offsetAt = (instant) => -MINUTE * new Date(instant).getTimezoneOffset();
function offsetText(offset) {
  const minutes = Math.abs(offset) / MINUTE;
  return `UTC${offset < 0 ? "−" : "+"}${[Math.floor(minutes / 60), minutes % 60].map((part) => String(part).padStart(2, "0")).join(":")}`;
}
// The instants of a local time, earliest first: none in an hour that clocks skip, two in one that they repeat.
function instantsOf(local) {
  const offsets = new Set([local - DAY, local + DAY].map(offsetAt));
  return [...offsets].map((each) => local - each).filter((instant) => instant + offsetAt(instant) === local).sort((a, b) => a - b);
}

// Prices are entered in major units and converted to minor units without rounding.
function minor(text, currency) {
  const digits = DIGITS.get(currency);
  if (digits === undefined) throw new Mistake(say(`“${currency}”不是可用的币种，请填写 CNY 等币种代码。`, `“${currency}” is not a currency. Enter a code such as CNY.`));
  const [whole, fraction = ""] = text.trim().split(".");
  if (!/^\d+$/.test(whole) || !/^\d*$/.test(fraction) || fraction.length > digits) {
    throw new Mistake(say(`请输入有效金额，最多 ${digits} 位小数。`, `Enter the price as a number with at most ${digits} decimals.`));
  }
  return Number(whole + fraction.padEnd(digits, "0"));
}
function major({ amount, currency }) {
  const digits = DIGITS.get(currency);
  const text = String(amount).padStart(digits + 1, "0");
  return digits ? `${text.slice(0, -digits)}.${text.slice(-digits)}` : text;
}
class Mistake extends Error {}
const number = (text) => (text.trim() === "" ? null : Number(text));

// A form in a dialog. `act` submits it; after an error the message is shown and the dialog stays open.

function field({ name, label, kind = "text", value = "", options, hint, ...properties }) {
  const control = options ? made("select") : kind === "area" ? made("textarea") : made("input", "", { type: kind });
  for (const [choice, text] of Object.entries(options || {})) control.append(made("option", text, { value: choice }));
  Object.assign(control, { name, value, ...properties });
  const whole = made("label", label);
  whole.append(control);
  if (hint) whole.append(made("span", hint, { className: "hint" }));
  return whole;
}
const reason = (required = false) => field({ name: "reason", label: required ? say("原因", "Reason") : say("原因（选填）", "Reason (optional)"), required, maxLength: 500, autocomplete: "off" });
const why = (form) => (form.elements.reason.value.trim() ? { reason: form.elements.reason.value.trim() } : {});

function fillIn(title, yes, content, act) {
  return new Promise((resolve) => {
    const heading = made("h2", title, { id: `box-${randomText()}` });
    const error = made("p", "", { className: "error", hidden: true });
    error.setAttribute("role", "alert");
    const accept = made("button", yes);
    const refuse = made("button", say("取消", "Cancel"), { type: "button", className: "quiet" });
    const form = part("form", "", heading, ...content, error, part("p", "buttons", accept, refuse));
    const box = part("dialog", "box", form);
    box.setAttribute("aria-labelledby", heading.id);
    let done = false;
    refuse.addEventListener("click", () => box.close());
    box.addEventListener("close", () => { box.remove(); resolve(done); });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (accept.disabled) return;
      [accept.disabled, error.hidden] = [true, true];
      try {
        await act(form);
        done = true;
        box.close();
      } catch (problem) {
        error.textContent = problem instanceof Mistake ? problem.message : advice(problem);
        error.hidden = false;
        if (!token()) box.close();
      } finally {
        accept.disabled = false;
      }
    });
    document.body.append(box);
    box.showModal();
  });
}

// Activities.

async function showActivities(view) {
  view.append(made("h1", say("活动", "Activities")));
  view.append(part("p", "buttons", button(say("新建活动", "New activity"), createActivity, { name: "new" })));
  const activities = (await listed("/v1/activities", 1000)).reverse();
  if (!activities.length) {
    view.append(made("p", say("暂无活动，请新建活动或通过命令行导入。", "No activities yet. Create one, or import some on the command line."), { className: "empty" }));
    return;
  }
  view.append(table(say("全部状态的活动（最新的在前）", "Activities in every state, newest first"),
    [say("名称", "Name"), say("状态", "State"), say("时间", "Window"), say("商品", "Offers"), say("创建人 / 审核人", "Creator / reviewer")],
    activities.map((activity) => [
      made("a", activity.name, { href: `#/activities/${activity.id}` }), badge(activity), between(activity), activity.offers.length,
      `${apart(activity.creator)} / ${apart(activity.reviewer || "–")}`,
    ])));
}

const nameFields = ({ name = "", description = "" } = {}) => [
  field({ name: "name", label: say("名称", "Name"), value: name, required: true, maxLength: 120, autocomplete: "off" }),
  field({ name: "description", label: say("说明（选填）", "Description (optional)"), kind: "area", value: description || "", rows: 3 }),
];
// A local time and its offset. Fractions of a second are kept.
function momentField(name, label, instant) {
  const time = field({
    name, label: `${label} (${ZONE})`, kind: "datetime-local", step: instant % SECOND ? 0.001 : 1, valueAsNumber: instant + offsetAt(instant), required: true,
  });
  const offset = field({ name: `${name}_offset`, label: say(`${label}的 UTC 偏移`, `${label}: UTC offset`), options: {} });
  const [input, select, hint] = [one("input", time), one("select", offset), made("span", "", { className: "hint" })];
  hint.setAttribute("role", "status");
  let wanted = offsetAt(instant);
  const propose = () => {
    const found = instantsOf(input.valueAsNumber).map(offsetAt);
    select.replaceChildren(...found.map((each) => made("option", offsetText(each), { value: each, selected: each === wanted })));
    hint.textContent = found.length > 1 ? say("时钟回拨，该时间会出现两次，请选择偏移。", "Clocks are set back, so this time occurs twice. Choose its offset.") : "";
  };
  propose();
  input.addEventListener("input", propose);
  select.addEventListener("change", () => { wanted = Number(select.value); });
  return part("div", "moment", time, offset, hint);
}
function momentIn(form, name) {
  const { [name]: time, [`${name}_offset`]: offset } = form.elements;
  const found = instantsOf(time.valueAsNumber);
  if (!found.length) throw new Mistake(say("时钟拨快时会跳过该时间，请另选时间。", "Clocks are set forward and skip this time. Choose another one."));
  return found.find((each) => offsetAt(each) === Number(offset.value)) ?? found[0];
}
const windowFields = (starts, ends) => [momentField("starts_at", say("开始时间", "Starts"), starts), momentField("ends_at", say("结束时间", "Ends"), ends)];
const sent = (instant) => new Date(instant).toISOString();

async function createActivity() {
  const starts = Math.ceil(Date.now() / HOUR) * HOUR;
  const fields = [...nameFields(), ...windowFields(starts, starts + 2 * HOUR), reason()];
  await fillIn(say("新建活动", "New activity"), say("创建草稿", "Create draft"), fields, async (form) => {
    const { name, description } = form.elements;
    const body = {
      name: name.value.trim(), description: description.value.trim() || null,
      starts_at: sent(momentIn(form, "starts_at")), ends_at: sent(momentIn(form, "ends_at")), ...why(form),
    };
    const activity = await operate("POST", "/v1/activities", body);
    location.hash = `#/activities/${activity.id}`;
  });
}

async function editActivity(activity) {
  const isDraft = activity.status === "draft";
  const [starts, ends] = [Date.parse(activity.starts_at), Date.parse(activity.ends_at)];
  const fields = [...(isDraft ? nameFields(activity) : []), ...windowFields(starts, ends), reason()];
  const title = isDraft ? say("修改草稿", "Edit draft") : say("修改时间", "Change window");
  await fillIn(title, say("保存", "Save"), fields, async (form) => {
    const body = why(form);
    for (const [name, before] of [["starts_at", starts], ["ends_at", ends]]) {
      const instant = momentIn(form, name);
      if (instant !== before) body[name] = sent(instant);
    }
    if (isDraft) Object.assign(body, { name: form.elements.name.value.trim(), description: form.elements.description.value.trim() || null });
    await operate("PATCH", `/v1/activities/${activity.id}`, body, activity.version);
    await show();
  });
}

async function take(activity, step) {
  const [label, , meaning] = STEPS[step];
  await fillIn(say(`${label}：${apart(activity.name)}`, `${label}: ${apart(activity.name)}`), label, [made("p", meaning), reason()], async (form) => {
    await operate("POST", `/v1/activities/${activity.id}/${step}`, why(form), activity.version);
    announce(say(`${label}：已完成`, `${label}: done`));
    await show();
  });
}

async function showActivity(view, id) {
  const activity = await operate("GET", `/v1/activities/${id}`);
  const isDraft = activity.status === "draft";
  const isSelling = activity.status === "published";
  const title = made("h1", activity.name);
  const verbs = part("p", "buttons");
  for (const [step, [label, fits]] of Object.entries(STEPS)) {
    if (fits(activity)) verbs.append(button(label, () => take(activity, step), { name: step, quiet: GRAVE.includes(step) }));
  }
  if (isDraft || isSelling) {
    verbs.append(button(isDraft ? say("修改", "Edit") : say("修改时间", "Change window"), () => editActivity(activity), { name: "edit", quiet: true }));
  }
  if (isDraft) verbs.append(button(say("添加商品", "Attach offer"), () => attachOffer(activity), { name: "attach", quiet: true }));
  view.append(part("div", "heading", title, badge(activity)), verbs);
  view.append(facts([
    [say("编号", "ID"), activity.id], [say("时间", "Window"), between(activity)],
    [say("创建人", "Creator"), activity.creator], [say("审核人", "Reviewer"), activity.reviewer], [say("说明", "Description"), activity.description],
  ]));
  const skus = new Map(await Promise.all(activity.offers.map(async ({ sku_id }) => [sku_id, await skuOf(sku_id)])));
  if (isSelling) await watch(view, activity, skus);
  view.append(made("h2", say("商品", "Offers")));
  if (!activity.offers.length) {
    view.append(made("p", say("暂无商品。", "No offers yet."), { className: "empty" }));
    return;
  }
  view.append(table(say("销售条件", "Terms"), [
    say("商品", "SKU"), say("价格", "Price"), say("数量", "Units"), say("库存扣减方式", "Strategy"), say("限购", "Limits"), say("操作", "Actions"),
  ], activity.offers.map((offer) => {
    const acts = part("span", "buttons");
    if (isDraft || isSelling) acts.append(button(isDraft ? say("修改", "Edit") : say("修改限购", "Change limits"), () => editOffer(activity, offer, skus), { name: "edit-offer", quiet: true }));
    if (isDraft) acts.append(button(say("移除", "Detach"), () => detachOffer(activity, offer, skus), { name: "detach", quiet: true }));
    if (isSelling) acts.append(button(say("调整库存", "Adjust stock"), () => adjust(activity, offer, skus), { name: "adjust", quiet: true }));
    return [
      skus.get(offer.sku_id).title, made("span", money(offer.price), { className: "number" }), offer.units,
      STRATEGIES[offer.strategy] + (offer.hold_seconds ? say(`，${offer.hold_seconds} 秒`, `, ${offer.hold_seconds} s`) : "") + (offer.strategy === "pay_time" ? `${say("，", ", ")}${offer.overbook_percent}%` : ""),
      limitsText(offer), acts,
    ];
  })));
}

const limitsText = ({ limits }) => (limits.length ? limits.map(({ subject, per, max }) => say(`${SUBJECTS[subject]}${PER[per]} ${max} 件`, `${SUBJECTS[subject]} ${PER[per]}: ${max}`)).join(say("；", "; ")) : say("不限", "None"));

// Offers.

function limitFields(limits) {
  const group = part("fieldset", "limits", made("legend", say("限购（留空表示不限）", "Limits (leave empty for none)")));
  for (const subject of Object.keys(SUBJECTS)) {
    for (const per of Object.keys(PER)) {
      const rule = limits.find((limit) => limit.subject === subject && limit.per === per);
      group.append(field({ name: `${subject} ${per}`, label: `${SUBJECTS[subject]} ${PER[per]}`, kind: "number", min: 1, step: 1, value: rule ? rule.max : "" }));
    }
  }
  return group;
}
// Keeps the order of the rules: buyers see the first one that fails.
function limitsIn(form, before) {
  const rules = Object.keys(SUBJECTS).flatMap((subject) => Object.keys(PER).map((per) => ({ subject, per, max: number(form.elements[`${subject} ${per}`].value) })));
  const rank = (rule) => before.findIndex((other) => other.subject === rule.subject && other.per === rule.per) + 1 || before.length + 1;
  return rules.filter((rule) => rule.max).sort((a, b) => rank(a) - rank(b));
}

const termFields = (offer) => [
  field({ name: "price", label: say("价格", "Price"), value: offer ? major(offer.price) : "", inputMode: "decimal", required: true, autocomplete: "off" }),
  field({ name: "currency", label: say("币种", "Currency"), value: offer ? offer.price.currency : "CNY", pattern: "[A-Z]{3}", maxLength: 3, required: true }),
  field({ name: "units", label: say("数量", "Units"), kind: "number", min: 0, step: 1, value: offer ? offer.units : "", required: true }),
  field({ name: "strategy", label: say("库存扣减方式", "Strategy"), options: STRATEGIES, value: offer ? offer.strategy : "pre_deduct" }),
  field({ name: "hold_seconds", label: say("支付时限（秒）", "Time to pay (seconds)"), kind: "number", min: 1, step: 1, value: offer ? offer.hold_seconds ?? "" : 900 }),
  field({ name: "overbook_percent", label: say("超订比例（%，仅付款减库存）", "Overbooking in percent (only deduct at payment)"), kind: "number", min: 100, max: 1000, step: 1, value: offer?.strategy === "pay_time" ? offer.overbook_percent : "" }),
  field({ name: "late_capture", label: say("订单超时后到账的款项", "Payment that arrives after the order expired"), options: LATE, value: offer?.late_capture || "refund" }),
];
function termsIn(form, before) {
  const { price, currency, units, strategy, hold_seconds, overbook_percent, late_capture } = form.elements;
  const percent = number(overbook_percent.value);
  return {
    price: { amount: minor(price.value, currency.value), currency: currency.value }, units: number(units.value), strategy: strategy.value,
    hold_seconds: number(hold_seconds.value), late_capture: late_capture.value, limits: limitsIn(form, before),
    ...(percent !== null && strategy.value === "pay_time" && { overbook_percent: percent }),
  };
}

async function attachOffer(activity) {
  const skus = await listed("/v1/skus", PROPOSED);
  const products = new Map((await listed("/v1/products", PROPOSED)).map((product) => [product.id, product.name]));
  const attached = new Set(activity.offers.map((offer) => offer.sku_id));
  const proposals = made("datalist", "", { id: `skus-${randomText()}` });
  for (const sku of skus) {
    if (!attached.has(sku.id)) proposals.append(made("option", `${apart(products.get(sku.product_id) || sku.product_id)} · ${apart(sku.name)}`, { value: sku.id }));
  }
  const chosen = made("p", "", { className: "hint" });
  chosen.setAttribute("role", "status");
  const sku = field({ name: "sku_id", label: say("SKU 编号（可按名称搜索）", "SKU ID (search by name)"), inputMode: "numeric", pattern: "[0-9]+", required: true, autocomplete: "off" });
  one("input", sku).setAttribute("list", proposals.id);
  const terms = termFields();
  one("input", sku).addEventListener("change", async ({ target }) => {
    if (!/^\d+$/.test(target.value)) return;
    try {
      const found = await skuOf(target.value);
      chosen.textContent = say(`${found.title}，日常价 ${money(found.list_price)}`, `${found.title}, regular price ${money(found.list_price)}`);
      target.form.elements.currency.value = found.list_price.currency;
    } catch (error) { chosen.textContent = advice(error); }
  });
  await fillIn(say("添加商品", "Attach offer"), say("添加", "Attach"), [sku, chosen, proposals, ...terms, limitFields([]), reason()], async (form) => {
    const body = { sku_id: form.elements.sku_id.value, ...termsIn(form, []), ...why(form) };
    await operate("POST", `/v1/activities/${activity.id}/offers`, body, activity.version);
    await show();
  });
}

async function editOffer(activity, offer, skus) {
  const isDraft = activity.status === "draft";
  const title = `${isDraft ? say("修改", "Edit") : say("修改限购", "Change limits")}${say("：", ": ")}${skus.get(offer.sku_id).title}`;
  const fields = [...(isDraft ? termFields(offer) : []), limitFields(offer.limits), reason()];
  await fillIn(title, say("保存", "Save"), fields, async (form) => {
    const body = { ...(isDraft ? termsIn(form, offer.limits) : { limits: limitsIn(form, offer.limits) }), ...why(form) };
    await operate("PATCH", `/v1/activities/${activity.id}/offers/${offer.sku_id}`, body, activity.version);
    await show();
  });
}

async function detachOffer(activity, offer, skus) {
  await fillIn(say(`移除 ${skus.get(offer.sku_id).title}？`, `Detach ${skus.get(offer.sku_id).title}?`), say("移除", "Detach"), [reason()], async (form) => {
    await operate("DELETE", `/v1/activities/${activity.id}/offers/${offer.sku_id}`, why(form), activity.version);
    await show();
  });
}

async function adjust(activity, offer, skus) {
  // One id per dialog, so that a retry after a lost response does not adjust twice.
  const id = `console-${randomText()}`;
  const fields = [
    field({ name: "delta", label: say("增减数量（减少请填负数）", "Units to add (negative to remove)"), kind: "number", step: 1, required: true }),
    reason(true),
  ];
  await fillIn(say(`调整库存：${skus.get(offer.sku_id).title}`, `Adjust stock: ${skus.get(offer.sku_id).title}`), say("调整", "Adjust"), fields, async (form) => {
    const body = { adjustment_id: id, delta: number(form.elements.delta.value), reason: form.elements.reason.value.trim() };
    await operate("POST", `/v1/activities/${activity.id}/offers/${offer.sku_id}/adjustments`, body);
    announce(say("库存已调整", "Stock adjusted"));
    wakeAll();
  });
}

// Live view of a sale: polls /metrics every second.

function numbersOf(text) {
  const numbers = [];
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? ([^ ]+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    }
    numbers.push({ name: found[1], labels, value: Number(found[3]) });
  }
  return numbers;
}

// Samples of the last seconds, for all activities; kept across views.
const seen = [];
async function look() {
  const response = await fetch("/metrics", { credentials: "omit" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const numbers = numbersOf(await response.text());
  const of = (name, labels = {}) => numbers.filter((each) => each.name === name && Object.entries(labels).every(([label, value]) => each.labels[label] === value));
  const sum = (name, labels) => of(name, labels).reduce((total, each) => total + each.value, 0);
  const answers = new Map();
  for (const { labels, value } of of("flashsale_http_requests_total", { listener: "public", route: "POST /v1/orders/{ticket}" })) {
    if (labels.status.startsWith("2")) answers.set(labels.status, value);
  }
  for (const { labels, value } of of("flashsale_problems_total", { listener: "public" })) {
    if (value > 0) answers.set(labels.code, value);
  }
  const sample = { at: performance.now(), of, sum, answers, placed: sum("flashsale_outcomes_total", { kind: "reserve", outcome: "reserved" }), waiting: sum("flashsale_queue_waiting") };
  const before = seen.at(-1);
  // Start over after a restart of the server, which resets its counters, or after a gap.
  if (before && (sample.placed < before.placed || sample.at - before.at > 10 * SECOND)) seen.length = 0;
  seen.push(sample);
  if (seen.length > PLOTTED + 1) seen.shift();
  return sample;
}
const rate = (last, before, count) => (before && last.at > before.at ? Math.max(0, (count(last) - count(before)) * SECOND / (last.at - before.at)) : 0);

const shortFormat = new Intl.NumberFormat(root.lang, { maximumFractionDigits: 1, notation: "compact" });
const wholeFormat = new Intl.NumberFormat(root.lang);

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A line chart of the last seconds, with a name and a colour for each series.
function plot(title, names) {
  const [wide, high] = [PLOTTED, 48];
  const lines = names.map((_, at) => drawn("polyline", { class: `line line${at}`, points: "" }));
  const chart = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img" },
    drawn("path", { class: "grid", d: `M0 0.5H${wide}M0 ${high / 2}H${wide}M0 ${high - 0.5}H${wide}` }), ...lines);
  const values = names.map((_, at) => made("b", "–", { className: `value line${at}` }));
  const top = made("span", "", { className: "top" });
  const caption = part("figcaption", "", made("span", title, { className: "title" }), ...names.flatMap((name, at) => [part("span", "key", made("i", "", { className: `swatch line${at}` }), name, " ", values[at])]));
  const figure = part("figure", "plot", caption, part("div", "frame", chart, top), part("div", "axis", made("span", say(`${PLOTTED} 秒前`, `${PLOTTED} s ago`)), made("span", say("现在", "now"))));
  return {
    figure,
    draw(series) {
      const most = Math.max(1, ...series.flat());
      for (const [at, points] of series.entries()) {
        const from = wide - points.length + 1;
        lines[at].setAttribute("points", points.map((value, x) => `${from + x},${(high - 1 - value / most * (high - 2)).toFixed(2)}`).join(" "));
        values[at].textContent = shortFormat.format(points.at(-1) ?? 0);
      }
      top.textContent = shortFormat.format(most);
      chart.setAttribute("aria-label", `${title}: ${names.map((name, at) => `${name} ${values[at].textContent}`).join(", ")}`);
    },
  };
}

// The units of an offer: sold, held, available.
const UNITS = { sold: say("已售", "Sold"), held: say("预占", "Held"), available: say("可售", "Available") };
function stockBar(sku, title) {
  const parts = Object.keys(UNITS).map((state) => drawn("rect", { class: state, y: 0, height: 10, x: 0, width: 0 }));
  const bar = drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" }, ...parts);
  const texts = Object.keys(UNITS).map((state) => made("b", "–", { className: "digits" }));
  texts.forEach((text, at) => { text.dataset.units = Object.keys(UNITS)[at]; });
  const legend = part("p", "legend", ...Object.entries(UNITS).map(([state, name], at) => part("span", "key", made("i", "", { className: `swatch ${state}` }), `${name} `, texts[at])));
  const element = part("div", "stock", made("h3", title), bar, legend);
  element.dataset.stock = sku;
  return {
    element,
    draw(units) {
      const all = Math.max(1, units.sold + units.held + units.available);
      let from = 0;
      for (const [at, state] of Object.keys(UNITS).entries()) {
        const width = units[state] / all * 100;
        parts[at].setAttribute("x", from);
        parts[at].setAttribute("width", width);
        from += width;
        texts[at].textContent = wholeFormat.format(units[state]);
      }
      bar.setAttribute("aria-label", `${title}: ${Object.entries(UNITS).map(([state, name]) => `${name} ${units[state]}`).join(", ")}`);
    },
  };
}

function answersTable() {
  const body = part("tbody");
  const heads = [[say("响应", "Response"), ""], [say("每秒", "Per second"), "number"], ["", ""], [say("累计", "Total"), "number"]];
  const head = part("tr", "", ...heads.map(([text, className]) => (text ? made("th", text, { scope: "col", className }) : made("td"))));
  const whole = part("table", "answers", made("caption", say("对买家的响应", "Responses to buyers")), part("thead", "", head), body);
  const rows = new Map();
  const row = (code) => {
    const [speed, count] = [made("td", "", { className: "number" }), made("td", "", { className: "number" })];
    const bar = drawn("rect", { x: 0, y: 0, height: 10, width: 0, class: /^2/.test(code) ? "good" : "other" });
    const chart = part("td", "gauge", drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, bar));
    const name = made("th", /^2/.test(code) ? say(`${code} 下单成功`, `${code} ordered`) : code, { scope: "row" });
    const line = part("tr", "", name, speed, chart, count);
    line.dataset.code = code;
    body.append(line);
    return { speed, count, bar };
  };
  return {
    whole,
    draw(last, before) {
      const rates = [...last.answers].map(([code]) => [code, rate(last, before, (sample) => sample.answers.get(code) || 0)]);
      const most = Math.max(1, ...rates.map(([, each]) => each));
      for (const [code, each] of rates) {
        if (!rows.has(code)) rows.set(code, row(code));
        const { speed, count, bar } = rows.get(code);
        speed.textContent = shortFormat.format(each);
        count.textContent = wholeFormat.format(last.answers.get(code));
        bar.setAttribute("width", each / most * 100);
      }
    },
  };
}

const BREAKERS = [say("正常", "closed"), say("半开，试探中", "half-open, probing"), say("断开，暂停调用", "open, calls suspended")];
const word = (isGood, good, bad) => made("span", isGood ? good : bad, { className: isGood ? "fine" : "error" });
function health(sample, activity) {
  const id = { activity: activity.id };
  const overdue = sample.sum("flashsale_hold_overdue_seconds", id);
  const breakers = part("span");
  for (const { labels: { dependency }, value } of sample.of("flashsale_breaker_state")) {
    const state = word(value === 0, BREAKERS[value], BREAKERS[value]);
    state.dataset.breaker = dependency;
    breakers.append(...(breakers.hasChildNodes() ? [", "] : []), `${dependency} `, state);
  }
  return facts([
    [say("账本", "Ledger"), word(sample.sum("flashsale_ledger_up") > 0, say("正常", "up"), say("停止", "down"))],
    [say("未就绪项", "Readiness problems"), word(sample.sum("flashsale_obstacles") === 0, say("无", "none"), wholeFormat.format(sample.sum("flashsale_obstacles")))],
    [say("最久逾期预占", "Longest overdue hold"), word(overdue < 30, `${overdue.toFixed(0)} s`, `${overdue.toFixed(0)} s`)],
    [say("待退款", "Refunds due"), wholeFormat.format(sample.sum("flashsale_refunds_due", id))],
    [say("死信", "Dead letters"), word(sample.sum("flashsale_jobs", { state: "dead" }) === 0, say("无", "none"), wholeFormat.format(sample.sum("flashsale_jobs", { state: "dead" })))],
    [say("连接数", "Connections"), wholeFormat.format(sample.sum("flashsale_http_connections", { listener: "public" }))],
    [say("熔断器", "Circuit breakers"), breakers.hasChildNodes() && breakers],
  ]);
}

async function watch(view, activity, skus) {
  const mine = generation;
  const state = made("p", say("加载中…", "Loading…"), { className: "hint" });
  const bars = new Map(activity.offers.map(({ sku_id }) => [sku_id, stockBar(sku_id, skus.get(sku_id).title)]));
  const orders = plot(say("每秒下单数（全部活动）", "Orders per second, all activities"), [say("单/秒", "orders/s")]);
  const queues = plot(say("队列", "Queues"), [say("排队请求", "queued requests"), say("发件箱积压", "outbox lag")]);
  const answers = answersTable();
  const figures = part("div");
  const differences = part("div", "differences");
  view.append(part("section", "live",
    part("div", "heading", made("h2", say("实时", "Live")), state),
    part("div", "plots", orders.figure, queues.figure), figures,
    part("div", "stocks", ...[...bars.values()].map(({ element }) => element)),
    part("div", "wide", answers.whole), differences));
  compare(differences, activity.id);
  const draw = async () => {
    const sample = await look();
    const lag = (each) => each.sum("flashsale_outbox_lag_entries", { activity: activity.id });
    for (const [sku, bar] of bars) {
      const of = (state) => sample.of("flashsale_units", { activity: activity.id, sku, state })[0]?.value;
      const units = of("available") === undefined
        ? await operate("GET", `/v1/activities/${activity.id}/offers/${sku}/stock`)
        : { available: of("available"), held: of("held"), sold: of("sold") };
      bar.draw(units);
    }
    orders.draw([seen.slice(1).map((each, at) => rate(each, seen[at], ({ placed }) => placed))]);
    queues.draw([seen.map(({ waiting }) => waiting), seen.map(lag)]);
    answers.draw(sample, seen.at(-1 - AVERAGED) || seen[0]);
    figures.replaceChildren(health(sample, activity));
    state.textContent = say(`更新于 ${clockFormat.format(new Date())}`, `Updated at ${clockFormat.format(new Date())}`);
    state.classList.remove("error");
  };
  const follow = async () => {
    for (let round = 1; mine === generation && token(); round += 1) {
      try {
        if (!document.hidden) await draw();
        // Follow changes by other operators and of the phase.
        if (round % 3 === 0 && !one("dialog")) {
          const now = await operate("GET", `/v1/activities/${activity.id}`);
          if (mine === generation && (now.version !== activity.version || now.phase !== activity.phase)) return show();
        }
      } catch (error) {
        state.textContent = advice(error);
        state.classList.add("error");
      }
      await pause(SECOND);
    }
  };
  follow();
}

// Reconciliation.

async function compare(container, activity) {
  const again = button(say("重新对账", "Check again"), () => compare(container, activity), { quiet: true, name: "compare" });
  let outcome;
  try {
    const { items, offers } = await operate("GET", "/v1/reconciliation");
    const found = activity ? items.filter((item) => item.activity_id === activity) : items;
    const when = clockFormat.format(new Date());
    outcome = found.length
      ? table(say("差异", "Differences"), [say("活动", "Activity"), say("规则", "Invariant"), say("差异", "Difference")], found.map((item) => [item.activity_id, item.invariant, item.detail]))
      : made("p", say(`没有差异（${when}，共 ${offers.length} 个商品）。`, `No differences (${when}, ${offers.length} offers).`), { className: "fine" });
    outcome.dataset.differences = found.length;
  } catch (error) {
    outcome = made("p", advice(error), { className: "error" });
  }
  container.replaceChildren(outcome, part("p", "buttons", again));
}

async function showChecks(view) {
  view.append(made("h1", say("对账", "Checks")));
  view.append(made("p", say("根据全部订单，逐条核对账本与商品目录的规则。", "Checks every invariant of ledger and catalogue against all orders."), { className: "hint" }));
  const findings = part("div");
  const letters = part("div");
  view.append(findings, made("h2", say("死信", "Dead letters")), made("p", say("多次重试仍失败的任务（退款、通知）。请查明原因后重试或丢弃。", "Jobs that failed repeatedly (refunds, notifications). Find the cause, then replay or discard them."), { className: "hint" }), letters);
  await Promise.all([compare(findings), showLetters(letters)]);
}

// Dead letters.

const LETTER_STEPS = {
  replay: [say("重试", "Replay"), say("重新执行该任务。", "The job is tried again from the beginning.")],
  discard: [say("丢弃", "Discard"), say("不再重试；退款任务将记为失败，需另行退款。", "The job is not tried again. A refund is recorded as failed, and the money must be returned in another way.")],
};

async function showLetters(container) {
  try {
    const letters = await listed("/v1/dead-letters", 500);
    if (!letters.length) {
      container.replaceChildren(made("p", say("没有死信。", "No dead letters."), { className: "fine" }));
      return;
    }
    container.replaceChildren(table(say("死信（最早的在前）", "Dead letters, oldest first"), [
      say("编号", "ID"), say("类型", "Kind"), say("任务", "Job"), say("错误", "Error"), say("尝试次数", "Attempts"), say("转入时间", "Parked at"), say("操作", "Actions"),
    ], letters.map((letter) => {
      const acts = part("span", "buttons");
      for (const [step, [label]] of Object.entries(LETTER_STEPS)) acts.append(button(label, () => endLetter(letter, step, container), { quiet: true, name: step }));
      return [letter.id, letter.topic, letter.job, letter.error, letter.attempts, moment(letter.parked_at), acts];
    })));
  } catch (error) {
    container.replaceChildren(made("p", advice(error), { className: "error" }));
  }
}

async function endLetter(letter, step, container) {
  const [label, meaning] = LETTER_STEPS[step];
  await fillIn(`${label}${say("：", ": ")}${apart(letter.job)}`, label, [made("p", meaning), reason()], async (form) => {
    try {
      await operate("POST", `/v1/dead-letters/${letter.id}/${step}`, why(form));
    } catch (error) {
      if (error.code !== "wrong_state") throw error;
      // A refund that has gone through after all.
      throw new Mistake(say("该退款已经成功，请勿另行退款。此死信已移除，请刷新本页。", advice(error)));
    }
    announce(say(`${label}：已完成`, `${label}: done`));
    await showLetters(container);
  });
}

// Products and SKUs.

async function showCatalogue(view) {
  const [products, skus] = await Promise.all([listed("/v1/products", 1000), listed("/v1/skus", 2000)]);
  view.append(made("h1", say("商品", "Products")));
  view.append(part("p", "buttons", button(say("新建商品", "New product"), () => writeProduct(), { name: "new-product" })));
  if (!products.length) view.append(made("p", say("暂无商品。", "No products yet."), { className: "empty" }));
  for (const product of products) {
    const own = skus.filter((sku) => sku.product_id === product.id);
    const box = part("section", "card",
      part("div", "heading", made("h2", product.name), made("span", product.id, { className: "hint digits" })),
      product.description ? made("p", product.description, { className: "text" }) : null);
    if (own.length) {
      box.append(table("SKU", [say("编号", "ID"), say("名称", "Name"), say("日常价", "Regular price"), say("操作", "Actions")], own.map((sku) => [
        sku.id, sku.name, money(sku.list_price), button(say("修改", "Edit"), () => writeSku(product, sku), { quiet: true }),
      ])));
    }
    box.append(part("p", "buttons", button(say("新建 SKU", "New SKU"), () => writeSku(product), { quiet: true, name: "new-sku" }), button(say("修改商品", "Edit product"), () => writeProduct(product), { quiet: true })));
    view.append(box);
  }
}

async function writeProduct(product) {
  const fields = [...nameFields(product), field({ name: "image", label: say("图片地址（选填）", "Picture URL (optional)"), value: product?.image || "", maxLength: 2048, autocomplete: "off" }), reason()];
  await fillIn(product ? say("修改商品", "Edit product") : say("新建商品", "New product"), say("保存", "Save"), fields, async (form) => {
    const { name, description, image } = form.elements;
    const body = { ...(product && { id: product.id }), name: name.value.trim(), description: description.value.trim() || null, image: image.value.trim() || null, ...why(form) };
    await operate("POST", "/v1/products", body, product?.version);
    known.clear();
    await show();
  });
}

async function writeSku(product, sku) {
  const fields = [
    field({ name: "name", label: say("名称", "Name"), value: sku?.name || "", required: true, maxLength: 120, autocomplete: "off" }),
    field({ name: "price", label: say("日常价", "Regular price"), value: sku ? major(sku.list_price) : "", inputMode: "decimal", required: true, autocomplete: "off" }),
    field({ name: "currency", label: say("币种", "Currency"), value: sku?.list_price.currency || "CNY", pattern: "[A-Z]{3}", maxLength: 3, required: true }), reason(),
  ];
  await fillIn(`${sku ? say("修改 SKU", "Edit SKU") : say("新建 SKU", "New SKU")}${say("：", ": ")}${apart(product.name)}`, say("保存", "Save"), fields, async (form) => {
    const { name, price, currency } = form.elements;
    const list_price = { amount: minor(price.value, currency.value), currency: currency.value };
    const body = { ...(sku && { id: sku.id }), product_id: product.id, name: name.value.trim(), list_price, ...why(form) };
    await operate("POST", "/v1/skus", body, sku?.version);
    known.clear();
    await show();
  });
}

// Orders, for customer support.

async function showOrders(view) {
  view.append(made("h1", say("订单", "Orders")));
  const found = part("div");
  found.setAttribute("aria-live", "polite");
  const search = (title, name, path, rules) => {
    const form = part("form", "search", field({ name, label: title, required: true, autocomplete: "off", ...rules }), made("button", say("查询", "Look up")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      listOrders(found, path(form.elements[name].value));
    });
    return form;
  };
  view.append(part("div", "searches",
    search(say("用户 ID", "User ID"), "user_id", (id) => `/v1/orders?user_id=${encodeURIComponent(id)}&limit=50`, { maxLength: 255 }),
    search(say("订单号", "Order number"), "order_id", (id) => `/v1/orders/${id}`, { pattern: "[0-9a-z\\-]+", maxLength: 48, autocapitalize: "none" })), found);
}

async function listOrders(container, path, earlier = []) {
  try {
    const answer = await operate("GET", path);
    const orders = [...earlier, ...(answer.items || [answer])];
    if (!orders.length) {
      container.replaceChildren(made("p", say("没有订单。", "No orders."), { className: "empty" }));
      return;
    }
    const again = () => listOrders(container, path, earlier);
    container.replaceChildren(table(say("订单（最新的在前）", "Orders, newest first"), [
      say("订单", "Order"), say("用户", "User"), say("活动 / SKU", "Activity / SKU"), say("数量", "Units"), say("金额", "Amount"), say("状态", "State"), say("下单时间", "Placed"), say("操作", "Actions"),
    ], orders.map((order) => {
      const acts = part("span", "buttons");
      if (["pending", "paying"].includes(order.status)) acts.append(button(say("取消", "Cancel"), () => cancelOrder(order, again), { quiet: true, name: "cancel" }));
      if (refundable(order) > 0 || returnable(order) > 0) acts.append(button(say("退款", "Refund"), () => refundOrder(order, again), { quiet: true, name: "refund" }));
      const state = part("span", "", ORDER_STATUSES[order.status] + (order.refund ? say(`，${REFUNDS[order.refund.status]}`, `, ${REFUNDS[order.refund.status].toLowerCase()}`) : ""));
      for (const line of moneyOf(order)) state.append(made("div", line, { className: "hint" }));
      return [order.order_id, order.user_id ?? say(`已删除（${order.user_number}）`, `erased (${order.user_number})`), `${order.activity_id} / ${order.sku_id}`, order.quantity, money(order.amount), state, moment(order.placed_at), acts.childElementCount ? acts : "–"];
    })));
    if (answer.next) {
      const base = path.replace(/&after=.*/, "");
      container.append(part("p", "buttons", button(say("更早的订单", "Earlier orders"), () => listOrders(container, `${base}&after=${encodeURIComponent(answer.next)}`, orders), { quiet: true })));
    }
  } catch (error) {
    container.replaceChildren(made("p", advice(error), { className: "error" }));
  }
}

async function cancelOrder(order, again) {
  await fillIn(say(`确定取消订单 ${order.order_id}？`, `Cancel order ${order.order_id}?`), say("取消订单", "Cancel order"), [reason()], async (form) => {
    await operate("POST", `/v1/orders/${order.order_id}/cancel`, why(form));
    await again();
  });
}

// Each capture and refund in a line, and the dispute.
const DISPUTES = { open: say("买家已提出争议，退款暂停", "Disputed: refunds wait"), won: say("争议已胜诉", "Dispute won"), lost: say("争议败诉，款项已被收回", "Dispute lost: the money went back") };
function moneyOf(order) {
  const captures = order.captures || [], refunds = order.refunds || [];
  const lines = captures.map(({ amount, at }) => say(`收款 ${money(amount)}，${moment(at)}`, `Received ${money(amount)}, ${moment(at)}`));
  lines.push(...refunds.map(({ status, amount, by }) => `${REFUNDS[status]} ${money(amount)}${by === "provider" ? say("（支付方发起）", " (by the provider)") : ""}`));
  if (order.dispute) lines.push(DISPUTES[order.dispute]);
  return lines;
}

// What can still go back: amounts in minor units of the order's currency, and units.
function refundable(order) {
  if (order.status !== "paid") return 0;
  const ours = (list) => (list || []).filter(({ amount }) => amount.currency === order.amount.currency);
  const sum = (list) => ours(list).reduce((total, { amount }) => total + amount.amount, 0);
  return Math.min(order.amount.amount, sum(order.captures) - sum(order.refunds));
}
const returnable = (order) => (order.status === "paid" ? order.quantity - (order.units_returned || 0) : 0);

async function refundOrder(order, again) {
  const { currency } = order.amount;
  const left = { amount: refundable(order), currency };
  const most = returnable(order);
  // A repeated press is the same refund; the dialog opened again is another one.
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const fields = [
    field({ name: "amount", label: say(`退款金额（${currency}）`, `Amount (${currency})`), value: major(left), inputMode: "decimal", hint: say(`最多 ${money(left)}`, `At most ${money(left)}`) }),
    field({ name: "units", label: say("退回可售库存的件数", "Units to return to stock"), kind: "number", min: 0, max: most, value: String(most), hint: say(`最多 ${most} 件`, `At most ${most}`) }),
    reason(true),
  ];
  await fillIn(say(`为订单 ${order.order_id} 退款`, `Refund order ${order.order_id}`), say("退款", "Refund"), fields, async (form) => {
    const { amount, units, reason: why } = form.elements;
    await operate("POST", `/v1/orders/${order.order_id}/refund`, { amount: minor(amount.value, currency), units_returned: number(units.value) ?? 0, reason: why.value.trim() }, undefined, key);
    await again();
  });
}

// The audit trail.

async function showAudit(view) {
  view.append(made("h1", say("审计", "Audit")));
  const { rows, hash, broken } = await operate("GET", "/v1/audit/verification");
  const whole = say(`共 ${rows} 条记录，哈希链完整。最后一条的哈希值：`, `${rows} rows, the hash chain is intact. Hash of the last row: `);
  const torn = broken && say(`第 ${broken.sequence} 条记录校验失败：${broken.reason}`, `Row ${broken.sequence} failed verification: ${broken.reason}`);
  view.append(part("p", broken ? "error" : "fine", broken ? torn : whole), made("p", hash, { className: "hash" }));
  const list = part("div");
  view.append(list);
  let items = [];
  const more = async (until) => {
    const after = Math.max(0, until - 50);
    const page = await operate("GET", `/v1/audit?after=${after}&limit=${Math.max(1, until - after)}`);
    items = [...items, ...page.items.reverse()];
    list.replaceChildren(table(say("操作记录（最新的在前）", "Audit trail, newest first"), ["#", say("时间", "Time"), say("操作人", "Actor"), say("操作", "Action"), say("对象", "Subject"), say("原因", "Reason"), say("详情", "Detail")],
      items.map((row) => [row.sequence, moment(row.at), row.actor, row.action, row.subject, row.reason, detailOf(row)])));
    if (after > 0) list.append(part("p", "buttons", button(say("更早的记录", "Earlier"), () => more(after), { quiet: true })));
  };
  if (rows) await more(rows);
}

function detailOf({ detail }) {
  if (detail === null || detail === undefined) return "–";
  return part("details", "", made("summary", say("查看", "Show")), made("pre", JSON.stringify(detail, null, 2)));
}

// The kill switch.

let stopped = false;
function showSwitch(state) {
  stopped = state.on;
  const banner = one("[data-stopped]");
  banner.hidden = !state.on;
  const text = say(`全部停售：${apart(state.reason)}（${apart(state.actor)}，${moment(state.changed_at)}）`, `All sales are stopped: ${apart(state.reason)} (${apart(state.actor)}, ${moment(state.changed_at)})`);
  if (state.on && banner.textContent !== text) banner.textContent = text;
  one("[data-kill]").textContent = state.on ? say("恢复销售", "Resume sales") : say("全部停售", "Stop all sales");
}

async function turnSwitch() {
  const on = !stopped;
  const title = on ? say("确定立即停止所有活动接单？", "Stop new orders for all activities now?") : say("确定恢复所有活动的销售？", "Resume sales for all activities?");
  await fillIn(title, on ? say("全部停售", "Stop all sales") : say("恢复销售", "Resume sales"), [reason(true)], async (form) => {
    showSwitch(await operate("PUT", "/v1/kill-switch", { on, reason: form.elements.reason.value.trim() }));
    wakeAll();
  });
}

async function followSwitch() {
  for (;;) {
    try { if (token() && !document.hidden) showSwitch(await operate("GET", "/v1/kill-switch")); } catch { /* Retried in the next round. */ }
    await pause(3 * SECOND);
  }
}

// Views.

function showSignIn(view) {
  const error = made("p", "", { className: "error", hidden: true });
  error.setAttribute("role", "alert");
  const enter = made("button", say("登录", "Sign in"));
  const secret = field({ name: "token", label: say("运营令牌", "Operations token"), kind: "password", required: true, autocomplete: "off" });
  const form = part("form", "", made("h1", say("登录控制台", "Sign in to the console")),
    made("p", say("令牌在服务器配置中设置；演示模式启动时会打印令牌。令牌仅保存在当前标签页中。", "Tokens are set in the server's configuration; demo mode prints them at startup. The token is kept in this tab only."), { className: "hint" }),
    secret, error, part("p", "buttons", enter));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (enter.disabled) return;
    enter.disabled = true;
    try {
      const given = form.elements.token.value.trim();
      showSwitch(await call("GET", "/v1/kill-switch", { token: given }));
      sessionStorage.setItem(KEY, given);
      await show();
    } catch (problem) {
      error.textContent = problem.status === 401 ? say("令牌不正确。", "The token is incorrect.") : advice(problem);
      error.hidden = false;
    } finally {
      enter.disabled = false;
    }
  });
  view.append(part("section", "card signin", form));
}

let generation = 0;
async function show() {
  generation += 1;
  const mine = generation;
  const [view, fresh, path] = [one("[data-view]"), part("div"), location.hash.replace(/^#\/?/, "").split("/")];
  const isIn = Boolean(token());
  for (const element of all("[data-entry], [data-kill], [data-leave]")) element.hidden = !isIn;
  if (!isIn) one("[data-stopped]").hidden = true;
  for (const link of all("[data-entry]")) {
    const here = link.hash.replace(/^#\/?/, "") === (path[0] === "activities" ? "" : path[0]);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const link of all("[data-language]")) link.hash = location.hash;
  view.setAttribute("aria-busy", "true");
  const views = { "": showActivities, catalogue: showCatalogue, orders: showOrders, checks: showChecks, audit: showAudit };
  try {
    if (!isIn) showSignIn(fresh);
    else if (path[0] === "activities" && /^\d+$/.test(path[1] || "")) await showActivity(fresh, path[1]);
    else await (views[path[0]] || showActivities)(fresh);
  } catch (error) {
    if (!one("h1", fresh)) fresh.prepend(made("h1", say("控制台", "Console")));
    fresh.append(made("p", error instanceof Refused ? advice(error) : say("数据加载失败，请刷新页面。", "The data could not be loaded. Please reload the page."), { className: "error" }));
    if (!(error instanceof Refused || error instanceof TypeError)) console.error(error);
  }
  if (mine !== generation) return;
  view.replaceChildren(...fresh.childNodes);
  view.removeAttribute("aria-busy");
  document.title = `${apart(one("h1", view).textContent)} · ${say("抢购控制台", "Sale console")}`;
}

addEventListener("hashchange", async () => {
  await show();
  scrollTo(0, 0);
  one("main").focus();
});
one("[data-leave]").addEventListener("click", signOut);
one("[data-kill]").addEventListener("click", turnSwitch);
show();
followSwitch();
