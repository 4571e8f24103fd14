// All trials: a table to sort and search, and lines through what each trial had and became.
const allTrials = ({ byId, read, make, data, cost, amount, select, still }) => {
  const { trials, metrics, bits, kinds, parameters } = data;
  const pageRows = 20;
  const view = { key: "trial", descending: false, page: 0, words: "" };
  let [shown, metric] = [[], data.metric];
  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const means = bits.map((rows) => rows.map(mean));
  const column = (title, value, text = value) => ({ title, value, text });
  const meanColumn = (kind) =>
    column(`Mean ${kinds[kind]}`, (trial) => means[kind][trial], (trial) => means[kind][trial].toFixed(2));
  const columns = {
    trial: column("Trial", (trial) => trials.trial[trial], (trial) => String(trials.trial[trial] ?? "—")),
    plan: column("Plan", (trial) => data.names[trial]),
    validation: column("Validation", (trial) => trials.validation[trial], (trial) => trials.validation_text[trial]),
    test: column("Test", (trial) => trials.test[trial], (trial) => trials.test_text[trial]),
    cost: column("", (trial) => cost(trial), (trial) => amount(cost(trial))),
    weights: meanColumn(0),
    spikes: meanColumn(1),
    steps: meanColumn(2),
    met: column("Within the budget", (trial) => Number(trials.met[trial]), (trial) => (trials.met[trial] ? "yes" : "no")),
  };
  const heads = Object.fromEntries(
    Object.keys(columns).map((key) => {
      const button = make("button", { type: "button" });
      button.addEventListener("click", () => {
        Object.assign(view, { descending: view.key === key && !view.descending, key, page: 0 });
        drawTable();
      });
      return [key, make("th", { scope: "col" }, button)];
    }),
  );
  byId("trials-head").append(...Object.values(heads));

  const ordered = () => {
    const { value } = columns[view.key];
    const sign = view.descending ? -1 : 1;
    const words = view.words.toLowerCase();
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    return shown
      .filter((trial) => data.names[trial].toLowerCase().includes(words))
      .sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        if (first === null || second === null) return (first === null) - (second === null) || a - b;
        return sign * compare(first, second) || a - b;
      });
  };
  const drawTable = () => {
    const rows = ordered();
    const last = Math.max(Math.ceil(rows.length / pageRows) - 1, 0);
    view.page = Math.min(view.page, last);
    const part = rows.slice(view.page * pageRows, (view.page + 1) * pageRows);
    columns.cost.title = metrics[metric].title;
    for (const [key, head] of Object.entries(heads)) {
      head.firstChild.textContent = columns[key].title;
      head.ariaSort = key !== view.key ? "none" : view.descending ? "descending" : "ascending";
    }
    byId("trials-rows").replaceChildren(
      ...part.map((trial) => {
        const open = make("button", { type: "button" }, columns.trial.text(trial));
        open.setAttribute("aria-label", `Show the plan of ${data.names[trial]}`);
        open.addEventListener("click", () => select(trial));
        const cells = Object.values(columns).slice(1).map(({ text }) => make("td", {}, text(trial)));
        return make("tr", {}, make("th", { scope: "row" }, open), ...cells);
      }),
    );
    const range = rows.length ? `${view.page * pageRows + 1} to ${view.page * pageRows + part.length} of ` : "";
    byId("trials-count").textContent = rows.length ? `${range}${rows.length} trials` : "No trial passes.";
    byId("trials-before").disabled = view.page === 0;
    byId("trials-after").disabled = view.page === last;
  };
  const turn = (pages) => () => {
    view.page += pages;
    drawTable();
  };
  byId("trials-before").addEventListener("click", turn(-1));
  byId("trials-after").addEventListener("click", turn(1));
  byId("trials-words").addEventListener("input", ({ target }) => {
    Object.assign(view, { words: target.value, page: 0 });
    drawTable();
  });

  /* Plotly's own parallel coordinates make programs at run time, which the page's policy forbids. */
  const dimension = (name, values, text, log = false) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    const place = (value) => (log ? Math.log(value) : value);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const span = place(most) - place(least);
    const height = (value) => (value === null || value === undefined ? null : span ? (place(value) - place(least)) / span : 0.5);
    return { name, known, heights: values.map(height), ends: [text(least), text(most)] };
  };
  const plot = byId("parallel");
  const drawLines = () => {
    const { layout } = read("parallel-data");
    const measured = shown.filter((trial) => cost(trial) !== null);
    const scoreText = (value) => trials.validation_text[trials.validation.indexOf(value)];
    const costs = measured.map((trial) => cost(trial));
    const number = (value) => Number(value.toPrecision(3)).toString();
    const dimensions = [
      dimension("Method", measured.map((trial) => trials.method[trial]), (method) => data.method_labels[method]),
      ...Object.entries(parameters).map(([name, values]) => dimension(name, measured.map((trial) => values[trial]), number)),
      ...kinds.map((kind, index) => dimension(`Mean ${kind}`, measured.map((trial) => means[index][trial]), number)),
      dimension(metrics[metric].label, costs, (value) => amount(value, metric), Math.min(...costs) > 0),
      dimension("Validation", measured.map((trial) => trials.validation[trial]), scoreText),
    ].filter(({ known }) => known.length);
    const accuracy = dimensions.at(-1)?.heights ?? [];
    const shades = data.shades.length;
    const line = (at) => [...dimensions.map(({ heights }) => heights[at]), null];
    const traces = data.shades.map((color, shade) => {
      const members = [...measured.keys()].filter(
        (at) => Math.min(Math.floor(accuracy[at] * shades), shades - 1) === shade,
      );
      const each = (value) => members.flatMap((at) => [...dimensions.map(() => value(measured[at])), null]);
      return {
        mode: "lines",
        x: members.flatMap(() => [...dimensions.keys(), null]),
        y: members.flatMap(line),
        customdata: each((trial) => trial),
        text: each((trial) => data.hover_names[trial]),
        hovertemplate: "%{text}<extra></extra>",
        line: { color, width: 1.2 },
      };
    });
    layout.xaxis.tickvals = [...dimensions.keys()];
    layout.xaxis.ticktext = dimensions.map(({ name }) => name);
    layout.xaxis.range = [-0.4, dimensions.length - 0.6];
    layout.annotations = dimensions.flatMap(({ ends }, x) =>
      ends.map((text, y) => ({ x, y, text, showarrow: false, yshift: y ? 12 : -12, font: { size: 11 } })),
    );
    Plotly.react(plot, traces, layout, still);
    listen();
  };
  const listen = () => {
    if (plot.dataset.listens) return;
    plot.dataset.listens = "";
    plot.on("plotly_click", ({ points }) => select(points[0].customdata));
  };
  const show = (trialsShown, shownMetric) => {
    [shown, metric] = [trialsShown, shownMetric];
    drawTable();
  };
  return { show, drawLines };
};
