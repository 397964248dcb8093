// Effect: for each way of balancing the error, and the values of input and weight on the grid that they are rounded to.
const HIST = { width: 320, height: 92 };

function drawEffect() {
  if (!effect) return;
  const names = Object.keys(effect.variants);
  part('.variants').innerHTML = names.map(variantCard).join('');
  say('effect', effect.reading);
  drawErrors();
  if (part('.single').open) drawSingle();
}

// Whether a way of balancing pays in this layer. A tenth of a per cent of the error, or a millionth of the output where
// nothing is rounded, is no difference.
const PAYS = { plain: '', gains: 'less error than without balancing', loses: 'more error than without balancing', same: 'no less error than without balancing' };
function signOf(name) {
  const { none } = effect.variants, { error } = effect.variants[name];
  if (name === 'none' || !none) return 'plain';
  return Math.abs(error - none.error) <= Math.max(0.001 * none.error, 1e-6) ? 'same' : error < none.error ? 'gains' : 'loses';
}

function variantCard(name) {
  const one = effect.variants[name], chosen = name === variant(), sign = signOf(name);
  const switches = { none: 'csb 0', csb: 'csb 1 ssc 0', 'csb+ssc': 'csb 1 ssc 1' }[name];
  return `<button type="button" class="variant ${sign}" data-variant="${name}" aria-pressed="${chosen}" aria-label="${VARIANTS[name]}: error ${brief(100 * one.error)} % of the output${sign === 'plain' ? '' : `, ${PAYS[sign]}`}. Choose it" title="${switches}">
    <span class="name"><i style="background:${COLOUR[name]}"></i>${VARIANTS[name]}</span><strong>${brief(100 * one.error)} %</strong><span class="unit">of the output, simulated</span>${sign === 'plain' ? '' : `<span class="unit sign"><i></i>${PAYS[sign]}</span>`}${name in (other?.effect?.variants ?? {}) ? `<span class="unit referred">reference: <b>${brief(100 * other.effect.variants[name].error)} %</b></span>` : ''}
    ${histogram(one.input, one.input.steps ? "input X, in its token's steps" : 'input X', COLOUR.activation)}${histogram(one.weight, 'weight W, per output channel', COLOUR.weight)}</button>`;
}

// Bars on a root scale, so that the tails show; a line for each level of the grid, or for each so many where they crowd.
function histogram(data, title, colour) {
  const { width, height } = HIST, base = height - 18, x = line(data.low, data.high, 6, width - 6), y = line(0, Math.sqrt(Math.max(...data.counts)), base, 16);
  const wide = (width - 12) / data.counts.length;
  const bars = data.counts.map((n, i) => (n ? `<rect x="${(6 + i * wide).toFixed(1)}" y="${y(Math.sqrt(n)).toFixed(1)}" width="${Math.max(wide - 0.4, 0.6).toFixed(1)}" height="${(base - y(Math.sqrt(n))).toFixed(1)}" fill="${colour}" fill-opacity="${SEEN}"/>` : '')).join('');
  const levels = data.levels ?? 0, every = Math.max(1, 2 ** Math.ceil(Math.log2(levels / 64 || 1)));
  let grid = '';
  for (let q = 0; q < levels; q += every) grid += rule(x(data.first + q * data.step), base, x(data.first + q * data.step), base + 6, 'level');
  const said = levels ? `${title}: ${levels} levels${every > 1 ? `, 1 in ${every} drawn` : ''}` : `${title}: float, no grid`;
  return `<svg viewBox="0 0 ${width} ${height}" aria-hidden="true">${words(6, 11, said)}${bars}${rule(6, base, width - 6, base, 'axis')}${grid}${words(6, height - 1, brief(data.low))}${words(width - 6, height - 1, brief(data.high), 'text-anchor="end"')}</svg>`;
}

function drawErrors() {
  const box = part('[data-chart="errors"]'), width = box.clientWidth, tall = 150;
  if (!width || !effect || !shown) return;
  const { order } = shown, x = line(0, order.length, PAD.left, width - PAD.right), names = Object.keys(effect.channels);
  const percent = Object.fromEntries(names.map((name) => [name, order.map((j) => 100 * effect.channels[name][j])]));
  const quiet = other?.effect && overlaid() ? order.map((j) => 100 * other.effect.channels[otherWay()][j]) : null;
  const high = spanOf(...names.map((name) => percent[name]), quiet ?? [])[1] || 1, y = line(0, high * 1.05, 20 + tall, 20);
  const by = crowd(order.length, width), at = (i) => x(Math.min(i * by, order.length));
  const areas = names.map((name) => `<path d="${name === 'none' ? stairs(peaks(percent[name], by), at, y, 20 + tall) : stairs(peaks(percent[name], by), at, y)}" fill="${name === 'none' ? COLOUR.none : 'none'}" fill-opacity="0.35" stroke="${COLOUR[name]}" stroke-width="${name === variant() ? 1.8 : 0.9}"/>`).join('');
  box.innerHTML = sheet(width, tall + 44, axisY(nice(0, high, 3), y, width) + areas + (quiet ? `<path class="quiet" d="${stairs(peaks(quiet, by), at, y)}"/>` : '') + numbersBelow(order, x, tall + 38) + pin(order, x, width, tall)) + `<p class="key">${key([...names.map((name) => [VARIANTS[name], COLOUR[name], name !== 'none']), ...(quiet ? quietKey() : [])])}</p>`;
  const chosen = effect.channels[variant()], worst = topOf(chosen, 1)[0];
  say('errors', `${errorsInWords(pinned() >= 0 ? pinned() : worst)}. With ${VARIANTS[variant()]} the largest is in channel **${worst}**. Channels' errors partly cancel in the sum, so they do not add up to the layer's.`);
}

const errorsInWords = (j) => (effect ? `Channel **${j}**: ${Object.keys(effect.channels).map((name) => `${brief(100 * effect.channels[name][j])} % with ${VARIANTS[name]}`).join(', ')}` : '');

async function drawSingle() {
  const box = part('[data-chart="single"]');
  if (!layer || !shown) return;
  const j = pinned() >= 0 ? pinned() : topOf(shown.activation, 1)[0], name = layer.layer;
  let raw;
  try { raw = await ask('channel', store.selection.model, name, j, store.selection.strength); } catch (problem) { box.textContent = problem.message; return; }
  if (!layer || layer.layer !== name) return;
  const b = factorsOf(variant()), by = b ? b[j] : 1, grid = effect?.variants[variant()]?.input;
  const values = floats(raw.activation).map((v) => v * by), weights = floats(raw.weight).map((v) => v / by);
  const inputs = binned(values);
  if (grid?.levels && !grid.steps) Object.assign(inputs, within(grid, inputs));
  box.innerHTML = `<figure>${histogram(inputs, `${values.length} values of X in channel ${j}`, COLOUR.activation).replace(grid?.steps ? ': float, no grid' : '\0', ': a grid for each token')}</figure><figure>${histogram(binned(weights), `${weights.length} values of W in channel ${j}`, COLOUR.weight).replace(': float, no grid', '')}</figure><p class="reading">${rich(`Channel **${j}**${b ? `, balanced by b = ${brief(by)}` : ', as calibrated'}: its values over all timesteps, and its row of the weight. Root scale.`)}</p>`;
}

function binned(values, bins = 48) {
  const [low, high] = spanOf(values), counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.min(bins - 1, Math.floor(((v - low) / (high - low || 1)) * bins))] += 1;
  return { low, high: high > low ? high : low + 1, counts };
}

function within(grid, { low, high }) {
  const first = Math.max(0, Math.ceil((low - grid.first) / grid.step)), last = Math.min(grid.levels - 1, Math.floor((high - grid.first) / grid.step));
  return last >= first ? { first: grid.first + first * grid.step, step: grid.step, levels: last - first + 1 } : {};
}

part('.variants').addEventListener('click', (event) => {
  const card = event.target.closest('[data-variant]');
  if (card) store.set({ csb: card.dataset.variant !== 'none', ssc: card.dataset.variant === 'csb+ssc' });
});
part('.single').addEventListener('toggle', () => part('.single').open && drawSingle());
