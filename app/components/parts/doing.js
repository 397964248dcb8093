// One channel's doing: follows the pinned channel, shows its place on the grid, and asks for the pictures of it: first
// when somebody presses the button or a link says so, from then on by itself whenever the channel has rested for a while.
const REST = 700; // milliseconds without a change after which pictures are drawn anew
const DRAWS = ['model', 'layer', 'channel', 'weight_bits', 'activation_bits', 'tokens', 'strength', 'class_id', 'prompt', 'seed', 'guidance'];
const query = new URLSearchParams(window.location.search);
let live = query.get('doing') === '1', ticket = 0, waiting = 0, placing = 0, inSight = false, asking = '', placed = 0;
const gain = part('[data-gain]'), curve = part('[data-curve]');
const ready = () => store.selection.channel >= 0 && element.offsetParent;
const wanted = () => JSON.stringify([...DRAWS.map((name) => store.selection[name]), gain.value, curve.value]);

async function askServer(name, ...question) {
  const answer = await server[name](...question);
  if (answer?.problem) throw new Error(answer.problem);
  return answer;
}

// The place on the grid is asked for where somebody sees it, and not for every channel that is walked over.
function follow() {
  const { layer, channel } = store.selection, pinned = channel >= 0;
  placed += 1;
  part('.invite').hidden = pinned;
  part('.body').hidden = !pinned;
  part('.who').textContent = pinned ? `Channel ${channel} of ${layer}` : '';
  window.clearTimeout(placing);
  if (ready() && inSight) placing = window.setTimeout(askPlace, 60);
}

async function askPlace() {
  const mine = placed, { model, layer, channel, activation_bits: a, strength } = store.selection;
  try {
    const found = await askServer('place', model, layer, channel, a, strength);
    if (mine === placed) drawPlace(found);
  } catch (problem) {
    if (mine !== placed) return;
    part('.rows').innerHTML = '';
    say('place', problem.message);
  }
}

function write() {
  store.write((now) => {
    const put = (name, value, usual) => { if (value === usual) now.delete(name); else now.set(name, value); };
    put('doing', live ? '1' : '', '');
    put('gain', gain.value, '1');
    put('curve', curve.value, '');
  });
}

function draw() {
  window.clearTimeout(waiting);
  if (!ready() || asking === wanted()) return;
  live = true;
  asking = wanted();
  ticket += 1;
  part('[data-do="stop"]').disabled = false;
  store.doing = { ticket, asked: Object.fromEntries(DRAWS.map((name) => [name, store.selection[name]])) };
  props.value = { ...store.selection, gain: Number(gain.value), curve: curve.value, ticket };
  write();
  trigger('select');
}

// Pictures follow once nothing has moved for a while, and only where somebody looks.
function soon() {
  window.clearTimeout(waiting);
  if (live && ready()) waiting = window.setTimeout(() => { if (inSight) draw(); }, REST);
}

function stop() {
  window.clearTimeout(waiting);
  live = false;
  asking = '';
  part('[data-do="stop"]').disabled = true;
  write();
  trigger('clear');
}

async function pin() {
  const { model, layer, strength } = store.selection;
  try { store.set({ channel: (await askServer('salient', model, layer, strength)).channel }); } catch (problem) { part('.invite p').textContent = problem.message; }
}

function turn() {
  part('.gain output').textContent = gain.value;
  live = true;
  soon();
}

const ACTS = { pin, stop, draw: () => { asking = ''; draw(); }, ablate: () => { gain.value = '0'; turn(); } };
element.addEventListener('click', (event) => { const button = event.target.closest('[data-do]'); if (button) ACTS[button.dataset.do](); });
gain.addEventListener('input', turn);
curve.addEventListener('change', turn);
store.listen((news) => {
  if (news.some((name) => ['model', 'layer', 'channel', 'activation_bits', 'tokens', 'strength'].includes(name))) follow();
  if (news.some((name) => DRAWS.includes(name))) soon();
});
store.told = (found) => { // by the part that shows the drawings
  if (found.ticket !== ticket || found.going) return;
  part('[data-do="stop"]').disabled = true;
  if (found.problem) asking = '';
};
if (query.get('gain') !== null && Number(query.get('gain')) >= 0) gain.value = query.get('gain');
part('.gain output').textContent = gain.value;
if ([...curve.options].some((one) => one.value === query.get('curve'))) curve.value = query.get('curve');
// A link that asks for pictures leads to them, once the charts above have taken their place.
if (live && query.get('tab') === 'inspect') {
  const jump = window.setInterval(() => {
    if (document.querySelector('.inspector')?.getAttribute('aria-busy') !== 'false') return;
    window.clearInterval(jump);
    if (window.scrollY < 60) part('.doing').scrollIntoView();
  }, 250);
}
new ResizeObserver(() => { if (element.offsetParent) { follow(); soon(); } }).observe(element); // it has a width once its tab shows
new IntersectionObserver((seen) => { inSight = seen[seen.length - 1].isIntersecting; if (inSight) { follow(); soon(); } }).observe(element);
