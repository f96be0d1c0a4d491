// Shows what the watching process says; the report is loaded anew when there is another one.
"use strict";
const bar = document.getElementById("bar");
const verdict = document.getElementById("verdict");
const summary = document.getElementById("summary");
const error = document.getElementById("error");
const report = document.getElementById("report");
let shown = "";
const events = new EventSource("/events");
events.onmessage = (event) => {
  const state = JSON.parse(event.data);
  bar.dataset.verdict = state.verdict;
  verdict.textContent = state.verdict;
  summary.textContent = state.summary;
  document.title = `${state.verdict} · ${state.recipe}`;
  error.textContent = state.error;
  error.hidden = !state.error;
  if (state.report && state.report !== shown) {
    shown = state.report;
    report.src = `/report?${encodeURIComponent(shown)}`;
    report.hidden = false;
  }
};
events.onerror = () => {
  bar.dataset.verdict = "gone";
  verdict.textContent = "gone";
  summary.textContent = "the watching process has ended";
};
