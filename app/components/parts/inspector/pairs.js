// Complementarity: a dot a channel, s(X) across and s(W) up, before and after; the pinned channel's way is drawn.
let dots = [];

function drawPairs() {
  const box = part('[data-chart="pairs"]'), width = box.clientWidth, height = 300;
  if (!width) return;
  const { activation, weight, after, order } = shown, floor = (v) => Math.max(v, 1e-6);
  const quiet = otherChannels();
  const [left, right] = spanOf(activation.map(floor), after ? after.activation.map(floor) : [], quiet ? quiet.activation.map(floor) : []);
  const [low, high] = spanOf(weight.map(floor), after ? after.weight.map(floor) : [], quiet ? quiet.weight.map(floor) : []);
  const fx = line(Math.log10(left / 1.15), Math.log10(right * 1.15), PAD.left, width - PAD.right), fy = line(Math.log10(low / 1.15), Math.log10(high * 1.15), height - 36, 10);
  const x = (v) => fx(Math.log10(floor(v))), y = (v) => fy(Math.log10(floor(v)));
  const cloud = (xs, ys, colour) => `<path d="${order.map((j) => `M${x(xs[j]).toFixed(1)} ${y(ys[j]).toFixed(1)}h0`).join('')}" stroke="${colour}" stroke-opacity="${SEEN}" stroke-width="${order.length > 500 ? 3.5 : 6}" stroke-linecap="round"/>`;
  const across = decades(left, right).map((v) => rule(x(v), 10, x(v), height - 36) + words(x(v), height - 20, brief(v), 'text-anchor="middle"')).join('');
  dots = order.map((j) => [j, x(activation[j]), y(weight[j])]);
  const j = pinned(), ring = (px, py) => `<circle class="ring" cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="7"/>`;
  const way = j < 0 ? '' : (after ? rule(x(activation[j]), y(weight[j]), x(after.activation[j]), y(after.weight[j]), 'way') + ring(x(after.activation[j]), y(after.weight[j])) : '') + ring(x(activation[j]), y(weight[j])) + words(Math.min(x(activation[j]) + 10, width - 80), y(weight[j]) - 8, `channel ${j}`, 'class="pinned"');
  box.innerHTML = sheet(width, height, axisY(decades(low, high), y, width) + across + (quiet ? `<path class="quiet dots" d="${[...quiet.weight.keys()].map((j) => `M${x(quiet.activation[j]).toFixed(1)} ${y(quiet.weight[j]).toFixed(1)}h0`).join('')}"/>` : '') + cloud(activation, weight, COLOUR.activation) + (after ? cloud(after.activation, after.weight, COLOUR.balanced) : '') + way + words(width / 2, height - 3, 'activation salience s(X)', 'text-anchor="middle"') + words(12, height / 2, 'weight salience s(W)', `text-anchor="middle" transform="rotate(-90 12 ${height / 2})"`)) + `<p class="key">${key([...(after ? [['before', COLOUR.activation], [`after ${VARIANTS[variant()]}`, COLOUR.balanced]] : [['channels', COLOUR.activation]]), ...quietKey()])}</p>`;
  const tops = topOf(weight, 10), both = topOf(activation, 10).filter((i) => tops.includes(i)).length;
  say('pairs', `Of the 10 most salient activation channels, **${both}** ${both === 1 ? 'is' : 'are'} also among the 10 most salient weight channels; unrelated ones would share ${(100 / layer.channels).toFixed(1)} on average.`);
}

const nearest = (event) => {
  const box = part('[data-chart="pairs"]').getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
  return dots.reduce((best, [j, x, y]) => { const d = Math.hypot(x - px, y - py); return d < best[1] ? [j, d] : best; }, [-1, 18])[0];
};
part('[data-chart="pairs"]').addEventListener('pointermove', (event) => { const j = nearest(event); tip(event, j < 0 ? '' : inWords(j)); });
part('[data-chart="pairs"]').addEventListener('pointerleave', (event) => tip(event, ''));
part('[data-chart="pairs"]').addEventListener('click', (event) => { const j = nearest(event); if (j >= 0) pinChannel(j); });
