"use strict";
// The pages are complete without this file. It adds details under the pointer, enlarged charts, and pages that reload.

// Details: the titles that the charts have anyway, at once and beside the pointer.
const hint = document.createElement("div");
hint.className = "hint-box";
hint.hidden = true;
document.body.append(hint);

function showHint(event) {
  const hit = event.target.closest?.("svg .hit");
  const text = hit?.querySelector("title") ?? hit?.shownTitle;
  if (!text) {
    hint.hidden = true;
    return;
  }
  if (text.isConnected) { // taken out, so that the browser does not show it too
    hit.shownTitle = text;
    hit.setAttribute("aria-label", text.textContent);
    text.remove();
  }
  hint.textContent = hit.shownTitle.textContent;
  const parent = hit.closest("dialog") ?? document.body;
  if (hint.parentNode !== parent) parent.append(hint);
  hint.hidden = false;
  const origin = parent === document.body ? { left: -scrollX, top: -scrollY } : parent.getBoundingClientRect();
  const room = document.documentElement.clientWidth - hint.offsetWidth - 8;
  hint.style.left = `${Math.max(Math.min(event.clientX + 12, room), 8) - origin.left + (parent.scrollLeft ?? 0) * (parent !== document.body)}px`;
  hint.style.top = `${event.clientY + 16 - origin.top + (parent.scrollTop ?? 0) * (parent !== document.body)}px`;
}
document.addEventListener("pointermove", showHint);
document.addEventListener("pointerdown", showHint);

// Zoom: a chart in a dialog, as large as the window or larger.
const dialog = document.createElement("dialog");
dialog.className = "zoom";
dialog.setAttribute("aria-label", "Enlarged chart");
const bar = document.createElement("div");
bar.className = "actions";
const place = document.createElement("div");
place.className = "plot";
place.tabIndex = 0;
place.setAttribute("role", "group");
place.setAttribute("aria-label", "Chart");
dialog.append(bar, place);
document.body.append(dialog);
let zoomed = null;
let size = 100;

function resize(percent) {
  size = Math.min(Math.max(percent, 50), 400);
  zoomed.svg.style.width = `${size}%`;
  zoomed.svg.style.maxWidth = "none";
}
for (const [label, act] of [
  ["Larger", () => resize(size * 1.5)],
  ["Smaller", () => resize(size / 1.5)],
  ["Close", () => dialog.close()],
]) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button plain";
  button.textContent = label;
  button.addEventListener("click", act);
  bar.append(button);
}
dialog.addEventListener("close", () => {
  zoomed.svg.style.width = zoomed.svg.style.maxWidth = "";
  zoomed.home.append(zoomed.svg);
});
for (const figure of document.querySelectorAll("figure.chart")) {
  const home = figure.querySelector(".plot");
  const svg = home?.querySelector("svg");
  const caption = figure.querySelector("figcaption");
  if (!svg || !caption) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", `Enlarge “${caption.textContent.trim()}”`);
  button.addEventListener("click", () => {
    zoomed = { svg, home };
    place.append(svg);
    resize(100);
    dialog.showModal();
  });
  caption.append(" ", button);
}

// Reload while a result is pending.
const pending = document.querySelector("[data-reload]");
if (pending) setTimeout(() => location.reload(), 1000 * Number(pending.dataset.reload));
