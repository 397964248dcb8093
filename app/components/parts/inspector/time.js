// Time: channel x timestep as a heat map, rho and eta beneath on the same axis; one marker through all of it.
const TALL = { heat: 190, rho: 118, eta: 62, gap: 26, top: 36 };
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
let playing = 0;

function drawTime() {
  const box = part('[data-chart="time"]'), width = box.clientWidth, count = layer.timesteps.length;
  if (!width) return;
  const x = line(0, count, PAD.left, width - PAD.right);
  const ends = drawHeat(box.querySelector('canvas'), width);
  const rhoTop = TALL.top + TALL.heat + TALL.gap, etaTop = rhoTop + TALL.rho + TALL.gap, height = etaTop + TALL.eta + 40;
  const most = Math.max(...layer.eta, ...(other?.layer.eta ?? []));
  const after = layer.rho[variant()], used = variant() === 'csb+ssc';
  const y = line(-1, 1, rhoTop + TALL.rho, rhoTop), bar = line(0, most * 1.1, etaTop + TALL.eta, etaTop);
  const dots = (values, colour) => `<path d="${values.map((v, i) => `${i ? 'L' : 'M'}${x(i + 0.5).toFixed(1)} ${y(v).toFixed(1)}`).join('')}" fill="none" stroke="${colour}" stroke-width="2.2"/>` + values.map((v, i) => `<circle cx="${x(i + 0.5).toFixed(1)}" cy="${y(v).toFixed(1)}" r="2.6" fill="${colour}"/>`).join('');
  const bars = layer.eta.map((v, i) => `<rect x="${(x(i) + 1.5).toFixed(1)}" y="${bar(v).toFixed(1)}" width="${(x(1) - x(0) - 3).toFixed(1)}" height="${(etaTop + TALL.eta - bar(v)).toFixed(1)}" fill="${used ? COLOUR.balanced : COLOUR.none}" fill-opacity="${used ? 1 : 0.4}" stroke="${used ? COLOUR.balanced : COLOUR.none}"/>`).join('');
  const names = layer.timesteps.map((t, i) => (i % Math.ceil(count / (width < 500 ? 5 : 9)) ? '' : words(x(i + 0.5), height - 20, t, 'text-anchor="middle"'))).join('');
  const j = shown.order.indexOf(pinned()), row = TALL.top + ((j + 0.5) / shown.order.length) * TALL.heat;
  const mark = j < 0 ? '' : rule(PAD.left, row, width - PAD.right, row, 'pinline') + words(PAD.left - 6, row + 4, pinned(), 'class="pinned" text-anchor="end"');
  const here = `<rect class="here" x="${x(at()).toFixed(1)}" y="${TALL.top}" width="${(x(1) - x(0)).toFixed(1)}" height="${height - 40 - TALL.top}"/>`;
  const titles = words(PAD.left, 13, `activation salience${factorsOf(variant()) && look.stage !== 'before' ? `, after ${VARIANTS[variant()]}` : ''}${width < 600 ? '' : ': a row a channel'}`) + words(PAD.left, rhoTop - 6, `rho${after && variant() !== 'none' ? ': before (pink), balanced (green)' : ''}`) + words(PAD.left, etaTop - 6, `eta${width < 600 ? '' : ', what a timestep counts in SSC'}${used ? '' : ' (not in use)'}`) + words(width / 2, height - 3, 'timestep, in sampling order', 'text-anchor="middle"');
  part('.time > .key').innerHTML = other ? key([['rho', COLOUR.rho], ...(variant() === 'none' ? [] : [['rho balanced', COLOUR.balanced]]), ...quietKey(otherWay() === 'none' ? '' : ' (rho balanced dotted)')]) : '';
  box.querySelector('.over').innerHTML = sheet(width, height, axisY([-1, -0.5, 0, 0.5, 1], y, width) + axisY(nice(0, most, 2), bar, width) + bars + quietTime(x, y, bar, rhoTop, etaTop + TALL.eta) + dots(layer.rho.none, COLOUR.rho) + (variant() === 'none' ? '' : dots(after, COLOUR.balanced)) + names + titles + heatKey(ends) + channelsBeside() + mark + here);
  tellTime(box);
}

function drawHeat(canvas, width) {
  const { order } = shown, count = layer.timesteps.length, b = look.stage === 'before' ? null : factorsOf(variant());
  const by = Math.max(1, Math.ceil(order.length / (2 * TALL.heat))), tall = Math.ceil(order.length / by);
  const values = new Float32Array(tall * count).fill(-6); // rows of a pixel or less are joined: the largest counts
  order.forEach((j, r) => { const row = Math.floor(r / by) * count; for (let i = 0; i < count; i += 1) values[row + i] = Math.max(values[row + i], Math.log10(Math.max(layer.rows[i][j] * (b ? b[j] : 1), 1e-6))); });
  const [low, high] = spanOf(values), image = new ImageData(count, tall);
  const colours = Array.from({ length: 64 }, (_, i) => heat(i / 63));
  values.forEach((v, i) => { const c = colours[Math.round(((v - low) / (high - low || 1)) * 63)]; image.data.set([c[0], c[1], c[2], 255], 4 * i); });
  canvas.width = count;
  canvas.height = tall;
  canvas.getContext('2d').putImageData(image, 0, 0);
  Object.assign(canvas.style, { left: `${PAD.left}px`, top: `${TALL.top}px`, width: `${width - PAD.left - PAD.right}px`, height: `${TALL.heat}px` });
  return [10 ** low, 10 ** high];
}

// What the colours stand for: a bar from the lowest salience to the highest, by the logarithm.
function heatKey([low, high]) {
  const stops = CIVIDIS.map((c, i) => `<stop offset="${i / (CIVIDIS.length - 1)}" stop-color="rgb(${c})"/>`).join('');
  const from = PAD.left + 44, wide = 90, y = 19;
  const bar = `<defs><linearGradient id="heat-key">${stops}</linearGradient></defs><rect class="colours" x="${from}" y="${y}" width="${wide}" height="9" rx="2" fill="url(#heat-key)"/>`;
  return bar + words(from - 5, y + 8.5, brief(low), 'text-anchor="end"') + words(from + wide + 5, y + 8.5, `${brief(high)}, log`);
}

// Which channels the rows are, in their order; the pinned one is named by its own mark.
function channelsBeside() {
  const { order } = shown, count = Math.min(5, order.length), marked = order.indexOf(pinned());
  const rows = Array.from({ length: count }, (_, k) => Math.round((k * (order.length - 1)) / Math.max(count - 1, 1)));
  const at_ = (row) => TALL.top + ((row + 0.5) / order.length) * TALL.heat, far = (row) => marked < 0 || Math.abs(at_(row) - at_(marked)) > 12;
  const title = words(11, TALL.top + TALL.heat / 2, 'channel', `text-anchor="middle" transform="rotate(-90 11 ${TALL.top + TALL.heat / 2})"`);
  return title + rows.filter(far).map((row) => words(PAD.left - 6, at_(row) + 4, order[row], 'class="beside" text-anchor="end"')).join('');
}

function tellTime(box) {
  const i = at(), t = layer.timesteps[i], rho = layer.rho.none;
  const low = rho.indexOf(Math.min(...rho)), high = rho.indexOf(Math.max(...rho));
  const scrub = part('[data-scrub]');
  scrub.max = layer.timesteps.length - 1;
  scrub.value = i;
  scrub.setAttribute('aria-valuetext', `timestep ${t}`);
  part('.player output').textContent = `t = ${t}`;
  box.setAttribute('aria-valuemin', 0);
  box.setAttribute('aria-valuemax', 999);
  box.setAttribute('aria-valuenow', t);
  box.setAttribute('aria-valuetext', `timestep ${t}, rho ${rho[i].toFixed(2)}, eta ${layer.eta[i].toFixed(3)}`);
  const listens = { none: 'Nothing is balanced, so no timestep counts.', csb: `Without SSC, CSB looks at the middle timestep only (${layer.timesteps[layer.timesteps.length >> 1]}).`, 'csb+ssc': `SSC lets timestep ${layer.timesteps[low]} count ${(layer.eta[low] / layer.eta[high]).toFixed(1)}x as much as timestep ${layer.timesteps[high]}.` }[variant()];
  say('time', `At timestep **${t}** rho is **${rho[i].toFixed(2)}** and eta ${layer.eta[i].toFixed(3)}; rho runs from ${rho[low].toFixed(2)} (timestep ${layer.timesteps[low]}) to ${rho[high].toFixed(2)} (timestep ${layer.timesteps[high]}). Low means complementary. ${listens} ${layer.readings.heatmap}`);
  if (part('[data-table="time"]').open) timeTable();
}

function timeTable() {
  const errors = effect?.over_time ?? {}, names = Object.keys(layer.rho);
  fillTable('time', ['timestep', ...names.map((n) => `rho, ${VARIANTS[n]}`), 'eta', ...Object.keys(errors).map((n) => `error %, ${VARIANTS[n]}`)], layer.timesteps.map((t, i) => [t, ...names.map((n) => layer.rho[n][i]), layer.eta[i], ...Object.values(errors).map((e) => 100 * e[i])]));
}

const toStep = (i) => { if (layer) store.set({ timestep: layer.marks[Math.min(Math.max(i, 0), layer.timesteps.length - 1)] }); };

function placeInTime(event) {
  const box = part('[data-chart="time"]').getBoundingClientRect(), count = layer.timesteps.length;
  const i = Math.floor(((event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right)) * count);
  const r = Math.floor(((event.clientY - box.top - TALL.top) / TALL.heat) * shown.order.length);
  return { i: i >= 0 && i < count ? i : -1, j: r >= 0 && r < shown.order.length ? shown.order[r] : -1 };
}

function play(on) {
  window.clearInterval(playing);
  playing = 0;
  const button = part('[data-play]');
  button.textContent = on ? 'Pause' : 'Play';
  button.setAttribute('aria-pressed', String(on));
  if (!on) return;
  if (at() === layer.timesteps.length - 1) toStep(0);
  playing = window.setInterval(() => { if (at() === layer.timesteps.length - 1) play(false); else toStep(at() + 1); }, calm ? 800 : 220);
}

const time = part('[data-chart="time"]');
time.addEventListener('click', (event) => {
  if (!layer) return;
  const { i, j } = placeInTime(event);
  if (i >= 0) store.set({ timestep: layer.marks[i], ...(j >= 0 ? { channel: j } : {}) });
});
time.addEventListener('pointermove', (event) => {
  if (!layer) return;
  const { i, j } = placeInTime(event);
  tip(event, i < 0 ? '' : j >= 0 ? `Channel **${j}** at timestep **${layer.timesteps[i]}**: activation ${brief(layer.rows[i][j])}` : `Timestep **${layer.timesteps[i]}**: rho ${layer.rho.none[i].toFixed(2)}, eta ${layer.eta[i].toFixed(3)}`);
});
time.addEventListener('pointerleave', (event) => tip(event, ''));
time.addEventListener('keydown', (event) => {
  if (!layer) return;
  const by = { ArrowRight: 1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -1e6, End: 1e6 }[event.key];
  if (event.key === 'ArrowUp' || event.key === 'ArrowDown') walkChannels({ key: event.key === 'ArrowUp' ? 'ArrowLeft' : 'ArrowRight', preventDefault: () => event.preventDefault() });
  if (by === undefined) return;
  event.preventDefault();
  toStep(at() + by);
});
part('[data-scrub]').addEventListener('input', (event) => toStep(Number(event.target.value)));
part('[data-play]').addEventListener('click', () => layer && play(!playing));
