// Lines through what each trial had and became. Plotly's own parallel coordinates make programs at run time, which the
// page's policy forbids.
const makeParallelLines = ({ data, state, means, cost, amount }, figures, select) => {
  const { trials, metrics, kinds, parameters } = data;
  const plot = byId("parallel");
  let isDrawn = false; // plotly takes listeners once it is
  const missing = (value) => value === null || value === undefined;
  const dimension = (name, values, text, log = false) => {
    const known = values.filter((value) => !missing(value));
    const place = (value) => (log ? Math.log(value) : value);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const span = place(most) - place(least);
    const height = (value) => (missing(value) ? null : span ? (place(value) - place(least)) / span : 0.5);
    return { name, known, heights: values.map(height), ends: span ? [text(least), text(most)] : [text(least)] };
  };
  const draw = () => {
    const { layout } = readIsland("parallel-data");
    const measured = state.shown.filter((trial) => cost(trial) !== null);
    const scoreText = (value) => trials.validation_text[trials.validation.indexOf(value)];
    const costs = measured.map((trial) => cost(trial));
    const number = (value) => Number(value.toPrecision(3)).toString();
    const dimensions = [
      dimension("Method", measured.map((trial) => trials.method[trial]), (method) => data.method_labels[method]),
      ...Object.entries(parameters).map(([name, values]) => dimension(name, measured.map((trial) => values[trial]), number)),
      ...kinds.map((kind, index) => dimension(`Mean ${kind}`, measured.map((trial) => means[index][trial]), number)),
      dimension(metrics[state.metric].label, costs, (value) => amount(value), Math.min(...costs) > 0),
      dimension("Validation", measured.map((trial) => trials.validation[trial]), scoreText),
    ].filter(({ known }) => known.length);
    const scores = dimensions.at(-1)?.heights ?? [];
    const shades = data.shades.length;
    // The more lines there are, the thinner; the best trials lie on top.
    const width = Math.min(Math.max(12 / Math.sqrt(measured.length || 1), 0.25), 1.2);
    const traces = data.shades.map((color, shade) => {
      const members = [...measured.keys()].filter((at) => Math.min(Math.floor(scores[at] * shades), shades - 1) === shade);
      const each = (value) => members.flatMap((at) => [...dimensions.map(() => value(measured[at])), null]);
      return {
        mode: "lines",
        x: members.flatMap(() => [...dimensions.keys(), null]),
        y: members.flatMap((at) => [...dimensions.map(({ heights }) => heights[at]), null]),
        customdata: each((trial) => trial),
        text: each((trial) => data.hover_names[trial]),
        hovertemplate: "%{text}<extra></extra>",
        line: { color, width },
      };
    });
    layout.xaxis.tickvals = [...dimensions.keys()];
    layout.xaxis.ticktext = dimensions.map(({ name }) => name.replace(/[ _]/g, "$&<br>")); // names stand side by side
    layout.xaxis.range = [-0.4, dimensions.length - 0.6];
    layout.annotations = dimensions.flatMap(({ ends }, x) =>
      ends.map((text, y) => ({ x, y, text, showarrow: false, yshift: y ? 12 : -12, font: { size: 11 } })),
    );
    figures.redraw(plot, traces, layout);
    if (!isDrawn) plot.on("plotly_click", ({ points }) => select(points[0].customdata));
    isDrawn = true;
  };
  return { draw };
};
