// The layer map: click or arrow keys choose a cell; the server hears 'select' with the layer's name.
const cells = () => [...element.querySelectorAll('[data-layer]')];
const at = (row, column) => element.querySelector(`[data-row="${row}"][data-column="${column}"]`);
const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function choose(cell) {
  for (const other of cells()) {
    other.setAttribute('aria-selected', String(other === cell));
    other.tabIndex = other === cell ? 0 : -1;
  }
  cell.focus();
  trigger('select', { layer: cell.dataset.layer });
}

element.addEventListener('click', (event) => {
  const cell = event.target.closest('[data-layer]');
  if (cell) choose(cell);
});

element.addEventListener('keydown', (event) => {
  const cell = event.target.closest('[data-layer]');
  const move = moves[event.key];
  if (!cell || !move) return;
  event.preventDefault();
  const next = at(Number(cell.dataset.row) + move[0], Number(cell.dataset.column) + move[1]);
  if (next) choose(next);
});
