"use strict";
// Draws every plot, one after the other so that the page can be read meanwhile, and hides what is not picked.
const plots = [...document.querySelectorAll(".plot")];
const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

async function drawAll() {
  for (const plot of plots) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    for (const trace of data) if (trace.legendgroup !== undefined) trace.visible = isPicked(plot, trace.legendgroup);
    await Plotly.newPlot(plot, data, layout, config);
    await new Promise((next) => setTimeout(next));
  }
  document.documentElement.dataset.drawn = "all";
}

function section(node) {
  return node.closest("main > section");
}

function boxes(node) {
  return [...section(node).querySelectorAll(".methods input")];
}

function isPicked(plot, method) {
  const box = boxes(plot).find((each) => each.dataset.method === method);
  return box === undefined || box.checked;
}

document.addEventListener("change", (event) => {
  const { method } = event.target.dataset;
  if (method === undefined) return;
  for (const box of boxes(event.target)) if (box.dataset.method === method) box.checked = event.target.checked;
  for (const plot of section(event.target).querySelectorAll(".js-plotly-plot")) {
    const traces = plot.data.flatMap((trace, i) => (trace.legendgroup === method ? [i] : []));
    if (traces.length) Plotly.restyle(plot, { visible: event.target.checked }, traces);
  }
});

drawAll();
