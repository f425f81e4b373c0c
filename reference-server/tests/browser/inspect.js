// Checks the rules for every page and returns the violations.
const faults = [];
const visible = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
const named = (element) => `<${element.tagName.toLowerCase()}> ${element.outerHTML.slice(0, 120)}`;

if (!document.documentElement.lang) faults.push("the page has no language");
if (!document.title.trim()) faults.push("the page has no title");
if (document.querySelectorAll("h1").length !== 1) faults.push("the page does not have exactly one h1");
if (document.querySelectorAll("main").length !== 1) faults.push("the page does not have exactly one main");
if (document.documentElement.scrollWidth > innerWidth) faults.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) faults.push("two elements have the same id");

for (const control of document.querySelectorAll("a[href], button, input, select")) {
  if (!visible(control) || control.closest("[aria-hidden=true]")) continue;
  const text = control.matches("input, select") ? [...control.labels].map((label) => label.textContent).join("") : control.textContent;
  if (!text.trim() && !control.getAttribute("aria-label")) faults.push(`no accessible name: ${named(control)}`);
}
for (const image of document.images) if (!image.hasAttribute("alt")) faults.push(`no alt: ${named(image)}`);

// Contrast by WCAG 2.2, 1.4.3: at least 4.5, or 3 for large text; disabled controls are exempt.
const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const over = (top, below) => [0, 1, 2].map((at) => top[at] * (top[3] ?? 1) + below[at] * (1 - (top[3] ?? 1)));
function ground(element) {
  if (!element) return [255, 255, 255];
  const own = rgb(getComputedStyle(element).backgroundColor);
  return own[3] === 0 ? ground(element.parentElement) : over(own, ground(element.parentElement));
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !visible(element)) continue;
  if (element.closest(".unseen, .skip, script, noscript, :disabled, [aria-hidden=true]")) continue;
  const style = getComputedStyle(element);
  const [back, front] = [ground(element), over(rgb(style.color), ground(element))];
  const [high, low] = [light(back), light(front)].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${named(element)}`);
}
return faults;
