// Draws the report from the data that the page carries, and answers what people do to it.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = read("data");
  const { trials, metrics, layers, bits, kinds, config } = data;
  const indices = trials.trial.map((_, index) => index);
  const state = { metric: data.metric, axis: "log", range: "all", kind: 0, selected: data.chosen, pinned: null };
  let packed = null; // details by trial, read when the first is looked at
  let shown = []; // trials that pass the filters
  let best = []; // the front among them, cheapest first

  /* Text and elements: names from files only ever become text. */
  const numbers = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const cost = (trial, metric = state.metric) => trials.costs[metric][trial];
  const scaled = (value, metric = state.metric) => (value === null ? null : value / metrics[metric].factor);
  const amount = (value, metric = state.metric) =>
    value === null || value === undefined
      ? "—"
      : `${numbers.format(scaled(value, metric))}\u00a0${metrics[metric].unit}`;
  const percent = (share, digits = 2) =>
    share === null || share === undefined ? "—" : `${(100 * share).toFixed(digits)}\u00a0%`;
  const named = (trial) => data.names[trial];
  const make = (tag, properties = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("--")) element.style.setProperty(name, value);
      else if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  /* Figures. */
  const still = { ...config, displayModeBar: false };
  const front = byId("front");
  const drawFigure = (plot, options = still) => {
    const figure = read(`${plot.id}-data`);
    // A finger scrolls the page; only a pointer that hovers can draw a rectangle to zoom into.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    return Plotly.newPlot(plot, figure.data, figure.layout, options);
  };
  drawFigure(front, { ...config, displayModeBar: "hover" });
  const fullHeight = front.layout.height;

  /* All other figures are drawn once they come into view, and anew when what they show has changed. */
  const waiting = new Map();
  const drawWaiting = (plot) => {
    const draw = waiting.get(plot);
    waiting.delete(plot);
    draw?.();
  };
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) drawWaiting(target);
  });
  const drawSoon = (plot, draw) => {
    waiting.set(plot, draw);
    watch.unobserve(plot); // so that one in view is told of again
    watch.observe(plot);
  };
  for (const plot of all(".plot[data-figure]")) if (plot !== front) drawSoon(plot, () => drawFigure(plot));

  const paretoFront = (candidates) => {
    const found = [];
    const known = candidates.filter((trial) => cost(trial) !== null);
    known.sort((a, b) => cost(a) - cost(b) || trials.validation[b] - trials.validation[a]);
    for (const trial of known) {
      if (!found.length || trials.validation[trial] > trials.validation[found.at(-1)]) found.push(trial);
    }
    return found;
  };

  const spread = front.data.findIndex((trace) => trace.meta === "spread");
  const series = front.data.map((_, number) => number).filter((number) => number !== spread);
  const drawFront = () => {
    const { view } = metrics[state.metric];
    const [isShown, isBest] = [new Set(shown), new Set(best)];
    const members = series.map((number) => (number === 0 ? best : front.data[number].customdata));
    const log = state.axis === "log" && view.range[0] > 0;
    const layout = {
      shapes: view.shapes,
      "xaxis.title.text": view.title,
      "xaxis.type": log ? "log" : "linear",
      "xaxis.range": log ? view.range.map(Math.log10) : [0, view.range[1]],
      "yaxis.range": data.accuracy_ranges[state.range],
    };
    const change = {
      x: members.map((group) => group.map((trial) => (isShown.has(trial) ? scaled(cost(trial)) : null))),
      y: members.map((group) => group.map((trial) => 100 * trials.validation[trial])),
      selectedpoints: members.map((group, number) =>
        number === 0 || group.length < 2 ? null : group.flatMap((trial, at) => (isBest.has(trial) ? [at] : [])),
      ),
      hovertemplate: members.map((_, number) => (number === 0 ? null : view.hover)),
    };
    if (spread > 0) Plotly.restyle(front, view.spread, [spread]);
    return Plotly.update(front, change, layout, series);
  };

  /* Marks over the front: they follow a click at once, where drawing thousands of points again would not. */
  const placeMarks = () => {
    const { xaxis, yaxis } = front._fullLayout;
    const within = (axis, pixel) => pixel >= -1 && pixel <= axis._length + 1;
    const put = (mark, value, accuracy) => {
      const x = value === null || value === undefined ? NaN : xaxis.d2p(scaled(value));
      const y = accuracy === undefined ? 0 : yaxis.d2p(100 * accuracy);
      mark.hidden = !(within(xaxis, x) && within(yaxis, y));
      if (!mark.hidden) mark.style.transform = `translate(${xaxis._offset + x}px, ${yaxis._offset + y}px)`;
    };
    const point = (mark, trial) => {
      const known = trial !== null && shown.includes(trial);
      put(mark, known ? cost(trial) : null, trials.validation[trial]);
    };
    point(byId("mark-selected"), state.selected);
    point(byId("mark-pinned"), state.pinned);
    byId("mark-budget").style.height = `${yaxis._length}px`;
    put(byId("mark-budget"), budgetOf(slider.valueAsNumber));
  };

  /* The plans in detail. */
  const unpack = async (trial) => {
    packed ??= read("details");
    const bytes = Uint8Array.from(atob(packed[trial]), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  };
  const bar = (kind, share) => make("span", { className: `bar ${kind}`, "--part": share, "aria-hidden": "true" });
  const stepBars = (steps) =>
    make(
      "span",
      { className: "steps", "aria-hidden": "true" },
      ...steps.map((width) => make("span", { "--part": width / data.most[1] })),
    );

  const layerRow = (layer, name, index, detail, against) => {
    const share = detail.shares[metrics[state.metric].shares]?.[index] ?? null;
    const firing = detail.firing[index];
    const spikes = new Set(layer.spike_bits).size > 1 ? layer.spike_bits.join(", ") : layer.spike_bits[0];
    const cell = (mark, text, field) => {
      const differs = against !== undefined && String(against[field]) !== String(layer[field]);
      return make("td", { className: differs ? "differs" : "" }, mark, text);
    };
    return make(
      "tr",
      {},
      make("th", { scope: "row", title: name }, name),
      cell(bar("weights", layer.weight_bits / data.most[0]), layer.weight_bits, "weight_bits"),
      cell(stepBars(layer.spike_bits), spikes, "spike_bits"),
      cell(bar("time", layer.time_steps / data.most[2]), layer.time_steps, "time_steps"),
      cell(bar("share", share ?? 0), percent(share, 1)),
      cell(bar("firing", firing ?? 0), percent(firing, 0)),
    );
  };

  const commandRow = ([title, command]) => {
    const code = make("code", {}, command);
    const button = make("button", { type: "button" }, "Copy");
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // not allowed here: it is selected, to be copied by hand
      }
    });
    return make("div", {}, make("dt", {}, title), make("dd", {}, code, button));
  };

  const download = (text) => {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })) });
    link.download = "plan.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const describe = (trial) => {
    const { met, test, validation } = trials;
    const accuracies = `validation ${percent(validation[trial])}, test ${percent(test[trial])}, ${amount(cost(trial))}`;
    const notes = [
      trial === data.chosen && "chosen",
      best.includes(trial) && "on the front",
      !met[trial] && "over the budget",
    ];
    return [accuracies, ...notes.filter(Boolean)].join(" · ");
  };
  const fillCard = (card, trial, detail, other) => {
    const plan = JSON.parse(detail.plan);
    const isPin = card.id === "pinned-plan";
    const content = byId("plan-card").content.cloneNode(true);
    const part = (name) => content.querySelector(`[data-part=${name}]`);
    part("dot").classList.toggle("pinned", isPin);
    part("name").textContent = named(trial);
    part("notes").textContent = describe(trial);
    part("share").textContent = metrics[state.metric].share_title;
    part("save").addEventListener("click", () => download(detail.plan));
    part("pin").textContent = isPin ? "Unpin" : "Pin beside the next";
    part("pin").addEventListener("click", () => setPinned(isPin ? null : trial));
    const names = layers.filter((name) => name in plan.layers);
    const rows = names.map((name, index) => layerRow(plan.layers[name], name, index, detail, other?.layers[name]));
    part("layers").append(...rows);
    part("commands").append(...detail.commands.map(commandRow));
    card.replaceChildren(content);
  };
  const fillCosts = (column, trial) => {
    byId(`costs-${column}`).textContent = trial === null ? "" : named(trial);
    for (const cell of all(`#costs td[data-${column}]`)) {
      const metric = cell.dataset[column];
      const [whole, own] = [metrics[metric].baseline, trial === null ? null : cost(trial, metric)];
      const times = whole && own ? [make("small", {}, `baseline costs ${numbers.format(whole / own)}x`)] : [];
      cell.replaceChildren(amount(own, metric), ...times);
    }
  };

  let pinShown = "";
  const showPlans = async () => {
    const asked = [state.selected, state.pinned];
    const [detail, pinned] = await Promise.all(asked.map((trial) => (trial === null ? null : unpack(trial))));
    if (state.selected !== asked[0] || state.pinned !== asked[1]) return; // another was asked for meanwhile
    fillCard(byId("selected-plan"), asked[0], detail, pinned && JSON.parse(pinned.plan));
    if (pinned && pinShown !== `${asked[1]} ${state.metric}`) fillCard(byId("pinned-plan"), asked[1], pinned, null);
    pinShown = `${asked[1]} ${state.metric}`;
    byId("pinned-plan").hidden = pinned === null;
    document.body.classList.toggle("pair", pinned !== null);
    ["selected", "pinned"].forEach((column, place) => fillCosts(column, asked[place]));
    document.body.dataset.shown = asked.join();
    drawSoon(byId("curves"), () => drawCurves(asked[0], detail.curves));
  };

  const select = (trial) => {
    if (trial === undefined || trial === null) return;
    state.selected = trial;
    byId("status").textContent = `${named(trial)}: ${describe(trial)}`;
    placeMarks();
    showPlans();
  };
  const setPinned = (trial) => {
    state.pinned = trial;
    placeMarks();
    showPlans();
  };

  /* Layers over the front and over the epochs. */
  const heat = (columns) => ({
    z: layers.map((_, layer) => columns.map((column) => column[layer] ?? null)),
    y: layers.map((_, index) => index),
    customdata: layers.map((_, layer) => columns.map(() => `${data.layer_labels[layer]}: ${kinds[state.kind]}`)),
    zmax: Math.max(data.most[state.kind], 2),
  });
  const drawHeat = () => {
    const { data: traces, layout } = read("heat-data");
    const columns = best.map((trial) => bits[state.kind][trial]);
    const text = layers.map(() => best.map((trial) => data.hover_names[trial]));
    if (best.length * layers.length > 300) delete traces[0].texttemplate;
    layout.xaxis.tickvals = best.map((_, index) => index);
    layout.xaxis.ticktext = best.map((trial) => trials.trial[trial] ?? "—");
    layout.xaxis.showticklabels = best.length <= 30;
    Plotly.react(byId("heat"), [{ ...traces[0], ...heat(columns), x: layout.xaxis.tickvals, text }], layout, still);
    const least = layers.map((_, layer) => Math.min(...columns.map((column) => column[layer] ?? Infinity)));
    const top = Math.max(...least);
    const keepers = layers.filter((_, layer) => least[layer] === top);
    const more = keepers.length > 6 ? ` and ${keepers.length - 6} more` : "";
    byId("keepers").textContent = best.length
      ? `Every plan of the front gives at least ${numbers.format(top)} ${kinds[state.kind]} to ${keepers.slice(0, 6).join(", ")}${more}.`
      : "No trial passes the filters.";
  };

  const drawCurves = (trial, curves) => {
    const panel = byId("curves");
    byId("curves-of").textContent = `${named(trial)}: ${curves.words}`;
    if (!curves.x.length) return Plotly.purge(panel);
    const { data: traces, layout } = read("curves-data");
    const { x, text, lines } = curves;
    const fill = (trace) =>
      trace.meta ? { y: lines[trace.meta], text } : { ...heat(curves.bits[state.kind]), text: layers.map(() => text) };
    layout.shapes = curves.turns.map((at) => ({ ...data.divider, x0: at, x1: at }));
    if (!curves.logged) delete layout.yaxis5;
    const known = traces.filter((trace) => trace.meta || curves.logged);
    const filled = known.map((trace) => ({ ...trace, ...fill(trace), x }));
    return Plotly.react(panel, filled, layout, still);
  };

  /* Budget and filters. */
  const slider = byId("budget");
  const ends = () => {
    const costs = shown.map((trial) => cost(trial)).filter((value) => value !== null);
    const { limit, baseline } = metrics[state.metric];
    return [Math.min(...costs), Math.max(...costs, limit ?? 0, baseline ?? 0)];
  };
  // Budgets lie closer together where plans are cheap.
  const budgetOf = (position) => ends()[0] + (ends()[1] - ends()[0]) * (position / 1000) ** 3;
  const positionOf = (budget) => 1000 * Math.cbrt((budget - ends()[0]) / (ends()[1] - ends()[0] || 1));
  const fitting = (budget) =>
    shown
      .filter((trial) => trials.fits[trial] && cost(trial) !== null && cost(trial) <= budget * (1 + 1e-9))
      .sort((a, b) => trials.validation[b] - trials.validation[a] || cost(a) - cost(b))[0];
  const followBudget = (choose) => {
    const budget = budgetOf(slider.valueAsNumber);
    const trial = fitting(budget);
    const { baseline, title } = metrics[state.metric];
    const ratio = baseline ? `, ${numbers.format(baseline / budget)}x below the baseline` : "";
    const found = trial === undefined ? "no plan fits" : `best: ${named(trial)}, ${percent(trials.validation[trial])}`;
    byId("budget-text").textContent = `${title} of at most ${amount(budget)}${ratio} · ${found}`;
    slider.setAttribute("aria-valuetext", byId("budget-text").textContent);
    placeMarks();
    if (choose && trial !== undefined && trial !== state.selected) select(trial);
  };

  const steps = indices.map((trial) => Math.max(...bits[2][trial].filter((value) => value !== null)));
  const filter = async (event) => {
    const methods = new Set(all("input[name=method]:checked").map((box) => box.value));
    const most = Number(byId("filter-steps").value);
    const [layer, kind] = [Number(byId("filter-layer").value), Number(byId("filter-kind").value)];
    const [low, high] = [byId("filter-low").valueAsNumber, byId("filter-high").valueAsNumber];
    const passes = (trial) => {
      const value = layer < 0 ? null : bits[kind][trial][layer];
      const width = layer < 0 || (value !== null && !(value < low) && !(value > high));
      const method = methods.has(data.methods[trials.method[trial]]);
      return width && method && trials.validation[trial] !== null && steps[trial] <= most;
    };
    shown = indices.filter(passes);
    byId("filter-count").textContent = `${shown.length} of ${indices.length} plans`;
    await refresh(event !== undefined);
  };
  const refresh = async (redraw = true) => {
    const { limit } = metrics[state.metric];
    best = paretoFront(shown);
    if (redraw) {
      await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted, 0)));
      await drawFront();
    }
    slider.disabled = !shown.length;
    slider.value = limit === null ? 1000 : positionOf(limit);
    followBudget(false);
    drawSoon(byId("heat"), drawHeat);
    showPlans();
  };

  const press = (button) => {
    for (const other of all("button", button.parentElement))
      other.setAttribute("aria-pressed", String(other === button));
  };
  for (const key of ["metric", "axis", "range", "kind"]) {
    for (const button of all(`button[data-${key}]`)) {
      button.addEventListener("click", () => {
        press(button);
        state[key] = key === "kind" ? Number(button.dataset.kind) : button.dataset[key];
        if (key !== "kind") return refresh();
        drawSoon(byId("heat"), drawHeat);
        return showPlans();
      });
    }
  }
  slider.addEventListener("input", () => followBudget(true));
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", (event) => setTimeout(filter, 0, event));
  front.on("plotly_click", (event) => select(event.points[0].customdata));
  front.on("plotly_afterplot", placeMarks);

  /* Keys on the front: from plan to plan by cost, or along the front. */
  const next = (list, step) => {
    const order = [...list].filter((trial) => cost(trial) !== null).sort((a, b) => cost(a) - cost(b) || a - b);
    const at = order.indexOf(state.selected);
    if (at >= 0) return order[Math.min(Math.max(at + step, 0), order.length - 1)];
    const here = cost(state.selected);
    return step > 0 ? order.find((trial) => cost(trial) > here) : order.findLast((trial) => cost(trial) < here);
  };
  const keys = {
    ArrowRight: () => select(next(shown, 1)),
    ArrowLeft: () => select(next(shown, -1)),
    ArrowUp: () => select(next(best, 1)),
    ArrowDown: () => select(next(best, -1)),
    Home: () => select(best[0]),
    End: () => select(best.at(-1)),
    Enter: () => setPinned(state.pinned === state.selected ? null : state.selected),
    Escape: () => setPinned(null),
  };
  byId("front-keys").addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  // Paper is narrower than most windows, and print starts before a resize would be noticed.
  const resize = (size, height) => {
    for (const plot of all(".plot").filter((one) => one.layout)) {
      Plotly.relayout(plot, plot === front ? { ...size, height } : size);
    }
  };
  addEventListener("beforeprint", () => {
    [...waiting.keys()].forEach(drawWaiting);
    resize({ width: 660 }, 340);
  });
  addEventListener("afterprint", () => resize({ width: null, autosize: true }, fullHeight));
  filter();
})();
