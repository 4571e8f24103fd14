// When figures are drawn: at once, once they come into view, or for paper.
const makeFigures = (config) => {
  const still = { ...config, displayModeBar: false };
  const draw = (plot, options = still) => {
    const figure = readIsland(`${plot.id}-data`);
    // A finger scrolls the page; only a pointer that hovers can draw a rectangle to zoom into.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    for (const [number, trace] of figure.data.entries()) {
      if (trace.meta !== "trials") continue;
      Object.assign(trace, { uid: `painted${number}`, selectedpoints: null });
      trace.marker.maxdisplayed = 1; // the canvas shows the others
    }
    return Plotly.newPlot(plot, figure.data, figure.layout, options);
  };
  const redraw = (plot, traces, layout) => Plotly.react(plot, traces, layout, still);

  /* Most figures are drawn once they come into view, or one by one while nobody asks for anything, so that paper and
     pictures of the whole page have them; and anew when what they show has changed. */
  const waiting = new Map();
  let rest = null;
  const drawWaiting = (plot) => {
    const drawPlot = waiting.get(plot);
    waiting.delete(plot);
    drawPlot?.();
  };
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) drawWaiting(target);
  });
  const drawRest = () => {
    const [plot] = waiting.keys();
    if (!plot) return;
    drawWaiting(plot);
    rest = setTimeout(drawRest);
  };
  const drawSoon = (plot, drawPlot) => {
    waiting.set(plot, drawPlot);
    watch.unobserve(plot); // so that one in view is told of again
    watch.observe(plot);
    clearTimeout(rest);
    rest = setTimeout(drawRest, 250);
  };

  const fitFront = (front) => {
    const paper = fitPaper({
      mostOf: (plot) => (plot === front ? 340 : PAPER.height),
      first: () => [...waiting.keys()].forEach(drawWaiting),
    });
    // A pinned plan takes of the figure's width.
    new ResizeObserver(() => {
      if (!paper.prints() && Math.abs(front.clientWidth - front._fullLayout.width) > 1) Plotly.Plots.resize(front);
    }).observe(front);
  };
  return { draw, redraw, drawSoon, fitFront };
};
