"use strict";
// Follow a run and its log by server-sent events. Without this file, the page is loaded again every few seconds.
(() => {
  const followed = document.querySelector("[data-events]");
  if (!followed || !window.EventSource) return;
  const state = document.querySelector("[data-state]");
  const log = document.querySelector("[data-log]");
  const source = new EventSource(followed.dataset.events);

  const setText = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };

  const elapsed = document.querySelector("[data-elapsed]");
  const words = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
  };
  const loaded = performance.now();
  const timer = window.setInterval(() => {
    if (elapsed) setText(elapsed, words(Number(elapsed.dataset.elapsed) + (performance.now() - loaded) / 1000));
  }, 1000);

  source.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    setText(state, run.state);
    if (!run.running) window.clearInterval(timer);
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
  // A browser gives up for ever if the server refuses, for example because it has too many followers.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) window.setTimeout(() => window.location.reload(), 5000);
  });
  source.addEventListener("end", () => {
    source.close();
    window.clearInterval(timer);
    window.location.reload();
  });
})();
