"use strict";
// Follow a running run by server-sent events. Without this file, the page is loaded again every few seconds.
(() => {
  const followed = document.querySelector("[data-events]");
  if (!followed || !window.EventSource) return;
  const state = document.querySelector("[data-state]");
  const log = document.querySelector("[data-log]");
  const source = new EventSource(followed.dataset.events);

  const setText = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };

  source.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    setText(state, run.state);
    for (const step of run.steps) {
      const row = document.querySelector(`[data-step="${Number(step.number)}"]`);
      if (!row) continue;
      row.className = `step ${step.state}`;
      setText(row.querySelector("[data-step-state]"), step.state);
      setText(row.querySelector("[data-step-took]"), step.took);
      setText(row.querySelector("[data-step-detail]"), step.detail);
    }
    if (log) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      setText(log, run.log);
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  });
  source.addEventListener("end", () => {
    source.close();
    window.location.reload();
  });
})();
