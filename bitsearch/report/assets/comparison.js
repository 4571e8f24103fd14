(async () => {
  await loadPlotly();
  const figure = JSON.parse(document.getElementById("front-data").textContent);
  const plot = document.getElementById("front");
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displaylogo: false });
})();
