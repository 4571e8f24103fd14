// Figures with a row for each layer: bits over the front, shares of the costs, and bits over the epochs.
const makeLayerFigures = ({ data, state, number, named }, figures) => {
  const { trials, metrics, layers, bits, kinds } = data;
  const MOST_LABELLED_CELLS = 300;
  const heat = (columns) => ({
    z: layers.map((_, layer) => columns.map((column) => column[layer] ?? null)),
    customdata: layers.map((_, layer) => columns.map(() => `${data.hover_layers[layer]}: ${kinds[state.kind]}`)),
    zmax: Math.max(data.most[state.kind], 2),
  });
  const frontColumns = () => state.front.map((trial) => bits[state.kind][trial]);
  const drawFront = () => {
    const { data: traces, layout } = readIsland("heat-data");
    const text = layers.map(() => state.front.map((trial) => data.hover_names[trial]));
    if (state.front.length * layers.length > MOST_LABELLED_CELLS) delete traces[0].texttemplate;
    layout.xaxis.tickvals = [...state.front.keys()];
    layout.xaxis.ticktext = state.front.map((trial) => trials.trial[trial] ?? "—");
    layout.xaxis.showticklabels = state.front.length <= 30;
    figures.redraw(byId("heat"), [{ ...traces[0], ...heat(frontColumns()), x: layout.xaxis.tickvals, text }], layout);
  };
  const keepers = () => {
    if (!state.front.length) return "No trial passes the filters.";
    const columns = frontColumns();
    const least = layers.map((_, layer) => Math.min(...columns.map((column) => column[layer] ?? Infinity)));
    const top = Math.max(...least);
    const names = layers.filter((_, layer) => least[layer] === top);
    const more = names.length > 6 ? ` and ${names.length - 6} more` : "";
    return `Every plan of the front gives at least ${number(top)} ${kinds[state.kind]} to ${names.slice(0, 6).join(", ")}${more}.`;
  };
  const showFront = () => {
    byId("heat").hidden = !state.front.length;
    byId("keepers").textContent = keepers();
    if (state.front.length) figures.drawSoon(byId("heat"), drawFront);
  };

  const drawShares = (names, shares) => {
    const { data: traces, layout } = readIsland("shares-data");
    const columns = Object.keys(metrics).filter((metric) => shares[metric]);
    const rows = layers.map((name) => names.indexOf(name));
    const z = rows.map((row) => columns.map((metric) => (row < 0 ? null : 100 * shares[metric][row])));
    const customdata = layers.map((_, layer) => columns.map(() => data.hover_layers[layer]));
    layout.xaxis.tickvals = [...columns.keys()];
    layout.xaxis.ticktext = columns.map((metric) => metrics[metric].label);
    const text = z.map(() => layout.xaxis.ticktext);
    figures.redraw(byId("shares"), [{ ...traces[0], z, customdata, x: layout.xaxis.tickvals, text }], layout);
  };
  const drawCurves = (curves) => {
    const { data: traces, layout } = readIsland("curves-data");
    const { x, text, lines } = curves;
    const fill = (trace) =>
      trace.meta ? { y: lines[trace.meta], text } : { ...heat(curves.bits[state.kind]), text: layers.map(() => text) };
    layout.shapes = curves.turns.map((at) => ({ ...data.divider, x0: at, x1: at }));
    layout.xaxis.dtick = curves.tick;
    if (!curves.logged) delete layout.yaxis5;
    const drawn = traces.filter((trace) => trace.meta || curves.logged);
    figures.redraw(byId("curves"), drawn.map((trace) => ({ ...trace, ...fill(trace), x })), layout);
  };
  const showPlan = ({ plan, shares, curves }) => {
    const trial = named(state.selected);
    const costed = Object.keys(shares).length > 0;
    byId("shares").hidden = !costed;
    byId("shares-of").textContent = `${trial}${costed ? "." : ": the run logged no costs of single layers."}`;
    const names = Object.keys(JSON.parse(plan).layers);
    if (costed) figures.drawSoon(byId("shares"), () => drawShares(names, shares));
    const logged = curves.x.length > 0;
    byId("curves").hidden = !logged;
    byId("curves-of").textContent = `${trial}: ${curves.words}`;
    figures.drawSoon(byId("curves"), () => (logged ? drawCurves(curves) : Plotly.purge(byId("curves"))));
  };
  return { showFront, showPlan };
};
