// The story of one channel: the server sends the numbers of the selection once, the page draws step after step.
const find = (selector) => element.querySelector(selector);
const plain = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const FIELDS = ['model', 'layer', 'strength', 'channel', 'weight_bits', 'activation_bits', 'class_id', 'prompt', 'seed'];
const stage = find('.stage');
let step = 0, told = null, asked = '', waiting = 0;

const brief = (value) => Number(value.toPrecision(3));
const svg = (width, label, inner) => `<svg viewBox="0 0 ${width} 210" preserveAspectRatio="none" role="img" aria-label="${plain(label)}">${inner}</svg>`;

const draw = {
  line(one, width) {
    const span = one.high - one.low || 1, x = (v) => (10 + ((v - one.low) / span) * (width - 20)).toFixed(1);
    const count = Math.round(span / one.step) + 1, every = Math.max(1, Math.ceil(count / (width / 5)));
    let ticks = '';
    for (let q = 0; q < count; q += every) ticks += `<line class="tick" x1="${x(one.low + q * one.step)}" x2="${x(one.low + q * one.step)}" y1="164" y2="${q % (8 * every) ? 174 : 182}"/>`;
    const rows = one.rows.map((row, i) => `<text class="strong" x="10" y="${24 + 76 * i}">${plain(row.name)}</text>` + row.values.map((v, k) => `<circle class="dot ${i ? '' : 'own'}" cx="${x(v)}" cy="${44 + 76 * i + (k % 5) * 5}" r="3.5"/>`).join('')).join('');
    return svg(width, `Values of ${one.rows.map((row) => row.name).join(' and ')} on one grid`, `${rows}<line class="axis" x1="0" x2="${width}" y1="164" y2="164"/>${ticks}<text x="10" y="202">${brief(one.low)}</text><text x="${width - 10}" y="202" text-anchor="end">${brief(one.high)}</text><text x="${width / 2}" y="202" text-anchor="middle">${every > 1 ? `a mark for every ${every} levels` : 'a mark for every level'}</text>`);
  },
  bars(one, width) {
    const n = one.before.length, w = (width - 44) / n, top = Math.log2(one.of), y = (v) => 180 - (Math.log2(Math.max(v, 1)) / top) * 160;
    const side = (values, name) => values.map((v, j) => `<rect class="${j === one.at ? 'own' : name}" x="${(40 + j * w).toFixed(2)}" width="${Math.max(w * (j === one.at ? 2 : 0.9), 1).toFixed(2)}" y="${y(v).toFixed(1)}" height="${(180 - y(v)).toFixed(1)}"/>`).join('');
    const marks = [1, 4, 16, 64, 256].filter((v) => v <= one.of).map((v) => `<text x="34" y="${y(v) + 4}" text-anchor="end">${v}</text><line class="axis" x1="38" x2="${width}" y1="${y(v)}" y2="${y(v)}" stroke-opacity="0.35"/>`).join('');
    const both = one.after.length ? side(one.after, 'after') + side(one.before, 'before') : side(one.before, 'before');
    const said = one.after.length ? 'levels that each channel covers: grey before, green balanced, orange the channel' : 'levels that each channel covers, orange the channel';
    return svg(width, said, `${marks}${both}`) + `<p class="legend">${said}</p>`;
  },
  flow(one) {
    const list = (paths) => paths.map((path) => `<span>${plain(path)}</span>`).join('<br>');
    return `<div class="flow"><div class="box"><b>makes it, times ${plain(one.factor)}</b>${list(one.makers)}</div><span class="arrow" aria-hidden="true">→</span><div class="box mid"><b>channel ${one.channel}</b>of the layer's input, rounded here</div><span class="arrow" aria-hidden="true">→</span><div class="box"><b>reads it, divided by ${plain(one.factor)}</b>${list(one.readers)}</div></div>`;
  },
  time(one, width) {
    const n = one.salience.length, most = Math.max(...one.salience, one.average) * 1.08 || 1;
    const x = (i) => (44 + (i / Math.max(n - 1, 1)) * (width - 60)).toFixed(1), y = (v) => (176 - (v / most) * 160).toFixed(1);
    const path = one.salience.map((v, i) => `${i ? 'L' : 'M'}${x(i)},${y(v)}`).join('');
    return svg(width, 'Salience of the channel over the timesteps, and the one number that stands for all', `<line class="axis" x1="40" x2="${width}" y1="176" y2="176"/><text x="38" y="${+y(most / 1.08) + 4}" text-anchor="end">${brief(most / 1.08)}</text><path class="curve" d="${path}"/><line class="level" x1="44" x2="${width - 16}" y1="${y(one.average)}" y2="${y(one.average)}"/><text x="44" y="200">timestep ${one.timesteps[0]}: noise</text><text x="${width - 16}" y="200" text-anchor="end">${one.timesteps[n - 1]}: picture</text>`);
  },
  pictures(one) {
    return `<div class="pictures">${one.pictures.map((p) => `<figure><img src="${p.src}" alt="${plain(p.alt)}"><b>${plain(p.name)}</b><span>${plain(p.word)}</span></figure>`).join('')}</div>`;
  },
};

function show() {
  for (const button of element.querySelectorAll('[data-step]')) button.setAttribute('aria-pressed', String(Number(button.dataset.step) === step));
  find('.next').textContent = step === 5 ? 'From the beginning' : 'Next';
  find('.which').textContent = told?.title ?? '';
  const one = told?.steps?.[step];
  stage.innerHTML = one && stage.clientWidth ? draw[one.kind](one, stage.clientWidth) : '';
  find('.text').textContent = one?.text ?? told?.problem ?? '';
}

async function ask() {
  if (!element.offsetParent || store.selection.layer === undefined) return;
  const wanted = JSON.stringify(FIELDS.map((name) => store.selection[name]));
  if (wanted === asked) return;
  asked = wanted;
  let found;
  try { found = await server.story({ ...store.selection }); } catch (problem) { asked = ''; return; }
  if (asked !== wanted) return;
  told = found;
  show();
}

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  step = button.dataset.step === undefined ? (step + 1) % 6 : Number(button.dataset.step);
  show();
});
store.listen((news) => { if (news.some((name) => FIELDS.includes(name))) { window.clearTimeout(waiting); waiting = window.setTimeout(ask, 80); } });
new ResizeObserver(() => { ask(); show(); }).observe(element);
ask();
