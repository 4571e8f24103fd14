/* The front. Its trials are painted on a canvas under the figure, in the looks of its legend: plotly knows where each one
   is, but to style and move thousands of elements takes it a second. */
const makeFront = ({ data, state, cost, scaled, score }, figures) => {
  const { metrics } = data;
  const [plot, canvas] = ["front", "points"].map(byId);
  figures.draw(plot, { ...data.config, displayModeBar: "hover" });
  figures.fitFront(plot);
  const axes = () => plot._fullLayout;
  const within = (axis, pixel) => pixel >= -1 && pixel <= axis._length + 1;

  const looks = all(".legendpoints path", plot).map((path) => {
    const { fill, stroke, strokeWidth } = getComputedStyle(path);
    return { path: new Path2D(path.getAttribute("d")), fill, stroke, strokeWidth };
  });
  const paint = () => {
    const { xaxis, yaxis, width, height } = axes();
    const sharpness = Math.max(devicePixelRatio, 2); // paper is finer than most screens
    Object.assign(canvas, { width: width * sharpness, height: height * sharpness });
    canvas.style.cssText = `width: ${width}px; height: ${height}px`;
    const [brush, isBest, x0, y0] = [canvas.getContext("2d"), new Set(state.front), xaxis._offset, yaxis._offset];
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
    const groups = [...plot.data.keys()].filter((number) => plot.data[number].meta === "trials");
    for (const bright of [false, true]) for (const number of groups) paintAll(plot.data[number], looks[number - 1], bright);
  };

  const draw = () => {
    const { hover, spread, axes: axesByScale } = metrics[state.metric];
    const isShown = new Set(state.shown);
    const place = (trial) => (isShown.has(trial) ? scaled(cost(trial)) : null);
    const change = {
      x: plot.data.map((trace) => (trace.meta === "spread" ? spread.x : (trace.customdata ?? state.front).map(place))),
      y: plot.data.map(({ y }, number) => (number === 0 ? state.front.map(score) : y)),
      "error_x.array": plot.data.map((trace) => (trace.meta === "spread" ? spread["error_x.array"] : undefined)),
      hovertemplate: plot.data.map((_, number) => (number === 0 ? undefined : hover)),
    };
    Plotly.update(plot, change, { ...axesByScale[state.axis], "yaxis.range": data.accuracy_ranges[state.range] });
  };

  /* Marks over the front: they follow a click at once, where drawing thousands of points again would not. */
  const placeMarks = () => {
    const { xaxis, yaxis } = axes();
    const put = (mark, value, y) => {
      const x = value === null ? NaN : xaxis.d2p(scaled(value));
      mark.hidden = !(within(xaxis, x) && within(yaxis, y));
      if (!mark.hidden) mark.style.transform = `translate(${xaxis._offset + x}px, ${yaxis._offset + y}px)`;
    };
    for (const which of ["selected", "pinned"]) {
      const trial = state.shown.includes(state[which]) ? state[which] : null;
      put(byId(`mark-${which}`), trial === null ? null : cost(trial), yaxis.d2p(score(trial)));
    }
    byId("mark-budget").style.height = `${yaxis._length}px`;
    put(byId("mark-budget"), state.budget, 0);
  };

  /* A picture for a white page, in which plotly draws every point itself. */
  const savePicture = async (format) => {
    const whole = (trace) => ({
      ...trace,
      marker: { ...trace.marker, maxdisplayed: 0 },
      selectedpoints: [...trace.customdata.keys()].filter((at) => state.front.includes(trace.customdata[at])),
    });
    const size = { width: 900, height: 600 };
    const layout = { ...plot.layout, ...size, paper_bgcolor: "white", plot_bgcolor: "white" };
    const figure = { data: plot.data.map((trace) => (trace.meta === "trials" ? whole(trace) : trace)), layout };
    const url = await Plotly.toImage(figure, { format, ...size, scale: format === "png" ? 3 : 1 });
    makeElement("a", { href: url, download: `front.${format}` }).click();
  };
  for (const button of all("button[data-save]")) {
    button.addEventListener("click", () => savePicture(button.dataset.save));
  }

  const onClick = (select) => plot.on("plotly_click", ({ points }) => select(points[0].customdata));
  const afterDrawing = (follow) => plot.on("plotly_afterplot", follow);
  for (const follow of [paint, placeMarks]) afterDrawing(follow);
  return { axes, paint, draw, placeMarks, onClick, afterDrawing };
};
