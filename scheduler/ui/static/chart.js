// The two time lines of the overview, drawn by uPlot from what the replica remembers of its last five minutes.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const places = [...document.querySelectorAll("[data-chart]")];
  const kinds = {
    rates: [["placed", "placements/s", "--bar"], ["refused", "refusals/s", "--bad"]],
    latency: [["p50_ms", "half within", "--bar"], ["p99_ms", "99 % within", "--warn"]],
  };
  const size = (place) => ({ width: Math.max(place.clientWidth, 200), height: 150 });
  let charts = [];

  function draw(place) {
    const lines = kinds[place.dataset.chart];
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const chart = new uPlot({
      ...size(place),
      cursor: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: true, live: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      axes: [{ ...axis, values: "{HH}:{mm}:{ss}", space: 90, size: 28 }, { ...axis, size: 48 }],
      series: [{}, ...lines.map(([, label, name]) => ({ label, stroke: colour(name), width: 2, points: { show: false } }))],
    }, [[], ...lines.map(() => [])], place);
    return { chart, place, columns: lines.map(([column]) => column) };
  }

  async function fill() {
    const answer = await fetch("/ui/course.json", { cache: "no-store", signal: AbortSignal.timeout(5000) }).catch(() => null);
    if (!answer || !answer.ok) return;
    const course = await answer.json();
    if (course.at.length < 2) return;
    for (const place of places) place.parentElement.hidden = false;
    if (!charts.length) charts = places.map(draw);
    for (const { chart, columns } of charts) chart.setData([course.at, ...columns.map((column) => course[column])]);
  }

  function again() {
    for (const { chart } of charts) chart.destroy();
    charts = [];
    fill();
  }

  let filled = 0;
  document.addEventListener("fleet:turn", () => {
    if (Date.now() - filled < 1900) return;
    filled = Date.now();
    fill();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("resize", () => charts.forEach(({ chart, place }) => chart.setSize(size(place))));
  fill();
})();
