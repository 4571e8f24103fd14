/* Paper is narrower than most windows, no figure may reach over its end, and print starts before a resize would be
   noticed. `mostOf` says how high a figure may be, `first` draws what is not drawn yet. */
const PAPER = { width: 660, height: 900 };
const fitPaper = ({ mostOf = () => PAPER.height, first = () => {} } = {}) => {
  const heights = new Map();
  addEventListener("beforeprint", () => {
    first();
    for (const plot of [...document.querySelectorAll(".plot")].filter(({ layout }) => layout)) {
      heights.set(plot, plot.layout.height);
      const height = Math.min(mostOf(plot), plot.layout.height);
      Plotly.relayout(plot, { width: PAPER.width, height });
      plot.style.minHeight = `${height}px`;
    }
  });
  addEventListener("afterprint", () => {
    for (const [plot, height] of heights) {
      Plotly.relayout(plot, { width: null, autosize: true, height });
      plot.style.minHeight = `${height}px`;
    }
    heights.clear();
  });
  return { prints: () => heights.size > 0 };
};
