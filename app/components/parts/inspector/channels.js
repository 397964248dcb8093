// Channels: bars up for the activation, down for the weight; outlines after balancing. Hover reads, click and arrows pin.
const HALF = 150;
let shown = null; // what the channel charts stand for: order and where each channel is
const toChannel = (box, clientX) => {
  const { left, width } = box.getBoundingClientRect();
  const place = Math.floor(((clientX - left - PAD.left) / (width - PAD.left - PAD.right)) * shown.order.length);
  if (place < 0 || place >= shown.order.length) return -1;
  const by = crowd(shown.order.length, width), first = Math.floor(place / by) * by;
  return shown.order.slice(first, first + by).reduce((best, j) => (shown.activation[j] > shown.activation[best] ? j : best));
};

function drawChannels() {
  const box = part('[data-chart="channels"]'), width = box.clientWidth;
  if (!width) return;
  shown = channelsOnShow();
  const { order, after } = shown, stage = after ? look.stage : 'before';
  const x = line(0, order.length, PAD.left, width - PAD.right);
  const sides = [['activation', 20 + HALF, 20], ['weight', 22 + HALF, 22 + 2 * HALF]].map(([name, base, end]) => side(name, base, end, x, width, stage));
  const by = crowd(order.length, width), crowded = by > 1 ? `<span>each column is the largest of ${by} neighbouring channels</span>` : '';
  box.innerHTML = sheet(width, 2 * HALF + 46, sides.join('') + numbersBelow(order, x, 2 * HALF + 38) + pin(order, x, width)) + `<p class="key">${channelKey(stage)}${crowded}</p>`;
  tellPinned(box);
  const open = part('[data-table="channels"]').open;
  if (open) channelTable();
}

function side(name, base, end, x, width, stage) {
  const { order } = shown, pick = (values) => order.map((j) => values[j]);
  const unit = (values) => { const by = look.scale === 'median' ? median(values) || 1 : 1; return pick(values).map((v) => v / by); };
  const by = crowd(order.length, width), at = (i) => x(Math.min(i * by, order.length));
  const before = peaks(unit(shown[name]), by), after = stage === 'before' ? null : peaks(unit(shown.after[name]), by);
  const quiet = overlaid() ? peaks(unit(otherChannels(stage)[name]), by) : null;
  const drawn = [...(stage === 'after' ? [] : before), ...(after ?? []), ...(quiet ?? [])];
  const [low, high] = spanOf(drawn.map((v) => Math.max(v, 1e-6)));
  const log = look.scale === 'log', scale = log ? line(Math.log10(low / 1.3), Math.log10(high), base, end) : line(0, high * 1.06, base, end);
  const y = log ? (v) => scale(Math.log10(Math.max(v, low / 1.3))) : scale;
  const axis = axisY(log ? decades(low, high) : nice(0, high, 3), y, width);
  const fill = stage === 'after' ? '' : `<path d="${stairs(before, at, y, base)}" fill="${COLOUR[name]}" fill-opacity="${after ? 0.45 : 0.8}" stroke="${COLOUR[name]}" stroke-width="0.9"/>`;
  const outline = after ? `<path d="${stairs(after, at, y)}" fill="none" stroke="${COLOUR.balanced}" stroke-width="${by > 1 ? 1 : 1.6}"/>` : '';
  return axis + fill + outline + (quiet ? `<path class="quiet" d="${stairs(quiet, at, y)}"/>` : '') + rule(PAD.left, base, width - PAD.right, base, 'axis') + title(name, (base + end) / 2) + peak(name, stage, unit, x, y, end < base ? -4 : 12);
}

const title = (name, y) => words(11, y, `${name} s(${name === 'weight' ? 'W' : 'X'})${look.scale === 'median' ? ', x median' : ''}`, `text-anchor="middle" transform="rotate(-90 11 ${y})"`);

// The number of the most salient channel of a side, at its peak; the pinned one is named anyway.
function peak(name, stage, unit, x, y, away) {
  const values = stage === 'after' ? shown.after[name] : shown[name], j = topOf(values, 1)[0], i = shown.order.indexOf(j);
  return i < 0 || j === pinned() ? '' : words(x(i + 0.5), y(unit(values)[i]) + away, j, 'class="peak" text-anchor="middle"');
}

function numbersBelow(order, x, y) {
  const step = Math.max(1, Math.ceil((order.length * 40) / (x(order.length) - x(0))));
  return order.map((j, i) => (i % step ? '' : words(x(i + 0.5), y, j, 'text-anchor="middle"'))).join('');
}

function pin(order, x, width, height = 2 * HALF + 2, top = 20) {
  const i = order.indexOf(pinned());
  if (i < 0) return '';
  const wide = Math.max(x(i + 1) - x(i), 3), left = x(i + 0.5) - wide / 2;
  const anchor = left > width - 90 ? 'end' : 'start';
  return `<rect class="pin" x="${left.toFixed(1)}" y="${top}" width="${wide.toFixed(1)}" height="${height}"/>` + words(left, top - 6, `channel ${pinned()}`, `class="pinned" text-anchor="${anchor}"`);
}

function channelKey(stage) {
  const before = stage === 'after' ? [] : [['activation', COLOUR.activation], ['weight', COLOUR.weight]];
  const after = stage === 'before' ? [] : [[`after ${VARIANTS[variant()]}`, COLOUR.balanced, true]];
  return key([...before, ...after, ...(overlaid() ? quietKey() : [])]);
}

function inWords(j) {
  const after = shown.after ? `; after ${VARIANTS[variant()]} ${brief(shown.after.activation[j])} and ${brief(shown.after.weight[j])}` : '';
  return `Channel **${j}**: activation **${brief(shown.activation[j])}** (rank ${rankOf(shown.activation, j)}), weight **${brief(shown.weight[j])}** (rank ${rankOf(shown.weight, j)})${after}`;
}

function tellPinned(box) {
  const j = pinned() >= 0 ? pinned() : topOf(shown.activation, 1)[0];
  box.setAttribute('aria-valuemin', 0);
  box.setAttribute('aria-valuemax', layer.channels - 1);
  box.setAttribute('aria-valuenow', j);
  box.setAttribute('aria-valuetext', inWords(j).replaceAll('*', ''));
  const stands = (values) => `${(values[topOf(values, 1)[0]] / median(values)).toFixed(1)}x`;
  const tamed = shown.after ? ` Balanced, the largest is ${stands(shown.after.activation)} the median in the activation and ${stands(shown.after.weight)} in the weight.` : '';
  part('.onward').hidden = pinned() < 0;
  say('channels', `${pinned() >= 0 ? 'Pinned' : 'Most salient activation'}: ${inWords(j)}. ${look.span === 'all' ? 'Over all timesteps' : `At timestep ${layer.timesteps[at()]}`} the largest activation is **${stands(shown.activation)}** the median, the largest weight ${stands(shown.weight)}.${tamed}${layer.note ? ` ${layer.note}` : ''}`);
}

function channelTable() {
  const b = factorsOf(variant());
  fillTable('channels', ['channel', 's(X)', 's(W)', 'factor b', 's(X) after', 's(W) after'], shown.order.map((j) => [j, shown.activation[j], shown.weight[j], b ? b[j] : 1, shown.after ? shown.after.activation[j] : shown.activation[j], shown.after ? shown.after.weight[j] : shown.weight[j]]));
}

// From a pinned channel on to what it does to the picture, which stands further down.
function onward() {
  const card = document.getElementById('doing');
  card?.querySelector('.doing').scrollIntoView({ behavior: calm ? 'auto' : 'smooth' });
  card?.querySelector('[data-do="draw"]').focus({ preventScroll: true });
}
part('[data-onward]').addEventListener('click', onward);

const pinChannel = (j) => store.set({ channel: j === pinned() ? -1 : j });

function walkChannels(event) {
  if (!layer) return;
  const { order } = shown, here = order.indexOf(pinned());
  const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, PageUp: here + 10, PageDown: here - 10, Home: 0, End: order.length - 1 }[event.key];
  if (event.key === 'Enter' && pinned() >= 0) { event.preventDefault(); onward(); } // else the button is pressed as well
  if (event.key === 'Escape') store.set({ channel: -1 });
  if (to === undefined) return;
  event.preventDefault();
  store.set({ channel: order[Math.min(Math.max(to, 0), order.length - 1)] });
}

part('[data-chart="channels"]').addEventListener('keydown', walkChannels);
for (const name of ['channels', 'errors']) {
  const box = part(`[data-chart="${name}"]`);
  box.addEventListener('click', (event) => { const j = layer ? toChannel(box, event.clientX) : -1; if (j >= 0) pinChannel(j); });
  box.addEventListener('pointermove', (event) => { const j = layer ? toChannel(box, event.clientX) : -1; tip(event, j < 0 ? '' : name === 'errors' ? errorsInWords(j) : inWords(j)); });
  box.addEventListener('pointerleave', (event) => tip(event, ''));
}
