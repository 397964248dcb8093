// PSNR over how many channels stay in float; the line of CSB + SSC; the picture at the point that the slider is on.
const TALL = 230;
let curve = null, here = 0;

function drawCurve() {
  part('.many').hidden = !curve || !curve.points.length;
  const box = part('.many .chart'), width = box.clientWidth;
  if (!curve?.points.length || !width) return;
  const { points } = curve, known = [...points.map((one) => one.db), curve.line].filter(Number.isFinite);
  const [low, high] = known.length ? spanOf(known) : [0, 1], pad = Math.max((high - low) * 0.12, 1);
  const x = line(0, Math.max(points.length - 1, 1), PAD.left + 14, width - PAD.right - 14), y = line(low - pad, high + pad, TALL - 40, 16);
  const at = points.map((one, i) => [x(i), y(one.db ?? high + pad)]);
  const path = `<path d="${at.map(([a, b], i) => `${i ? 'L' : 'M'}${a.toFixed(1)} ${b.toFixed(1)}`).join('')}" fill="none" stroke="${COLOUR.activation}" stroke-width="2.2"/>` + at.map(([a, b]) => `<circle cx="${a.toFixed(1)}" cy="${b.toFixed(1)}" r="3.4" fill="${COLOUR.activation}"/>`).join('');
  const goal = Number.isFinite(curve.line) ? rule(PAD.left, y(curve.line), width - PAD.right, y(curve.line), 'goal') + words(width - PAD.right, y(curve.line) - 6, `CSB + SSC, none in float: ${curve.line.toFixed(1)} dB`, 'class="goal-text" text-anchor="end"') : '';
  const names = points.map((one, i) => words(x(i), TALL - 22, one.kept, 'text-anchor="middle"')).join('') + words(width / 2, TALL - 4, `channels in float${curve.every ? ', of every layer' : ''}`, 'text-anchor="middle"');
  here = Math.min(here, points.length - 1);
  const ring = `<circle class="ring" cx="${at[here][0].toFixed(1)}" cy="${at[here][1].toFixed(1)}" r="8"/>`;
  box.innerHTML = sheet(width, TALL, axisY(nice(low - pad, high + pad, 4), y, width) + goal + path + ring + names + words(PAD.left, 10, 'PSNR, dB'));
  showPoint();
  tellCurve(known.length);
}

function showPoint() {
  const one = curve.points[here], slider = part('[data-kept]'), count = one.kept === 1 ? 'channel' : 'channels';
  slider.max = curve.points.length - 1;
  slider.value = here;
  slider.setAttribute('aria-valuetext', `${one.kept} ${count} in float`);
  part('.many img').src = one.src;
  part('.many img').alt = `With ${one.kept} ${count} in float`;
  part('.many figcaption').innerHTML = `<strong>${one.kept} ${count} in float</strong><b>${safe(one.first)} dB</b>`;
}

function tellCurve(known) {
  const { points, line: goal } = curve, enough = points.find((one) => Number.isFinite(goal) && (one.db ?? Infinity) >= goal);
  const where = curve.every ? 'of every layer' : 'of this layer', of = curve.pictures > 1 ? `mean of ${curve.pictures} pictures from neighbouring seeds` : 'this one picture';
  const meets = !Number.isFinite(goal) ? '' : enough ? ` With **${enough.kept}** in float they reach what balancing gets with none at all.` : ' No number of them drawn here reaches what balancing gets.';
  const alike = known ? '' : ' Nothing is off.';
  say('curve', `The most salient channels ${where} stay in float, the range of the rest is chosen without them: ${of}, ${curve.steps} steps, simulated.${meets}${alike}`);
}

part('[data-kept]').addEventListener('input', (event) => { here = Number(event.target.value); if (curve) drawCurve(); });
