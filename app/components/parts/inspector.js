// Inspect: follows the one selection; asks the server for a layer once and draws all else from what is already here.
const LOADING = 'The charts appear by themselves as soon as the model is loaded.';
let asked = 0, shownOf = '';

function tellStatus(text) {
  part('.inspector').classList.toggle('empty', Boolean(text) && !layer);
  part('.status').hidden = !text;
  part('.status').textContent = text;
}

function drawAll() {
  if (!layer || !element.offsetParent) return;
  drawChannels();
  drawTime();
  drawPairs();
  drawEffect();
  tellReference();
}

// Nothing of another model, or of a layer that cannot be shown, stays.
function clear() {
  play(false);
  layer = effect = overview = shown = null;
  forgetHurts(['model']);
  for (const box of element.querySelectorAll('.map, .reading, .variants, [data-table] .scroll, [data-chart]:not([data-chart="time"]), .over')) box.innerHTML = '';
  part('canvas').width = 0;
}

async function follow() {
  const mine = ++asked, { model, layer: name, strength, weight_bits: w, activation_bits: a, tokens } = store.selection;
  if (!name || !element.offsetParent) return;
  followReference();
  if (model !== shownOf) { clear(); shownOf = model; tellStatus(LOADING); }
  try {
    const raw = await ask('layer', model, name, strength);
    if (mine !== asked) return;
    layer = decode(raw);
    effect = null;
    if (store.selection.channel >= layer.channels) store.set({ channel: -1 });
    drawMap();
    say('summary', layer.readings.summary);
    tellStatus('');
    drawAll();
    effect = await ask('effect', model, name, w, a, strength, tokens);
    if (mine !== asked) { effect = null; return; }
    drawEffect();
    part('.inspector').setAttribute('aria-busy', 'false');
    await survey(mine, model, w, a, strength, tokens);
  } catch (problem) {
    if (mine !== asked) return;
    if (!layer || layer.layer !== name) clear();
    tellStatus(problem.message);
  }
}

// The map: salience at once, errors of all layers as soon as they are worked out.
async function survey(mine, model, w, a, strength, tokens) {
  const salience = await ask('overview', model, strength);
  if (mine !== asked) return;
  overview = { ...salience, measures: { ...salience.measures } };
  drawMap();
  askHurts();
  const errors = await ask('errors', model, w, a, strength, tokens);
  if (mine !== asked) return;
  overview.measures = { ...salience.measures, ...errors.measures };
  drawMap();
}

function takeLooks() {
  const query = new URLSearchParams(window.location.search);
  for (const [name, options] of Object.entries(LOOKS)) {
    const select = part(`[data-look="${name}"]`);
    if (options[query.get(name)]) look[name] = query.get(name);
    select.innerHTML = Object.entries(options).map(([value, text]) => `<option value="${value}">${text}</option>`).join('');
    select.value = look[name];
  }
}

element.addEventListener('change', (event) => {
  const select = event.target.closest('[data-look]');
  if (!select) return;
  look[select.dataset.look] = select.value;
  store.write((query) => {
    if (select.value === usual[select.dataset.look]) query.delete(select.dataset.look);
    else query.set(select.dataset.look, select.value);
  });
  if (select.dataset.look === 'measure') measureBy(select.value);
  else drawAll();
});

element.addEventListener('toggle', (event) => {
  const fill = { layers: layerTable, channels: channelTable, time: timeTable }[event.target.dataset?.table];
  if (fill && event.target.open && layer) fill();
}, true);

takeLooks();
store.listen((news) => {
  if (news.some((name) => ['model', 'layer', 'strength', 'weight_bits', 'activation_bits', 'tokens'].includes(name))) { forgetHurts(news); drawMap(); follow(); }
  else if (news.some((name) => ['timestep', 'channel', 'csb', 'ssc'].includes(name))) drawAll();
  if (overview && news.some((name) => ['csb', 'ssc'].includes(name))) askHurts();
  if (news.includes('reference')) { tellReference(); followReference(); }
});
// Drawn unseen nothing has a width: draw when the tab shows, and again when the page's width changes.
let wide = 0;
new ResizeObserver(() => {
  if (element.clientWidth === wide) return;
  const first = wide === 0;
  wide = element.clientWidth;
  if (wide && (first || !layer || layer.layer !== store.selection.layer || shownOf !== store.selection.model)) follow();
  else if (wide) drawAll();
}).observe(element);
