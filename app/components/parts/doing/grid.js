// The pinned channel on the grid of its layer's input: with all channels in the range, without it, balanced.
const WAY = { rounded: 'Rounded with all others', spared: 'This channel in float', balanced: 'Balanced, CSB + SSC' };
const ROW = { width: 320, height: 96 };

function drawPlace(found) {
  part('.rows').innerHTML = Object.entries(found.ways).map(([name, way]) => row(name, way, found)).join('');
  const { rounded, spared, balanced } = found.ways;
  if (!rounded.levels) { say('place', 'Activations stay in float in the bar above, so there is no grid.'); return; }
  const finer = rounded.step / spared.step;
  const eased = finer > 1.02 ? `Without channel **${found.channel}** in the range the others' grid is **${brief(finer)}** times finer` : `Channel **${found.channel}** does not widen the range: without it the grid is as fine as before`;
  say('place', `All ${found.channels} channels share one grid of ${rounded.levels} levels. ${eased}: 99 % of their values stand on **${spared.used}** levels instead of **${rounded.used}**.${balanced ? ` Balanced they stand on ${balanced.used}.` : ''}${store.selection.tokens ? ' That is the one grid for all tokens; with the switch for every token, as it stands above, each token has its own, and the pictures are drawn so.' : ''}`);
}

// Bars on a root scale, the others' behind and the channel's in front; beneath them the levels, or each so many of them.
function row(name, way, found) {
  const { width, height } = ROW, base = height - 20, wide = (width - 12) / way.rest.length;
  const x = line(way.low, way.high, 6, width - 6), y = line(0, Math.sqrt(Math.max(...way.rest, ...way.own)), base, 6);
  const bars = (counts, colour) => counts.map((n, i) => (n ? `<rect x="${(6 + i * wide).toFixed(1)}" y="${y(Math.sqrt(n)).toFixed(1)}" width="${Math.max(wide - 0.4, 0.6).toFixed(1)}" height="${(base - y(Math.sqrt(n))).toFixed(1)}" fill="${colour}" fill-opacity="${SEEN}"/>` : '')).join('');
  const levels = way.levels ?? 0, every = Math.max(1, 2 ** Math.ceil(Math.log2(levels / 64 || 1)));
  let marks = '';
  for (let q = 0; q < levels; q += every) marks += rule(x(way.first + q * way.step), base, x(way.first + q * way.step), base + 6, 'level');
  const own = name === 'spared' ? '' : bars(way.own, COLOUR.weight);
  const said = levels ? `step ${brief(way.step)}; the others on ${way.used} of ${levels} levels${every > 1 ? `, 1 in ${every} drawn` : ''}` : 'float, no grid';
  return `<figure><svg viewBox="0 0 ${width} ${height}" aria-hidden="true">${bars(way.rest, COLOUR.activation)}${own}${rule(6, base, width - 6, base, 'axis')}${marks}${words(6, height - 1, brief(way.low))}${words(width - 6, height - 1, brief(way.high), 'text-anchor="end"')}</svg><figcaption><b>${WAY[name]}</b>: ${said}</figcaption></figure>`;
}
