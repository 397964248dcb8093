// The outlier, to drag: the whole number line with the levels of the grid that it stretches. Arrow keys move it, too.
const LOW = 1, HIGH = 30, STEP = 0.5, LEVELS = 16;
const home = element.querySelector('.line');
let size = props.value.size, waiting = 0;
const place = (value, width) => 16 + ((value + 2) / (HIGH + 3.5)) * (width - 32);

function draw() {
  const width = home.clientWidth;
  if (!width) return;
  const x = (value) => place(value, width).toFixed(1), low = Math.min(...props.value.ordinary), step = (size - low) / (LEVELS - 1);
  const dots = props.value.ordinary.map((v) => `<circle class="dot" cx="${x(v)}" cy="34" r="3.5"/>`).join('');
  const levels = Array.from({ length: LEVELS }, (_, q) => `<line class="level" x1="${x(low + q * step)}" x2="${x(low + q * step)}" y1="58" y2="76"/>`).join('');
  const held = home.contains(document.activeElement);
  home.innerHTML = `<svg width="${width}" height="104"><line class="axis" x1="0" x2="${width}" y1="67" y2="67"/>${levels}${dots}<text x="2" y="98">25 ordinary values; 16 levels, ${Number(step.toPrecision(3))} apart; drag the outlier</text><g class="handle" role="slider" tabindex="0" aria-label="Outlier" aria-valuemin="${LOW}" aria-valuemax="${HIGH}" aria-valuenow="${size}"><circle cx="${x(size)}" cy="34" r="10"/><text x="${x(size)}" y="16" text-anchor="middle">${size}</text></g></svg>`;
  if (held) home.querySelector('.handle').focus();
}

function move(to) {
  const next = Math.min(Math.max(Math.round(to / STEP) * STEP, LOW), HIGH);
  if (next === size) return;
  size = next;
  draw();
  window.clearTimeout(waiting);
  waiting = window.setTimeout(() => { props.value = { ...props.value, size }; trigger('select'); }, 60);
}

let dragging = false;
const at = (event) => { const box = home.getBoundingClientRect(); return ((event.clientX - box.left - 16) / (box.width - 32)) * (HIGH + 3.5) - 2; };
home.addEventListener('pointerdown', (event) => { if (event.target.closest('.handle')) { dragging = true; home.setPointerCapture(event.pointerId); event.preventDefault(); } });
home.addEventListener('pointermove', (event) => { if (dragging) move(at(event)); });
for (const end of ['pointerup', 'pointercancel']) home.addEventListener(end, () => { dragging = false; });
home.addEventListener('keydown', (event) => {
  const by = { ArrowRight: STEP, ArrowUp: STEP, ArrowLeft: -STEP, ArrowDown: -STEP, PageUp: 5, PageDown: -5, Home: -HIGH, End: HIGH }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  move(size + by);
});
watch('value', () => { size = props.value.size; draw(); });
new ResizeObserver(draw).observe(home);
draw();
