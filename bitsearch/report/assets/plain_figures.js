(async () => {
  await loadPlotly();
  for (const plot of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(document.getElementById(`${plot.id}-data`).textContent);
    Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displaylogo: false });
  }
  fitPaper();
})();
