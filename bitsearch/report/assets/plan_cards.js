// The selected and the pinned plan: layers, commands and costs.
const makePlanCards = ({ data, state, number, cost, amount, percent, named, describe }, setPinned) => {
  const { layers, metrics } = data;
  let packed = null; // details by trial, read when the first is looked at
  const unpack = async (trial) => {
    packed ??= readIsland("details");
    return JSON.parse(await unpacked(packed[trial]));
  };

  /* A table keeps its cells from plan to plan: to fill them is several times faster than to make them anew. */
  const marked = ["bar weights", "steps", "bar time", "bar share", "bar firing"];
  const shortLayers = Object.fromEntries(layers.map((name, layer) => [name, data.short_layers[layer]]));
  const layerRow = (name) => {
    const cells = marked.map((className) => makeElement("td", {}, makeElement("span", { className, "aria-hidden": "true" }), ""));
    return makeElement("tr", {}, makeElement("th", { scope: "row", title: name }, shortLayers[name]), ...cells);
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
    const membranes = (of) => (of?.membrane_bits ? `, m${of.membrane_bits}` : "");
    const other = membranes(against) === membranes(layer) ? "time_steps" : "membrane_bits";
    fill(cells[2], `${layer.time_steps}${membranes(layer)}`, layer.time_steps / time, other);
    fill(cells[3], percent(share, 1), share ?? 0);
    fill(cells[4], percent(firing, 0), firing ?? 0);
    if (cells[1].dataset.steps === String(spikes)) return;
    cells[1].dataset.steps = spikes;
    cells[1].firstChild.replaceChildren(...spikes.map((width) => makeElement("span", { "--part": width / steps })));
  };

  const commandRow = ([title, command]) => {
    const code = makeElement("code", {}, command);
    const button = makeElement("button", { type: "button" }, "Copy");
    button.setAttribute("aria-label", `Copy: ${title}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // not allowed here: it is selected, to be copied by hand
      }
    });
    return makeElement("div", {}, makeElement("dt", {}, title), makeElement("dd", {}, code, button));
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
    part("save").onclick = () => download(detail.plan, "plan.json", "application/json");
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
      const [whole, part] = [metrics[metric].baseline, trial === null ? null : cost(trial, metric)];
      const times = whole && part ? [makeElement("small", {}, `baseline costs ${number(whole / part)}x`)] : [];
      cell.replaceChildren(amount(part, metric), ...times);
    }
  };

  /* Details of the selected plan; null if another was asked for meanwhile. */
  const show = async () => {
    const asked = [state.selected, state.pinned];
    const [detail, pinned] = await Promise.all(asked.map((trial) => (trial === null ? null : unpack(trial))));
    if (state.selected !== asked[0] || state.pinned !== asked[1]) return null;
    fillCard(byId("selected-plan"), asked[0], detail, pinned && JSON.parse(pinned.plan));
    if (pinned) fillCard(byId("pinned-plan"), asked[1], pinned, null);
    byId("pinned-plan").hidden = pinned === null;
    document.body.classList.toggle("pair", pinned !== null);
    ["selected", "pinned"].forEach((column, place) => fillCosts(column, asked[place]));
    document.body.dataset.shown = asked.join();
    return detail;
  };
  return { show };
};
