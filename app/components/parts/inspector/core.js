// Numbers, scales and marks that all charts of Inspect share.
const VARIANTS = { none: 'no balancing', csb: 'CSB', 'csb+ssc': 'CSB + SSC' };
const COLOUR = { activation: '#2A86C2', weight: '#D55E00', balanced: '#009E73', rho: '#CC79A7', none: '#7C8798', csb: '#CC79A7', 'csb+ssc': '#7E6BE0' };
const SEEN = 0.9; // how opaque a mark is that no line in its full colour goes around: 3 to 1 on light pages and on dark
const CIVIDIS = ['00224e', '123570', '3b496c', '575d6d', '707173', '8a8678', 'a59c74', 'c3b369', 'e1cc55', 'fee838'].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const PAD = { left: 50, right: 10 };

const part = (selector) => element.querySelector(selector);
const safe = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const rich = (text) => safe(text).replace(/\*\*(.+?)\*\*/g, '<b>$1</b>');
const say = (name, text) => { part(`[data-reading="${name}"]`).innerHTML = rich(text); };
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const median = (values) => { const sorted = Float32Array.from(values).sort(); const i = sorted.length >> 1; return sorted.length % 2 ? sorted[i] : (sorted[i - 1] + sorted[i]) / 2; };
const brief = (x) => (!Number.isFinite(x) ? '-' : Math.abs(x) >= 1000 ? x.toFixed(0) : String(Number(x.toPrecision(3))));
const line = (low, high, from, to) => (x) => from + ((x - low) / (high - low || 1)) * (to - from);
const spanOf = (...lists) => { let low = Infinity, high = -Infinity; for (const list of lists) for (const x of list) { if (x < low) low = x; if (x > high) high = x; } return [low, high]; };
const topOf = (values, count) => [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, count);
const rankOf = (values, i) => 1 + values.reduce((n, x) => n + (x > values[i]), 0);

function heat(fraction) {
  const place = Math.min(Math.max(fraction, 0), 1) * (CIVIDIS.length - 1), i = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return CIVIDIS[i].map((a, k) => Math.round(a + (CIVIDIS[i + 1][k] - a) * (place - i)));
}

function nice(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-6; x += step) found.push(Number(x.toPrecision(8)));
  return found;
}

function decades(low, high) {
  const found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p += 1) for (const m of [1, 2, 5]) if (m * 10 ** p >= low && m * 10 ** p <= high) found.push(m * 10 ** p);
  return found.length > 9 ? found.filter((x) => Math.abs(Math.log10(x) % 1) < 1e-6) : found;
}

const words = (x, y, text, more = '') => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${safe(text)}</text>`;
const rule = (x1, y1, x2, y2, kind = 'grid') => `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" class="${kind}"/>`;
const axisY = (values, y, width) => values.map((v) => rule(PAD.left, y(v), width - PAD.right, y(v)) + words(PAD.left - 6, y(v) + 4, brief(v), 'text-anchor="end"')).join('');
const sheet = (width, height, inner) => `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" aria-hidden="true">${inner}</svg>`;
const key = (entries) => entries.map(([text, colour, open]) => `<span><i ${colour === null ? 'class="quiet"' : `style="${open ? `border:2px solid ${colour}` : `background:${colour}`}"`}></i>${safe(text)}</span>`).join('');

// A staircase through `values`, one step a channel; closed down to `floor` where it is to be filled.
function stairs(values, x, y, floor) {
  let path = '';
  for (let i = 0; i < values.length; i += 1) path += `${i || floor !== undefined ? 'L' : 'M'}${x(i).toFixed(1)} ${y(values[i]).toFixed(1)}H${x(i + 1).toFixed(1)}`;
  return floor === undefined ? path : `M${x(0).toFixed(1)} ${floor.toFixed(1)}${path}V${floor.toFixed(1)}Z`;
}

// So many neighbours stand in one column of the charts that each column is a pixel or two wide, and shows its largest:
// a narrow peak among 3,072 channels stays as tall as it is.
const crowd = (count, width) => Math.max(1, Math.ceil(count / Math.max((width - PAD.left - PAD.right) / 1.5, 1)));
const peaks = (values, by) => (by === 1 ? values : Array.from({ length: Math.ceil(values.length / by) }, (_, i) => { let most = values[i * by]; for (let k = i * by + 1; k < Math.min((i + 1) * by, values.length); k += 1) if (values[k] > most) most = values[k]; return most; }));

function tip(event, text) {
  const box = part('.tip');
  box.hidden = !text;
  if (!text) return;
  box.innerHTML = rich(text);
  const home = element.getBoundingClientRect();
  const x = Math.min(Math.max(event.clientX - home.left + 14, 0), home.width - box.offsetWidth - 4);
  box.style.transform = `translate(${x}px, ${event.clientY - home.top + 16}px)`;
}

function fillTable(name, columns, rows) {
  const box = part(`[data-table="${name}"] .scroll`);
  const head = columns.map((text) => `<th scope="col">${safe(text)}</th>`).join('');
  box.innerHTML = `<table><thead><tr>${head}</tr></thead><tbody>${rows.map((row) => `<tr>${row.map((cell, i) => (i ? `<td>${brief(cell)}</td>` : `<th scope="row">${safe(cell)}</th>`)).join('')}</tr>`).join('')}</tbody></table>`;
}
