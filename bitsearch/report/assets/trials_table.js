// All trials, in a table to sort and search.
const makeTrialsTable = ({ data, state, means, cost, amount }, select) => {
  const { trials, metrics, kinds } = data;
  const PAGE_ROWS = 20;
  const view = { key: "trial", descending: false, page: 0, words: "" };
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
      const button = makeElement("button", { type: "button" });
      button.addEventListener("click", () => {
        Object.assign(view, { descending: view.key === key && !view.descending, key, page: 0 });
        draw();
      });
      return [key, makeElement("th", { scope: "col" }, button)];
    }),
  );
  byId("trials-head").append(...Object.values(heads));

  const ordered = () => {
    const { value } = columns[view.key];
    const sign = view.descending ? -1 : 1;
    const words = view.words.toLowerCase();
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    return state.shown
      .filter((trial) => data.names[trial].toLowerCase().includes(words))
      .sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        if (first === null || second === null) return (first === null) - (second === null) || a - b;
        return sign * compare(first, second) || a - b;
      });
  };
  const rowOf = (trial) => {
    const open = makeElement("button", { type: "button" }, columns.trial.text(trial));
    open.setAttribute("aria-label", `Show the plan of ${data.names[trial]}`);
    open.addEventListener("click", () => select(trial));
    const cells = Object.values(columns).slice(1).map(({ text }) => makeElement("td", {}, text(trial)));
    return makeElement("tr", {}, makeElement("th", { scope: "row" }, open), ...cells);
  };
  const draw = () => {
    const rows = ordered();
    const last = Math.max(Math.ceil(rows.length / PAGE_ROWS) - 1, 0);
    view.page = Math.min(view.page, last);
    const part = rows.slice(view.page * PAGE_ROWS, (view.page + 1) * PAGE_ROWS);
    columns.cost.title = metrics[state.metric].title;
    for (const [key, head] of Object.entries(heads)) {
      head.firstChild.textContent = columns[key].title;
      head.ariaSort = key !== view.key ? "none" : view.descending ? "descending" : "ascending";
    }
    byId("trials-rows").replaceChildren(...part.map(rowOf));
    const range = rows.length ? `${view.page * PAGE_ROWS + 1} to ${view.page * PAGE_ROWS + part.length} of ` : "";
    byId("trials-count").textContent = rows.length ? `${range}${rows.length} trials` : "No trial passes.";
    byId("trials-before").disabled = view.page === 0;
    byId("trials-after").disabled = view.page === last;
  };
  const turn = (pages) => () => {
    view.page += pages;
    draw();
  };
  byId("trials-before").addEventListener("click", turn(-1));
  byId("trials-after").addEventListener("click", turn(1));
  byId("trials-words").addEventListener("input", ({ target }) => {
    Object.assign(view, { words: target.value, page: 0 });
    draw();
  });
  return { draw };
};
