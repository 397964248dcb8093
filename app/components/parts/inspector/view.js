// What is on show: the layer's data, the selection, and how the reader looks at it; fetched once, drawn from here.
const LOOKS = {
  measure: { activation: 'activation over all timesteps, max / median', weight: 'weight salience, max / median', rho: 'mean rho over timesteps', none: 'error without balancing, %', csb: 'error with CSB, %', 'csb+ssc': 'error with CSB + SSC, %', hurts: 'what hurts the picture, %' },
  stage: { both: 'before and after', before: 'before', after: 'after' },
  scale: { median: 'times the median', linear: 'linear', log: 'log' },
  sort: { number: 'by number', activation: 'by activation', weight: 'by weight', factor: 'by factor b' },
  top: { all: 'all', 16: '16', 32: '32', 64: '64' },
  span: { one: 'this timestep', all: 'all timesteps' },
};
const look = Object.fromEntries(Object.keys(LOOKS).map((name) => [name, Object.keys(LOOKS[name])[0]]));
look.top = 'all';
const usual = { ...look };
let layer = null; // the decoded data of the layer on show
let effect = null; // its errors and histograms at the chosen bits
let overview = null;

const answers = new Map(); // what the server said, by question
async function ask(name, ...question) {
  const id = JSON.stringify([name, ...question]);
  if (!answers.has(id)) {
    if (answers.size > 200) answers.delete(answers.keys().next().value);
    answers.set(id, server[name](...question).then((answer) => {
      if (answer?.problem) throw new Error(answer.problem);
      return answer;
    }));
    answers.get(id).catch(() => answers.delete(id));
  }
  return answers.get(id);
}

const variant = () => (layer?.balanced === false || !store.selection.csb ? 'none' : store.selection.ssc ? 'csb+ssc' : 'csb');
const at = () => layer.marks.reduce((best, t, i) => (Math.abs(t - store.selection.timestep) < Math.abs(layer.marks[best] - store.selection.timestep) ? i : best), 0);
const pinned = () => (layer && store.selection.channel < layer.channels ? store.selection.channel : -1);
const factorsOf = (name) => layer.factors[name] ?? null;

function decode(raw) {
  const channels = raw.channels, all = floats(raw.activation);
  const rows = raw.timesteps.map((_, i) => all.subarray(i * channels, (i + 1) * channels));
  const most = new Float32Array(channels);
  for (const row of rows) for (let j = 0; j < channels; j += 1) if (row[j] > most[j]) most[j] = row[j];
  const factors = Object.fromEntries(Object.entries(raw.factors).map(([name, text]) => [name, floats(text)]));
  return { ...raw, rows, most, weight: floats(raw.weight), factors };
}

// Both saliences before and after balancing as the selection has it, and the channels from left to right.
function channelsOnShow() {
  const activation = look.span === 'all' ? layer.most : layer.rows[at()], b = factorsOf(variant());
  const after = b && { activation: activation.map((x, j) => x * b[j]), weight: layer.weight.map((x, j) => x / b[j]) };
  const measure = { number: null, activation, weight: layer.weight, factor: b && b.map((x) => Math.abs(Math.log(x))) }[look.sort];
  let order = [...activation.keys()];
  if (look.top !== 'all') {
    const chosen = new Set(topOf(measure ?? activation, Number(look.top)));
    if (pinned() >= 0) chosen.add(pinned());
    order = order.filter((j) => chosen.has(j));
  }
  if (measure) order.sort((i, j) => measure[j] - measure[i]);
  return { activation, weight: layer.weight, after, order };
}
