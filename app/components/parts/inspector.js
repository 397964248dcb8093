// Inspect: follows the one selection; asks the server for a layer once and draws all else from what is already here.
let asked = 0;

function drawAll() {
  if (!layer || !element.offsetParent) return;
  drawChannels();
  drawTime();
  drawPairs();
  drawEffect();
}

async function follow() {
  const mine = ++asked, { layer: name, strength, weight_bits: w, activation_bits: a } = store.selection;
  if (!name || !element.offsetParent) return;
  try {
    const raw = await ask('layer', name, strength);
    if (mine !== asked) return;
    layer = decode(raw);
    effect = null;
    if (store.selection.channel >= layer.channels) store.set({ channel: -1 });
    drawMap();
    say('summary', layer.readings.summary);
    part('.status').hidden = true;
    drawAll();
    effect = await ask('effect', name, w, a, strength);
    if (mine !== asked) { effect = null; return; }
    drawEffect();
    part('.inspector').setAttribute('aria-busy', 'false');
    await survey(mine, w, a, strength);
  } catch (problem) {
    if (mine === asked) { part('.status').hidden = false; part('.status').textContent = problem.message; }
  }
}

// The map: salience at once, errors of all layers as soon as they are worked out.
async function survey(mine, w, a, strength) {
  const salience = await ask('overview', strength);
  overview = { layers: salience.layers, measures: { ...salience.measures } };
  drawMap();
  const errors = await ask('errors', w, a, strength);
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
  const query = new URLSearchParams(window.location.search);
  if (select.value === usual[select.dataset.look]) query.delete(select.dataset.look);
  else query.set(select.dataset.look, select.value);
  const search = query.toString();
  window.history.replaceState(null, '', window.location.pathname + (search ? '?' + search : '') + window.location.hash);
  if (select.dataset.look === 'measure') drawMap();
  else drawAll();
});

element.addEventListener('toggle', (event) => {
  const fill = { layers: layerTable, channels: channelTable, time: timeTable }[event.target.dataset?.table];
  if (fill && event.target.open && layer) fill();
}, true);

takeLooks();
store.listen((news) => {
  if (news.some((name) => ['layer', 'strength', 'weight_bits', 'activation_bits'].includes(name))) { drawMap(); follow(); }
  else if (news.some((name) => ['timestep', 'channel', 'csb', 'ssc'].includes(name))) drawAll();
});
// Drawn unseen nothing has a width: draw when the tab shows, and again when the page's width changes.
let wide = 0;
new ResizeObserver(() => {
  if (element.clientWidth === wide) return;
  const first = wide === 0;
  wide = element.clientWidth;
  if (wide && (first || !layer || layer.layer !== store.selection.layer)) follow();
  else if (wide) drawAll();
}).observe(element);
