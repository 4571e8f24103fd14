// Draws the report from the data that the page carries, and answers what people do to it.
(async () => {
  "use strict";
  await loadPlotly();
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = read("data");
  const { trials, metrics, layers, bits, kinds, config } = data;
  const indices = trials.trial.map((_, index) => index);
  const state = { metric: data.metric, axis: "log", range: "all", kind: 0, selected: data.chosen, pinned: null };
  let packed = null; // details by trial, read when the first is looked at
  let [shown, best] = [[], []]; // trials that pass the filters; the front among them, cheapest first
  let budget = null; // what the slider stands at; null where no trial passes the filters
  const KNOB = 16; // width of the slider's knob in pixels

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
  const [front, canvas, slider] = ["front", "points", "budget"].map(byId);
  const drawFigure = (plot, options = still) => {
    const figure = read(`${plot.id}-data`);
    // A finger scrolls the page; only a pointer that hovers can draw a rectangle to zoom into.
    if (matchMedia("(pointer: coarse)").matches) figure.layout.dragmode = false;
    for (const [number, trace] of figure.data.entries()) {
      if (trace.meta !== "trials") continue;
      Object.assign(trace, { uid: `painted${number}`, selectedpoints: null });
      trace.marker.maxdisplayed = 1; // the canvas shows the others
    }
    return Plotly.newPlot(plot, figure.data, figure.layout, options);
  };
  drawFigure(front, { ...config, displayModeBar: "hover" });
  const fullHeight = front.layout.height;

  /* All other figures are drawn once they come into view, or one by one while nobody asks for anything, so that paper and
     pictures of the whole page have them; and anew when what they show has changed. */
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
    clearTimeout(drawSoon.rest);
    drawSoon.rest = setTimeout(drawRest, 250);
  };
  const drawRest = () => {
    const [plot] = waiting.keys();
    if (!plot) return;
    drawWaiting(plot);
    drawSoon.rest = setTimeout(drawRest);
  };
  for (const plot of all(".plot[data-figure]")) if (plot !== front) drawSoon(plot, () => drawFigure(plot));

  const paretoFront = (candidates) => {
    const found = [];
    const known = candidates.filter((trial) => cost(trial) !== null);
    known.sort((a, b) => cost(a) - cost(b) || data.score.sign * (trials.validation[b] - trials.validation[a]));
    for (const trial of known) {
      if (!found.length || data.score.sign * (trials.validation[trial] - trials.validation[found.at(-1)]) > 0) found.push(trial);
    }
    return found;
  };

  const within = (axis, pixel) => pixel >= -1 && pixel <= axis._length + 1;
  const drawFront = () => {
    const { hover, spread, axes } = metrics[state.metric];
    const isShown = new Set(shown);
    const place = (trial) => (isShown.has(trial) ? scaled(cost(trial)) : null);
    const change = {
      x: front.data.map((trace) => (trace.meta === "spread" ? spread.x : (trace.customdata ?? best).map(place))),
      y: front.data.map(({ y }, number) => (number === 0 ? best.map((trial) => data.score.factor * trials.validation[trial]) : y)),
      "error_x.array": front.data.map((trace) => (trace.meta === "spread" ? spread["error_x.array"] : undefined)),
      hovertemplate: front.data.map((_, number) => (number === 0 ? undefined : hover)),
    };
    Plotly.update(front, change, { ...axes[state.axis], "yaxis.range": data.accuracy_ranges[state.range] });
  };

  /* The trials' points are painted on a canvas under the figure, in the looks of its legend: plotly knows where each
     one is, but to style and move thousands of elements takes it a second. */
  const looks = all(".legendpoints path", front).map((path) => {
    const { fill, stroke, strokeWidth } = getComputedStyle(path);
    return { path: new Path2D(path.getAttribute("d")), fill, stroke, strokeWidth };
  });
  const paint = () => {
    const { xaxis, yaxis, width, height } = front._fullLayout;
    const sharpness = Math.max(devicePixelRatio, 2); // paper is finer than most screens
    Object.assign(canvas, { width: width * sharpness, height: height * sharpness });
    canvas.style.cssText = `width: ${width}px; height: ${height}px`;
    const [brush, isBest, x0, y0] = [canvas.getContext("2d"), new Set(best), xaxis._offset, yaxis._offset];
    const paintAll = ({ x, y, customdata, visible }, { path, fill, stroke, strokeWidth }, bright) => {
      if (visible === "legendonly") return;
      const size = sharpness * (bright ? 1 : data.dominated);
      brush.lineWidth = parseFloat(strokeWidth);
      Object.assign(brush, { fillStyle: fill, strokeStyle: stroke });
      for (const [at, trial] of customdata.entries()) {
        const [left, top] = [xaxis.d2p(x[at]), yaxis.d2p(y[at])];
        if (isBest.has(trial) !== bright || !within(xaxis, left) || !within(yaxis, top)) continue;
        brush.setTransform(size, 0, 0, size, sharpness * (x0 + left), sharpness * (y0 + top));
        if (fill !== "none") brush.fill(path);
        if (stroke !== "none") brush.stroke(path);
      }
    };
    const seen = [...front.data.keys()].filter((number) => front.data[number].meta === "trials");
    for (const bright of [false, true]) for (const own of seen) paintAll(front.data[own], looks[own - 1], bright);
  };

  /* Marks over the front: they follow a click at once, where drawing thousands of points again would not. */
  const placeMarks = () => {
    const { xaxis, yaxis } = front._fullLayout;
    const put = (mark, value, y) => {
      const x = value === null ? NaN : xaxis.d2p(scaled(value));
      mark.hidden = !(within(xaxis, x) && within(yaxis, y));
      if (!mark.hidden) mark.style.transform = `translate(${xaxis._offset + x}px, ${yaxis._offset + y}px)`;
    };
    for (const which of ["selected", "pinned"]) {
      const trial = shown.includes(state[which]) ? state[which] : null;
      put(byId(`mark-${which}`), trial === null ? null : cost(trial), yaxis.d2p(data.score.factor * trials.validation[trial]));
    }
    byId("mark-budget").style.height = `${yaxis._length}px`;
    put(byId("mark-budget"), budget, 0);
  };

  /* The plans in detail. */
  const unpack = async (trial) => {
    packed ??= read("details");
    return JSON.parse(await unpacked(packed[trial]));
  };
  /* A table keeps its cells from plan to plan: to fill them is several times faster than to make them anew. */
  const marked = ["bar weights", "steps", "bar time", "bar share", "bar firing"];
  const shortLayers = Object.fromEntries(layers.map((name, layer) => [name, data.short_layers[layer]]));
  const layerRow = (name) => {
    const cells = marked.map((className) => make("td", {}, make("span", { className, "aria-hidden": "true" }), ""));
    return make("tr", {}, make("th", { scope: "row", title: name }, shortLayers[name]), ...cells);
  };
  const fillRow = (row, layer, index, detail, against) => {
    const cells = [...row.cells].slice(1);
    const fill = (cell, text, part, field) => {
      if (cell.lastChild.data !== text) cell.lastChild.data = text;
      cell.firstChild.style.setProperty("--part", part);
      cell.className = against && field && String(against[field]) !== String(layer[field]) ? "differs" : "";
    };
    const [share, firing] = [detail.shares[metrics[state.metric].shares]?.[index], detail.firing[index]];
    const [weights, steps, time] = data.most;
    const spikes = layer.spike_bits;
    fill(cells[0], String(layer.weight_bits), layer.weight_bits / weights, "weight_bits");
    fill(cells[1], new Set(spikes).size > 1 ? spikes.join(", ") : String(spikes[0]), 0, "spike_bits");
    fill(cells[2], String(layer.time_steps), layer.time_steps / time, "time_steps");
    fill(cells[3], percent(share, 1), share ?? 0);
    fill(cells[4], percent(firing, 0), firing ?? 0);
    if (cells[1].dataset.steps === String(spikes)) return;
    cells[1].dataset.steps = spikes;
    cells[1].firstChild.replaceChildren(...spikes.map((width) => make("span", { "--part": width / steps })));
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

  const download = (text, name = "plan.json", type = "application/json") => {
    const href = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  };
  /* A picture for a white page, in which plotly draws every point itself. */
  const saveFigure = async (format) => {
    const whole = (trace) => ({
      ...trace,
      marker: { ...trace.marker, maxdisplayed: 0 },
      selectedpoints: [...trace.customdata.keys()].filter((at) => best.includes(trace.customdata[at])),
    });
    const size = { width: 900, height: 600 };
    const layout = { ...front.layout, ...size, paper_bgcolor: "white", plot_bgcolor: "white" };
    const figure = { data: front.data.map((trace) => (trace.meta === "trials" ? whole(trace) : trace)), layout };
    const url = await Plotly.toImage(figure, { format, ...size, scale: format === "png" ? 3 : 1 });
    make("a", { href: url, download: `front.${format}` }).click();
  };
  for (const button of all("button[data-save]")) {
    button.addEventListener("click", () => saveFigure(button.dataset.save));
  }

  const describe = (trial) => {
    const [validation, test] = [trials.validation_text, trials.test_text].map((texts) => texts[trial]);
    const notes = [`validation ${validation}, test ${test}, ${amount(cost(trial))}`];
    if (trial === data.chosen) notes.push("chosen");
    if (best.includes(trial)) notes.push("on the front");
    if (!trials.met[trial]) notes.push("over the budget");
    return notes.join(" · ");
  };
  const fillCard = (card, trial, detail, other) => {
    const plan = JSON.parse(detail.plan);
    const isPin = card.id === "pinned-plan";
    const names = layers.filter((name) => name in plan.layers);
    if (card.dataset.layers !== String(names)) {
      card.dataset.layers = names;
      card.replaceChildren(byId("plan-card").content.cloneNode(true));
      card.classList.toggle("many", names.length > 16);
      card.querySelector("[data-part=layers]").append(...names.map(layerRow));
    }
    const part = (name) => card.querySelector(`[data-part=${name}]`);
    part("dot").classList.toggle("pinned", isPin);
    part("name").textContent = named(trial);
    part("notes").textContent = describe(trial);
    part("share").textContent = metrics[state.metric].share_title;
    part("save").onclick = () => download(detail.plan);
    part("pin").textContent = isPin ? "Unpin" : "Pin beside the next";
    part("pin").onclick = () => setPinned(isPin ? null : trial);
    const rows = part("layers").rows;
    const fill = (name, index) => fillRow(rows[index], plan.layers[name], index, detail, other?.layers[name]);
    names.slice(0, 25).forEach(fill); // as many as are in view; the others follow
    clearTimeout(card.later);
    card.later = setTimeout(() => names.forEach(fill), 50);
    part("commands").replaceChildren(...detail.commands.map(commandRow));
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

  const showPlans = async () => {
    const asked = [state.selected, state.pinned];
    const [detail, pinned] = await Promise.all(asked.map((trial) => (trial === null ? null : unpack(trial))));
    if (state.selected !== asked[0] || state.pinned !== asked[1]) return; // another was asked for meanwhile
    fillCard(byId("selected-plan"), asked[0], detail, pinned && JSON.parse(pinned.plan));
    if (pinned) fillCard(byId("pinned-plan"), asked[1], pinned, null);
    byId("pinned-plan").hidden = pinned === null;
    document.body.classList.toggle("pair", pinned !== null);
    ["selected", "pinned"].forEach((column, place) => fillCosts(column, asked[place]));
    const costed = Object.keys(detail.shares).length > 0;
    byId("shares").hidden = !costed;
    byId("shares-of").textContent = `${named(asked[0])}${costed ? "." : ": the run logged no costs of single layers."}`;
    const names = Object.keys(JSON.parse(detail.plan).layers);
    if (costed) drawSoon(byId("shares"), () => drawShares(names, detail.shares));
    byId("curves-of").textContent = `${named(asked[0])}: ${detail.curves.words}`;
    byId("curves").hidden = !detail.curves.x.length;
    document.body.dataset.shown = asked.join();
    drawSoon(byId("curves"), () => drawCurves(detail.curves));
  };

  const show = (change) => {
    Object.assign(state, change);
    placeMarks();
    showPlans();
  };
  const setPinned = (pinned) => show({ pinned });
  const select = (selected) => {
    if (selected === undefined) return;
    byId("status").textContent = `${named(selected)}: ${describe(selected)}`;
    show({ selected });
  };

  /* Layers over the front and over the epochs. */
  const heat = (columns) => ({
    z: layers.map((_, layer) => columns.map((column) => column[layer] ?? null)),
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
  };
  const nameKeepers = () => {
    if (!best.length) return (byId("keepers").textContent = "No trial passes the filters.");
    const columns = best.map((trial) => bits[state.kind][trial]);
    const least = layers.map((_, layer) => Math.min(...columns.map((column) => column[layer] ?? Infinity)));
    const top = Math.max(...least);
    const keepers = layers.filter((_, layer) => least[layer] === top);
    const more = keepers.length > 6 ? ` and ${keepers.length - 6} more` : "";
    return (byId("keepers").textContent =
      `Every plan of the front gives at least ${numbers.format(top)} ${kinds[state.kind]} to ${keepers.slice(0, 6).join(", ")}${more}.`);
  };

  const drawShares = (names, shares) => {
    const { data: traces, layout } = read("shares-data");
    const columns = Object.keys(metrics).filter((metric) => shares[metric]);
    const rows = layers.map((name) => names.indexOf(name));
    const z = rows.map((row) => columns.map((metric) => (row < 0 ? null : 100 * shares[metric][row])));
    const customdata = layers.map((_, layer) => columns.map(() => data.layer_labels[layer]));
    layout.xaxis.tickvals = columns.map((_, index) => index);
    layout.xaxis.ticktext = columns.map((metric) => metrics[metric].label);
    const filled = { ...traces[0], z, customdata, x: layout.xaxis.tickvals, text: z.map(() => layout.xaxis.ticktext) };
    Plotly.react(byId("shares"), [filled], layout, still);
  };

  const drawCurves = (curves) => {
    const panel = byId("curves");
    if (!curves.x.length) return Plotly.purge(panel);
    const { data: traces, layout } = read("curves-data");
    const { x, text, lines } = curves;
    const fill = (trace) =>
      trace.meta ? { y: lines[trace.meta], text } : { ...heat(curves.bits[state.kind]), text: layers.map(() => text) };
    layout.shapes = curves.turns.map((at) => ({ ...data.divider, x0: at, x1: at }));
    layout.xaxis.dtick = curves.tick;
    if (!curves.logged) delete layout.yaxis5;
    const drawn = traces.filter((trace) => trace.meta || curves.logged);
    Plotly.react(panel, drawn.map((trace) => ({ ...trace, ...fill(trace), x })), layout, still);
  };

  /* Budget and filters. */
  const ends = () => {
    const costs = shown.map((trial) => cost(trial)).filter((value) => value !== null);
    const { limit, baseline } = metrics[state.metric];
    return [Math.min(...costs), Math.max(...costs, limit ?? 0, baseline ?? 0)];
  };
  // The slider lies under the figure's axis, so that its knob is under the value.
  const track = () => {
    const { xaxis } = front._fullLayout;
    return [xaxis, ...ends().map((end) => Math.min(Math.max(xaxis.d2p(scaled(end)), 0), xaxis._length))];
  };
  const placeSlider = () => {
    if (!shown.length) return;
    const [xaxis, first, last] = track();
    slider.style.marginLeft = `${xaxis._offset + first - KNOB / 2}px`;
    slider.style.width = `${last - first + KNOB}px`;
    slider.value = (1000 * (xaxis.d2p(scaled(budget)) - first)) / (last - first || 1);
  };
  const budgetAt = (position) => {
    const [xaxis, first, last] = track();
    const [least, most] = ends();
    const value = metrics[state.metric].factor * xaxis.p2d(first + (last - first) * (position / 1000));
    return position >= 1000 ? most : Math.min(Math.max(value, least), most);
  };
  const fits = (limit) => (trial) => trials.fits[trial] && cost(trial) <= limit * (1 + 1e-9);
  const followBudget = (choose) => {
    if (!shown.length) {
      byId("budget-text").textContent = "No plan passes the filters: show all again, or ask for less.";
      slider.setAttribute("aria-valuetext", byId("budget-text").textContent);
      return placeMarks();
    }
    const trial = paretoFront(shown.filter(fits(budget))).at(-1);
    const { baseline, title } = metrics[state.metric];
    const ratio = baseline ? `, ${numbers.format(baseline / budget)}x below the baseline` : "";
    const found = trial === undefined ? "no plan fits" : `best: ${named(trial)}, ${trials.validation_text[trial]}`;
    byId("budget-text").textContent = `${title} of at most ${amount(budget)}${ratio} · ${found}`;
    slider.setAttribute("aria-valuetext", byId("budget-text").textContent);
    placeMarks();
    if (choose && trial !== undefined && trial !== state.selected) select(trial);
  };

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
    shown = indices.filter(passes);
    byId("filter-count").textContent = `${shown.length} of ${indices.length} plans`;
    refresh(event !== undefined);
  };
  const refresh = (redraw = true) => {
    const { limit } = metrics[state.metric];
    best = paretoFront(shown);
    (redraw ? drawFront : paint)();
    slider.disabled = !shown.length;
    budget = shown.length ? Math.min(limit ?? ends()[1], ends()[1]) : null;
    placeSlider();
    followBudget(false);
    byId("heat").hidden = !best.length;
    nameKeepers();
    if (best.length) drawSoon(byId("heat"), drawHeat);
    table.show(shown, state.metric);
    drawSoon(byId("parallel"), table.drawLines);
    showPlans();
  };

  for (const key of ["metric", "axis", "range", "kind"]) {
    for (const button of all(`button[data-${key}]`)) {
      button.addEventListener("click", () => {
        for (const other of all("button", button.parentElement)) other.ariaPressed = String(other === button);
        state[key] = key === "kind" ? Number(button.dataset.kind) : button.dataset[key];
        if (key !== "kind") return refresh();
        nameKeepers();
        if (best.length) drawSoon(byId("heat"), drawHeat);
        return showPlans();
      });
    }
  }
  slider.addEventListener("input", () => {
    budget = budgetAt(slider.valueAsNumber);
    followBudget(true);
  });
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("reset", (event) => setTimeout(filter, 0, event));
  front.on("plotly_click", (event) => select(event.points[0].customdata));
  for (const then of [paint, placeMarks, placeSlider]) front.on("plotly_afterplot", then);

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
  let printing = false;
  addEventListener("beforeprint", () => {
    printing = true;
    [...waiting.keys()].forEach(drawWaiting);
    resize({ width: 660 }, 340);
  });
  addEventListener("afterprint", () => {
    printing = false;
    resize({ width: null, autosize: true }, fullHeight);
  });
  // A pinned plan takes of the figure's width.
  new ResizeObserver(() => {
    if (!printing && Math.abs(front.clientWidth - front._fullLayout.width) > 1) Plotly.Plots.resize(front);
  }).observe(front);
  const table = allTrials({ byId, read, make, data, cost, amount, select, still });
  filter();
})();
