// Overview: every layer on a map and in a table that sorts; click or arrow keys choose.
const ROLES = ['qkv', 'proj', 'fc1', 'fc2'];
let sorted = { by: -1, down: true };
const measured = () => overview?.measures[look.measure];

function drawMap() {
  if (!overview) return;
  const numbers = measured() ?? [], known = numbers.filter(Number.isFinite), [low, high] = known.length ? spanOf(known) : [0, 1];
  const blocks = overview.layers.length / ROLES.length, chosen = store.selection.layer;
  const cell = (name, row, column) => {
    const value = numbers[overview.layers.indexOf(name)], is = Number.isFinite(value), colour = is ? heat((value - low) / (high - low || 1)) : null;
    const bright = colour && luminance(colour) > 0.179; // where black stands out as much as white does
    return `<button type="button" role="gridcell" data-layer="${name}" data-row="${row}" data-column="${column}" aria-selected="${name === chosen}" tabindex="${name === chosen ? 0 : -1}" aria-label="${name}, ${LOOKS.measure[look.measure]}: ${is ? brief(value) : 'not known'}" style="${is ? `background:rgb(${colour});color:${bright ? '#000' : '#fff'}` : ''}">${is ? short(value) : '-'}</button>`;
  };
  const map = part('.map'), focus = map.contains(document.activeElement);
  map.innerHTML = `<div class="row" aria-hidden="true"><span>block</span>${Array.from({ length: blocks }, (_, i) => `<span>${i}</span>`).join('')}</div>` + ROLES.map((role, r) => `<div class="row" role="row"><span role="rowheader">${role}</span>${Array.from({ length: blocks }, (_, i) => cell(`blocks.${i}.${role}`, r, i)).join('')}</div>`).join('');
  if (focus) map.querySelector('[aria-selected="true"]')?.focus();
  part('[data-low]').textContent = known.length ? brief(low) : '';
  part('[data-high]').textContent = known.length ? brief(high) : '';
  if (part('[data-table="layers"]').open) layerTable();
}

const luminance = (colour) => colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const short = (x) => (Math.abs(x) >= 9.95 ? x.toFixed(0) : Math.abs(x) >= 0.995 ? x.toFixed(1) : x.toFixed(2));

function layerTable() {
  if (!overview) return;
  const columns = Object.keys(LOOKS.measure), box = part('[data-table="layers"] .scroll');
  const rows = overview.layers.map((name, i) => [name, ...columns.map((c) => overview.measures[c]?.[i] ?? NaN)]);
  if (sorted.by >= 0) rows.sort((a, b) => (sorted.by === 0 ? 0 : (Number.isFinite(a[sorted.by]) ? a[sorted.by] : -Infinity) - (Number.isFinite(b[sorted.by]) ? b[sorted.by] : -Infinity)) * (sorted.down ? -1 : 1));
  const head = ['layer', ...Object.values(LOOKS.measure)].map((text, i) => `<th scope="col" aria-sort="${i !== sorted.by ? 'none' : sorted.down ? 'descending' : 'ascending'}"><button type="button" data-sort="${i}">${safe(text)}</button></th>`).join('');
  box.innerHTML = `<table><thead><tr>${head}</tr></thead><tbody>${rows.map((row) => `<tr class="${row[0] === store.selection.layer ? 'chosen' : ''}"><th scope="row"><button type="button" data-layer="${row[0]}">${row[0]}</button></th>${row.slice(1).map((v) => `<td>${brief(v)}</td>`).join('')}</tr>`).join('')}</tbody></table>`;
}

part('.overview').addEventListener('click', (event) => {
  const cell = event.target.closest('[data-layer]'), head = event.target.closest('[data-sort]');
  if (cell) store.set({ layer: cell.dataset.layer });
  if (!head) return;
  const by = Number(head.dataset.sort);
  sorted = { by, down: sorted.by === by ? !sorted.down : true };
  layerTable();
  part(`[data-table="layers"] [data-sort="${by}"]`)?.focus();
});
part('.map').addEventListener('keydown', (event) => {
  const cell = event.target.closest('[data-layer]'), move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!cell || !move) return;
  event.preventDefault();
  const next = part(`.map [data-row="${Number(cell.dataset.row) + move[0]}"][data-column="${Number(cell.dataset.column) + move[1]}"]`);
  if (next) store.set({ layer: next.dataset.layer });
});
