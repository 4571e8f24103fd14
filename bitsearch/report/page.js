// Draws the figures from the data that the page carries, and switches the front's axes.
(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "pareto" },
  };
  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) {
    const figure = read(`${plot.id}-data`);
    // A finger scrolls the page; only a pointer that hovers can draw a rectangle to zoom into.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    Plotly.newPlot(plot, figure.data, figure.layout, { ...config, displayModeBar: plot.id === "front" ? "hover" : false });
  }

  const front = document.getElementById("front");
  const views = read("views");
  const press = (button) => {
    for (const other of button.parentElement.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  };
  for (const button of document.querySelectorAll("button[data-metric]")) {
    button.addEventListener("click", () => {
      const view = views.metrics[button.dataset.metric];
      press(button);
      Plotly.update(front, structuredClone(view.data), structuredClone(view.layout));
    });
  }
  for (const button of document.querySelectorAll("button[data-accuracy]")) {
    button.addEventListener("click", () => {
      press(button);
      Plotly.relayout(front, { "yaxis.range": [...views.accuracy[button.dataset.accuracy]] });
    });
  }

  // Paper is narrower than most windows, and print starts before a resize would be noticed.
  const height = front.layout.height;
  addEventListener("beforeprint", () => {
    plots.forEach((plot) => Plotly.relayout(plot, { width: 660 }));
    Plotly.relayout(front, { height: 340 });
  });
  addEventListener("afterprint", () => {
    plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true }));
    Plotly.relayout(front, { height });
  });
})();
