// Overview: every layer on a map, a row for each role of the model and a column for each block, and in a table.
const READABLE = 27; // pixels of a column in which a number can be read
let sorted = { by: -1, down: true };
const measured = () => (overview ? measureOf(look.measure) : null);

function drawMap() {
  if (!overview) return;
  const numbers = measured() ?? [], known = numbers.filter(Number.isFinite), [low, high] = known.length ? spanOf(known) : [0, 1];
  const blocks = 1 + Math.max(...overview.places.map(([, column]) => column)), chosen = store.selection.layer;
  const map = part('.map'), focus = map.contains(document.activeElement);
  const wide = (map.clientWidth - 90) / blocks >= READABLE, step = wide ? 1 : blocks > 40 ? 10 : 5;
  const stands = new Map(overview.layers.map((name, i) => [overview.places[i].join(), name]));
  const longest = Math.max(...overview.rows.map((row) => row.length));
  const cell = (name, row, column) => {
    const value = numbers[overview.layers.indexOf(name)], is = Number.isFinite(value), colour = is ? heat((value - low) / (high - low || 1)) : null;
    const bright = colour && luminance(colour) > 0.179; // where black stands out as much as white does
    return `<button type="button" role="gridcell" data-layer="${name}" data-row="${row}" data-column="${column}" aria-selected="${name === chosen}"${referredTo(name) ? ' data-referred' : ''} tabindex="${name === chosen ? 0 : -1}" aria-label="${name}, ${LOOKS.measure[look.measure]}: ${is ? brief(value) : 'not known'}" style="${is ? `background:rgb(${colour});color:${bright ? '#000' : '#fff'}` : ''}">${wide ? (is ? short(value) : '-') : ''}</button>`;
  };
  const place = (r, i) => (stands.has(`${r},${i}`) ? cell(stands.get(`${r},${i}`), r, i) : '<span role="gridcell" class="none"></span>');
  const columns = [...Array(blocks).keys()];
  map.classList.toggle('dense', !wide);
  map.style.setProperty('--head', `${Math.min(Math.max(longest * 0.5, 2.6), 9)}rem`);
  map.innerHTML = `<div class="row" aria-hidden="true"><span>block</span>${columns.map((i) => `<span>${i % step ? '' : i}</span>`).join('')}</div>` + overview.rows.map((row, r) => `<div class="row" role="row"><span role="rowheader">${safe(row)}</span>${columns.map((i) => place(r, i)).join('')}</div>`).join('');
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
  const rows = overview.layers.map((name, i) => [name, ...columns.map((c) => measureOf(c)?.[i] ?? NaN)]);
  if (sorted.by >= 0) rows.sort((a, b) => (sorted.by === 0 ? 0 : (Number.isFinite(a[sorted.by]) ? a[sorted.by] : -Infinity) - (Number.isFinite(b[sorted.by]) ? b[sorted.by] : -Infinity)) * (sorted.down ? -1 : 1));
  const head = ['layer', ...Object.values(LOOKS.measure)].map((text, i) => `<th scope="col" aria-sort="${i !== sorted.by ? 'none' : sorted.down ? 'descending' : 'ascending'}"><button type="button" data-sort="${i}">${safe(text)}</button></th>`).join('');
  box.innerHTML = `<table><thead><tr>${head}</tr></thead><tbody>${rows.map((row) => `<tr class="${row[0] === store.selection.layer ? 'chosen' : ''}"><th scope="row"><button type="button" data-layer="${row[0]}">${row[0]}</button></th>${row.slice(1).map((v) => `<td>${brief(v)}</td>`).join('')}</tr>`).join('')}</tbody></table>`;
}

// The table follows the map: what colours the one sorts the other, the largest first.
function measureBy(name) {
  sorted = { by: 1 + Object.keys(LOOKS.measure).indexOf(name), down: true };
  tellHurts();
  drawMap();
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
  let [row, column] = [Number(cell.dataset.row) + move[0], Number(cell.dataset.column) + move[1]], next = null;
  for (; overview.rows[row] && column >= 0 && column < 1000 && !next; [row, column] = [row + move[0], column + move[1]]) next = part(`.map [data-row="${row}"][data-column="${column}"]`);
  if (next) store.set({ layer: next.dataset.layer });
});
