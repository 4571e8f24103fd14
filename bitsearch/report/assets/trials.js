// The trials, what is looked at of them, and their numbers as text.
const readTrials = () => {
  const data = readIsland("data");
  const { trials, metrics } = data;
  const state = {
    metric: data.metric,
    axis: "log",
    range: "all",
    kind: 0,
    selected: data.chosen,
    pinned: null,
    shown: [], // trials that pass the filters
    front: [], // the front among them, cheapest first
    budget: null, // what the slider stands at; null where no trial passes the filters
  };
  const numbers = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const number = (value) => numbers.format(value);
  const cost = (trial, metric = state.metric) => trials.costs[metric][trial];
  const scaled = (value, metric = state.metric) => (value === null ? null : value / metrics[metric].factor);
  const amount = (value, metric = state.metric) =>
    value === null || value === undefined ? "—" : `${number(scaled(value, metric))}\u00a0${metrics[metric].unit}`;
  const percent = (share, digits) =>
    share === null || share === undefined ? "—" : `${(100 * share).toFixed(digits)}\u00a0%`;
  const named = (trial) => data.names[trial];
  const score = (trial) => data.score.factor * trials.validation[trial];
  const describe = (trial) => {
    const [validation, test] = [trials.validation_text, trials.test_text].map((texts) => texts[trial]);
    const notes = [`validation ${validation}, test ${test}, ${amount(cost(trial))}`];
    if (trial === data.chosen) notes.push("chosen");
    if (state.front.includes(trial)) notes.push("on the front");
    if (!trials.met[trial]) notes.push("over the budget");
    return notes.join(" · ");
  };
  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const means = data.bits.map((rows) => rows.map(mean)); // over the layers, by kind of bits and trial
  const paretoFront = (candidates) => {
    const front = [];
    const better = (a, b) => data.score.sign * (trials.validation[a] - trials.validation[b]);
    const known = candidates.filter((trial) => cost(trial) !== null);
    known.sort((a, b) => cost(a) - cost(b) || better(b, a));
    for (const trial of known) if (!front.length || better(trial, front.at(-1)) > 0) front.push(trial);
    return front;
  };
  return { data, state, means, number, cost, scaled, amount, percent, named, score, describe, paretoFront };
};
