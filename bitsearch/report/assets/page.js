// Draws the report from the data that the page carries, and answers what people do to it.
(async () => {
  await loadPlotly();
  const view = readTrials();
  const { data, state, cost, named, describe, paretoFront } = view;
  const { trials, bits } = data;
  const figures = makeFigures(data.config);
  const front = makeFront(view, figures);
  for (const plot of all(".plot[data-figure]")) {
    if (plot.id !== "front") figures.drawSoon(plot, () => figures.draw(plot));
  }

  const showPlans = async () => {
    const detail = await plans.show();
    if (detail) layers.showPlan(detail);
  };
  const show = (change) => {
    Object.assign(state, change);
    front.placeMarks();
    showPlans();
  };
  const setPinned = (pinned) => show({ pinned });
  const select = (selected) => {
    if (selected === undefined) return;
    byId("status").textContent = `${named(selected)}: ${describe(selected)}`;
    show({ selected });
  };
  front.onClick(select);
  const plans = makePlanCards(view, setPinned);
  const layers = makeLayerFigures(view, figures);
  const slider = makeBudgetSlider(view, front, select);
  const table = makeTrialsTable(view, select);
  const lines = makeParallelLines(view, figures, select);

  /* All that follows the metric and the filters. */
  const refresh = (isDrawn = true) => {
    state.front = paretoFront(state.shown);
    (isDrawn ? front.draw : front.paint)();
    slider.reset();
    layers.showFront();
    table.draw();
    figures.drawSoon(byId("parallel"), lines.draw);
    showPlans();
  };
  const indices = [...trials.trial.keys()];
  const steps = indices.map((trial) => Math.max(...bits[2][trial].filter((value) => value !== null)));
  const filter = (event) => {
    const methods = new Set(all("input[name=method]:checked").map((box) => box.value));
    const most = Number(byId("filter-steps").value);
    const [layer, kind] = [Number(byId("filter-layer").value), Number(byId("filter-kind").value)];
    const [low, high] = [byId("filter-low").valueAsNumber, byId("filter-high").valueAsNumber];
    const passes = (trial) => {
      const value = layer < 0 ? null : bits[kind][trial][layer];
      const width = layer < 0 || (value !== null && !(value < low) && !(value > high));
      const measured = trials.validation[trial] !== null;
      return measured && width && methods.has(data.methods[trials.method[trial]]) && steps[trial] <= most;
    };
    state.shown = indices.filter(passes);
    byId("filter-count").textContent = `${state.shown.length} of ${indices.length} plans`;
    refresh(event !== undefined);
  };
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("reset", (event) => setTimeout(filter, 0, event));
  for (const key of ["metric", "axis", "range", "kind"]) {
    for (const button of all(`button[data-${key}]`)) {
      button.addEventListener("click", () => {
        for (const other of all("button", button.parentElement)) other.ariaPressed = String(other === button);
        state[key] = key === "kind" ? Number(button.dataset.kind) : button.dataset[key];
        if (key !== "kind") return refresh();
        layers.showFront();
        return showPlans();
      });
    }
  }

  /* Keys on the front: from plan to plan by cost, or along the front. */
  const next = (list, step) => {
    const order = [...list].filter((trial) => cost(trial) !== null).sort((a, b) => cost(a) - cost(b) || a - b);
    const at = order.indexOf(state.selected);
    if (at >= 0) return order[Math.min(Math.max(at + step, 0), order.length - 1)];
    const here = cost(state.selected);
    return step > 0 ? order.find((trial) => cost(trial) > here) : order.findLast((trial) => cost(trial) < here);
  };
  const keys = {
    ArrowRight: () => select(next(state.shown, 1)),
    ArrowLeft: () => select(next(state.shown, -1)),
    ArrowUp: () => select(next(state.front, 1)),
    ArrowDown: () => select(next(state.front, -1)),
    Home: () => select(state.front[0]),
    End: () => select(state.front.at(-1)),
    Enter: () => setPinned(state.pinned === state.selected ? null : state.selected),
    Escape: () => setPinned(null),
  };
  byId("front-keys").addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  filter();
})();
