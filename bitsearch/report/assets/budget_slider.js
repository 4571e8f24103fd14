// The slider under the front's axis: its knob is under the value.
const makeBudgetSlider = ({ data, state, number, cost, scaled, amount, named, paretoFront }, front, select) => {
  const { trials, metrics } = data;
  const [slider, text] = ["budget", "budget-text"].map(byId);
  const KNOB = 16; // width in pixels
  const ends = () => {
    const costs = state.shown.map((trial) => cost(trial)).filter((value) => value !== null);
    const { limit, baseline } = metrics[state.metric];
    return [Math.min(...costs), Math.max(...costs, limit ?? 0, baseline ?? 0)];
  };
  const track = () => {
    const { xaxis } = front.axes();
    return [xaxis, ...ends().map((end) => Math.min(Math.max(xaxis.d2p(scaled(end)), 0), xaxis._length))];
  };
  const place = () => {
    if (!state.shown.length) return;
    const [xaxis, first, last] = track();
    slider.style.marginLeft = `${xaxis._offset + first - KNOB / 2}px`;
    slider.style.width = `${last - first + KNOB}px`;
    slider.value = (1000 * (xaxis.d2p(scaled(state.budget)) - first)) / (last - first || 1);
  };
  const budgetAt = (position) => {
    const [xaxis, first, last] = track();
    const [least, most] = ends();
    const value = metrics[state.metric].factor * xaxis.p2d(first + (last - first) * (position / 1000));
    return position >= 1000 ? most : Math.min(Math.max(value, least), most);
  };
  const say = (words) => {
    text.textContent = words;
    slider.setAttribute("aria-valuetext", words);
    front.placeMarks();
  };
  const follow = (choose) => {
    if (!state.shown.length) return say("No plan passes the filters: show all again, or ask for less.");
    const fits = (trial) => trials.fits[trial] && cost(trial) <= state.budget * (1 + 1e-9);
    const trial = paretoFront(state.shown.filter(fits)).at(-1);
    const { baseline, title } = metrics[state.metric];
    const ratio = baseline ? `, ${number(baseline / state.budget)}x below the baseline` : "";
    const best = trial === undefined ? "no plan fits" : `best: ${named(trial)}, ${trials.validation_text[trial]}`;
    say(`${title} of at most ${amount(state.budget)}${ratio} · ${best}`);
    return choose && trial !== undefined && trial !== state.selected ? select(trial) : null;
  };
  const reset = () => {
    slider.disabled = !state.shown.length;
    state.budget = state.shown.length ? Math.min(metrics[state.metric].limit ?? ends()[1], ends()[1]) : null;
    place();
    follow(false);
  };
  slider.addEventListener("input", () => {
    state.budget = budgetAt(slider.valueAsNumber);
    follow(true);
  });
  front.afterDrawing(place);
  return { reset };
};
